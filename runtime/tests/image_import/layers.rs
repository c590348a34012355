//! What layers do to each other: whiteouts, replacements, links of a lower layer.

use tar::EntryType;

use crate::pack::{Tar, dir, file, hardlink, item, oci, symlink};
use crate::place::{Place, list, times};

/// Imports an OCI image of these layers; the list has names and contents only.
fn merged(layers: &[Vec<u8>]) -> Vec<String> {
    let place = Place::new();
    let before = place.outside();
    let imported = place.import(&oci(layers).into_tar()).unwrap();
    assert_eq!(imported.layers, layers.len());
    assert_eq!(place.outside(), before);
    assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    list(&imported.root)
        .iter()
        .map(|line| short(line))
        .collect()
}

/// `path` of a directory, `path = content` of a file, `path -> target` of a link.
fn short(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words[1] {
        "link" => format!("{} -> {}", words[0], words[4]),
        "file" => format!("{} = {}", words[0], words.get(6).unwrap_or(&"")),
        _ => words[0].to_owned(),
    }
}

#[test]
fn a_whiteout_hides_a_file_a_link_and_a_whole_directory() {
    let lower = Tar::of([
        file("a/gone", "1"),
        file("a/stays", "2"),
        file("a/dir/x/y/z", "3"),
        symlink("a/link", "dir"),
        file("..2024", "4"),
    ]);
    let upper = Tar::of([
        file("a/.wh.gone", ""),
        file("a/.wh.dir", ""),
        file("a/.wh.link", ""),
        file("a/.wh.never-was", ""),
        file("nowhere/.wh.x", ""),
        file(".wh...2024", ""),
    ]);
    assert_eq!(merged(&[lower, upper]), ["/", "/a", "/a/stays = 2"]);
}

#[test]
fn an_opaque_directory_hides_what_is_below_and_not_its_siblings() {
    let lower = || {
        Tar::of([
            file("d/old", "1"),
            file("d/sub/old", "2"),
            file("d/same", "3"),
            file("e", "4"),
        ])
    };
    let first = Tar::of([
        dir("d"),
        file("d/.wh..wh..opq", ""),
        file("d/new", "5"),
        file("d/sub/new", "6"),
        file("d/same", "7"),
    ]);
    let last = Tar::of([
        dir("d"),
        file("d/new", "5"),
        file("d/sub/new", "6"),
        file("d/same", "7"),
        file("d/.wh..wh..opq", ""),
    ]);
    let expected = [
        "/",
        "/d",
        "/d/new = 5",
        "/d/same = 7",
        "/d/sub",
        "/d/sub/new = 6",
        "/e = 4",
    ];
    assert_eq!(merged(&[lower(), first]), expected);
    assert_eq!(merged(&[lower(), last]), expected);
}

#[test]
fn a_whiteout_does_not_hide_what_its_own_layer_brings() {
    let lower = || {
        Tar::of([
            file("x", "old"),
            file("d/old", "old"),
            hardlink("other", "x"),
        ])
    };
    let expected = ["/", "/d", "/d/new = new", "/other = old", "/x = new"];
    let before = Tar::of([
        file(".wh.x", ""),
        file(".wh.d", ""),
        file("x", "new"),
        dir("d"),
        file("d/new", "new"),
    ]);
    let after = Tar::of([
        file("x", "new"),
        dir("d"),
        file("d/new", "new"),
        file(".wh.x", ""),
        file(".wh.d", ""),
    ]);
    assert_eq!(merged(&[lower(), before]), expected);
    assert_eq!(merged(&[lower(), after]), expected);
}

#[test]
fn an_opaque_root_and_a_new_name_for_a_lower_file() {
    let lower = Tar::of([file("a", "1"), file("b/c", "2")]);
    let upper = Tar::of([hardlink("b/new", "b/c"), file(".wh..wh..opq", "")]);
    assert_eq!(merged(&[lower, upper]), ["/", "/b", "/b/new = 2"]);
}

