//! The tree that an import makes is the one that umoci makes of the same image: type, mode, owner, time, size, content,
//! attributes, link targets, hard links and device numbers of every name.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use tar::EntryType;
use tests::pack::{Files, Item, Tar, dir, file, hardlink, item, symlink, tagged};
use tests::tree::Tree;
use tests::{World, tool};

use super::debian;
use super::ways::{Way, seen, skeleton, top, umoci, world_in_memory};

/// Imports the image in each way and expects umoci's tree, which is returned.
fn expect_umocis_tree(world: &World, image: Files) -> Tree {
    let layout = top(world).join("layout");
    image.into_directory(&layout);
    let theirs = Tree::of(&umoci(world, &layout));
    for way in Way::ALL {
        let _ = way.import(world, &layout).expect_ok();
        // The root that the layers alone show is the uppermost layer's; create-fs gives it what the image says.
        let root: &[&str] = match way {
            Way::Flat => &[],
            Way::Layered => &["."],
        };
        let below = theirs.clone().without(root);
        way.tree(world)
            .without(root)
            .assert_same(&format!("{way:?}"), &below, "umoci");
        way.created(world).assert_same(
            &format!("{way:?}, by create-fs"),
            &seen(theirs.clone()),
            "umoci",
        );
    }
    theirs
}

/// The same for an image of layers with these members, above what create-fs would add.
fn of_layers(layers: Vec<Vec<Item>>) {
    let Some(world) = world_in_memory() else {
        return;
    };
    let mut lower = skeleton();
    let layers: Vec<Vec<u8>> = layers
        .into_iter()
        .map(|items| Tar::of(lower.drain(..).chain(items)))
        .collect();
    let _ = expect_umocis_tree(&world, tagged(&layers));
}

#[test]
fn debian_in_layers_with_deletions_and_replacements() {
    let (Some(world), Some(layers)) = (world_in_memory(), debian::layers()) else {
        return;
    };
    let tree = expect_umocis_tree(&world, tagged(&layers));
    assert!(tree.len() > 5000, "{} names", tree.len());
    for gone in ["usr/share/man", "etc/apt/sources.list", "usr/bin/perl"] {
        assert!(!tree.has(gone), "{gone}");
    }
    for there in ["usr/lib/new-in-usr", "etc/apt/trusted.list", "usr/bin/bash"] {
        assert!(tree.has(there), "{there}");
    }
}

#[test]
fn every_type_of_file() {
    let long_ago = || file("old", "1969").pax("mtime", "-1.25");
    of_layers(vec![vec![
        file("plain", "text").mode(0o640).owner(1, 2),
        file("empty", ""),
        file("suid", "x").mode(0o6755).owner(3, 4),
        file("none", "x").mode(0),
        file("nanoseconds", "x").pax("mtime", "1000000000.123456789"),
        long_ago(),
        file("large-owner", "x").owner(3_000_000, 4_000_000_000),
        dir("sticky").mode(0o1777).owner(5, 6).mtime(7),
        dir("closed").mode(0).mtime(8),
        file("closed/inside", "x"),
        symlink("link", "plain").owner(7, 8).mtime(9),
        symlink("absolute", "/etc/passwd"),
        symlink("nowhere", "../../../nowhere"),
        hardlink("again", "plain"),
        hardlink("closed/and-again", "plain"),
        hardlink("link-again", "link"),
        item(EntryType::Fifo, "fifo").mode(0o622).owner(9, 9),
        item(EntryType::Char, "char").device(1, 3).mode(0o666),
        item(EntryType::Char, "large-char").device(4000, 1_000_000),
        item(EntryType::Block, "block").device(7, 200).mode(0o660),
        file("attributes", "x")
            .pax("SCHILY.xattr.user.text", "value")
            .pax("SCHILY.xattr.user.binary", b"\x01=\xff\n\x02")
            .pax("SCHILY.xattr.trusted.mine", "t")
            .pax("SCHILY.xattr.security.capability", CAPABILITY),
        dir("with-attributes").pax("SCHILY.xattr.user.on", "directory"),
        symlink("link-with", "x").pax("SCHILY.xattr.trusted.on", "link"),
        dir("inherited").pax("SCHILY.xattr.system.posix_acl_default", DEFAULT_ACL),
        dir("inherited/nothing"),
        file("inherited/neither", "x"),
    ]]);
}