#[test]
fn whiteouts_of_the_lowest_layer_hide_nothing() {
    let only = Tar::of([
        file("a", "1"),
        file(".wh.a", ""),
        file(".wh..wh..opq", ""),
        file(".wh..wh.plnk/1.2", ""),
    ]);
    assert_eq!(merged(&[only]), ["/", "/a = 1"]);
}

#[test]
fn a_later_layer_changes_what_a_name_is() {
    let lower = Tar::of([
        file("dir-to-file/x", "1"),
        file("dir-to-link/x", "2"),
        file("file-to-dir", "3"),
        symlink("link-to-dir", "dir-to-file"),
        symlink("link-to-file", "file-to-dir"),
        item(EntryType::Fifo, "fifo-to-file"),
    ]);
    let upper = Tar::of([
        file("dir-to-file", "4"),
        symlink("dir-to-link", "x"),
        dir("file-to-dir"),
        file("file-to-dir/y", "5"),
        dir("link-to-dir"),
        file("link-to-dir/z", "6"),
        file("link-to-file", "7"),
        file("fifo-to-file", "8"),
    ]);
    let expected = [
        "/",
        "/dir-to-file = 4",
        "/dir-to-link -> x",
        "/fifo-to-file = 8",
        "/file-to-dir",
        "/file-to-dir/y = 5",
        "/link-to-dir",
        "/link-to-dir/z = 6",
        "/link-to-file = 7",
    ];
    assert_eq!(merged(&[lower, upper]), expected);
}

#[test]
fn a_link_of_a_lower_layer_leads_on_inside_the_root() {
    let lower = Tar::of([
        dir("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
        symlink("up", "../../../usr/lib"),
        symlink("dangling", "/made/by/need"),
    ]);
    let upper = Tar::of([
        file("lib/a", "1"),
        file("abs/b", "2"),
        file("up/c", "3"),
        file("dangling/d", "4"),
        file("abs/.wh.nothing", ""),
        hardlink("abs/e", "up/a"),
    ]);
    let expected = [
        "/",
        "/abs -> /usr/lib",
        "/dangling -> /made/by/need",
        "/lib -> usr/lib",
        "/made",
        "/made/by",
        "/made/by/need",
        "/made/by/need/d = 4",
        "/up -> ../../../usr/lib",
        "/usr",
        "/usr/lib",
        "/usr/lib/a = 1",
        "/usr/lib/b = 2",
        "/usr/lib/c = 3",
        "/usr/lib/e = 1",
    ];
    assert_eq!(merged(&[lower, upper]), expected);
}

#[test]
fn a_directory_takes_mode_time_and_attributes_of_the_last_layer_that_has_it() {
    let place = Place::new();
    let lower = Tar::of([
        dir("d")
            .mode(0o700)
            .mtime(10)
            .pax("SCHILY.xattr.user.old", "1"),
        dir("untouched").mode(0o711).mtime(11),
        file("d/x", ""),
    ]);
    let upper = Tar::of([
        dir("d")
            .mode(0o750)
            .mtime(20)
            .pax("SCHILY.xattr.user.new", "2"),
        file("d/y", ""),
        file("untouched/z", ""),
        file("d/.wh.x", ""),
    ]);
    let root = place.import(&oci(&[lower, upper]).into_tar()).unwrap().root;
    let lines = list(&root);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("/d dir 0750") && line.ends_with(" user.new=2")),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|line| line.contains("user.old")));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("/untouched dir 0711"))
    );
    let times = times(&root);
    assert!(
        times.contains(&"d 20.000000000".into())
            && times.contains(&"untouched 11.000000000".into()),
        "{times:?}"
    );
}

#[test]
fn a_tree_deeper_than_any_path_or_limit_on_files_is_removed() {
    // As deep as a path can be long, and from there, through a link, as deep again.
    let longest = format!("deep{}", "/d".repeat(1100));
    let below = (1..1100).map(|depth| dir(format!("link{}", "/e".repeat(depth))));
    let lower = Tar::of(
        [dir(&longest), symlink("link", &longest)]
            .into_iter()
            .chain(below),
    );
    let upper = Tar::of([file(".wh.deep", ""), file(".wh.link", "")]);
    assert_eq!(merged(&[lower, upper]), ["/"]);
}