/// `cap_net_raw=ep` as the kernel stores it (version 2).
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// `user::rwx,user:1000:rwx,group::r-x,mask::rwx,other::---` as the kernel stores it (version 2).
const DEFAULT_ACL: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

#[test]
fn a_hundred_thousand_small_files() {
    let mut items = Vec::new();
    for number in 0..100_000 {
        if number % 250 == 0 {
            items.push(dir(format!("d{}", number / 250)).mtime(number));
        }
        let name = format!("d{}/f{number}", number / 250);
        items.push(file(name, number.to_string()).mtime(number));
    }
    of_layers(vec![items]);
}

#[test]
fn a_sparse_file_of_four_gibibytes() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let source = top(&world).join("sparse");
    unpack(&Tar::of(skeleton()), &source);
    let large = File::create(source.join("large")).expect("file");
    let write = |at: u64, text: &str| {
        std::os::unix::fs::FileExt::write_all_at(&large, text.as_bytes(), at).expect("write");
    };
    large.set_len(4 << 30).expect("length");
    write(0, "start");
    write(1 << 30, "one");
    write((3 << 30) + 5000, "three");
    // GNU's older format has whole seconds.
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for changed in [&large, &File::open(&source).expect("directory")] {
        changed.set_modified(time).expect("time");
    }
    let theirs = Tree::of(&source);
    for format in ["gnu", "pax"] {
        let archive = top(&world).join(format);
        tar(&source, &archive, &["--sparse", "--format", format]);
        let size = std::fs::metadata(&archive).expect("archive").len();
        assert!(size < 1 << 20, "{format}: {size} bytes");
        let layer = std::fs::read(&archive).expect("archive");
        let image = top(&world).join(format!("{format}-image"));
        tagged(&[layer]).into_directory(&image);
        for way in Way::ALL {
            let before = free(top(&world));
            let _ = way.import(&world, &image).expect_ok();
            let taken = before.saturating_sub(free(top(&world)));
            assert!(taken < 1 << 30, "{format}, {way:?}: {taken} bytes of disk");
            way.tree(&world)
                .assert_same(&format!("{way:?}"), &theirs, "the source");
        }
    }
}

/// How many bytes the filesystem of a directory has left.
fn free(directory: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(directory).expect("statvfs");
    stat.blocks_available() * stat.fragment_size()
}

/// Unpacks an archive as GNU tar does.
fn unpack(archive: &[u8], into: &Path) {
    std::fs::create_dir(into).expect("directory");
    let path = into.with_extension("tar");
    std::fs::write(&path, archive).expect("archive");
    let status = Command::new(tool("tar"))
        .args(["--extract", "--same-permissions", "--file"])
        .arg(&path)
        .arg("--directory")
        .arg(into)
        .status();
    assert!(status.expect("tar").success());
}

/// Packs a directory as GNU tar does.
fn tar(source: &Path, archive: &Path, options: &[&str]) {
    let status = Command::new(tool("tar"))
        .args(options)
        .arg("--create")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(source)
        .arg(".")
        .status();
    assert!(status.expect("tar").success());
}

#[test]
fn names_with_every_byte() {
    let mut items = vec![dir("d")];
    for byte in (1..=255).filter(|byte| *byte != b'/') {
        let name = [&b"d/x"[..], &[byte], b"y"].concat();
        items.push(file(&name, [byte]));
        if byte != b'.' {
            items.push(symlink([&b"d/"[..], &[byte]].concat(), [byte]));
        }
    }
    items.push(hardlink(b"hard\n\xfe", b"d/x\xffy"));
    items.push(
        file("p", "x")
            .pax("path", "näme\n with\ttext")
            .pax("comment", "\u{1f600}"),
    );
    of_layers(vec![items]);
}

#[test]
fn long_names_of_gnu_and_pax() {
    let part = |letter: &str, count| letter.repeat(count);
    let long = |letter: &str| format!("{}/{}", part(letter, 200), part(letter, 255));
    let parents = ["g", "p", "u"].map(|letter| dir(part(letter, 200)));
    let mut items = Vec::new();
    items.extend(parents);
    items.extend([
        file(long("g"), "GNU long name"),
        symlink("gnu-link", format!("/{}", long("t"))),
        hardlink("gnu-hard-link", long("g")),
        file("short", "pax").pax("path", long("p")),
        symlink("pax-link", "short").pax("linkpath", "t".repeat(4000)),
        hardlink("pax-hard-link", "short").pax("linkpath", long("p")),
        file("ninety-nine".to_owned() + &part("9", 88), "x"),
        file("hundred".to_owned() + &part("0", 93), "x"),
    ]);
    of_layers(vec![items]);
}

#[test]
fn deep_trees() {
    // As deep as a program can go that names a file by its whole path, as umoci does.
    let mut items = Vec::new();
    let mut path = String::from("deep");
    while path.len() < 3900 {
        items.push(dir(&path).mtime(path.len() as u64));
        path.push_str("/directory");
    }
    items.push(file(format!("{path}-file"), "deep").mtime(3));
    items.push(hardlink("shallow", format!("{path}-file")));
    of_layers(vec![items]);
}

#[test]
fn layers_that_stand_on_others() {
    let table = [
        (
            "usrmerge",
            vec![
                vec![
                    dir("usr").mtime(2),
                    dir("usr/lib").mode(0o711).owner(1, 2).mtime(3),
                    file("usr/lib/old", "old"),
                    symlink("lib", "usr/lib"),
                    symlink("lib64", "/usr/lib"),
                ],
                vec![file("lib/new", "new"), file("lib64/more", "more")],
                vec![file("lib/.wh.old", ""), file("usr/lib/last", "x")],
            ],
        ),
        (
            "a root that only the lowest layer has",
            vec![
                vec![
                    dir("./")
                        .mode(0o711)
                        .owner(3, 4)
                        .mtime(77)
                        .pax("SCHILY.xattr.user.x", "1")
                        .pax("SCHILY.xattr.trusted.mine", "t"),
                    file("a", "x"),
                ],
                vec![file("b", "x")],
            ],
        ),
        (
            "parents that are below only",
            vec![
                vec![
                    dir("a").mode(0o700).owner(5, 6).mtime(2),
                    dir("a/b")
                        .mode(0o2750)
                        .mtime(3)
                        .pax("SCHILY.xattr.user.x", "1"),
                    file("a/b/stays", "x"),
                ],
                vec![file("a/b/new", "new").mtime(4)],
            ],
        ),
        (
            "an opaque directory and its siblings",
            vec![
                vec![
                    dir("d").mtime(2),
                    file("d/gone", "x"),
                    dir("d/sub").mtime(3),
                    file("d/sub/gone", "x"),
                    dir("e").mtime(4),
                    file("e/stays", "x"),
                ],
                vec![
                    dir("d").mtime(5),
                    file("d/.wh..wh..opq", ""),
                    file("d/new", "x"),
                    dir("d/sub").mtime(6),
                    file("d/sub/new", "x"),
                ],
            ],
        ),
        (
            "replaced by another type",
            vec![
                vec![
                    dir("directory").mtime(2),
                    file("directory/x", "x"),
                    file("file", "x"),
                    symlink("link", "directory"),
                ],
                vec![
                    file("directory", "now a file"),
                    dir("file").mtime(3),
                    file("file/y", "y"),
                    dir("link").mtime(4),
                    file("link/z", "z"),
                ],
            ],
        ),
        (
            "a hard link across layers",
            vec![
                vec![
                    dir("a").mtime(2),
                    file("a/target", "content").mode(0o750).owner(1, 2).mtime(3),
                    symlink("a/link", "target").mtime(4),
                ],
                vec![
                    dir("b").mtime(5),
                    hardlink("b/second", "a/target"),
                    hardlink("b/third", "b/second"),
                    hardlink("b/link", "a/link"),
                ],
            ],
        ),
        (
            "a hard link whose target is deleted above",
            vec![
                vec![file("a", "1"), hardlink("b", "a")],
                vec![file(".wh.a", "")],
                vec![hardlink("c", "b")],
            ],
        ),
        (
            "deleted and made again",
            vec![
                vec![
                    dir("d").mode(0o700).mtime(2),
                    file("d/x", "x"),
                    file("f", "1"),
                ],
                vec![file(".wh.d", ""), file(".wh.f", "")],
                vec![dir("d").mtime(3), file("d/y", "y"), file("f", "2")],
            ],
        ),
    ];
    for (name, layers) in table {
        println!("{name}");
        of_layers(layers);
    }
}
