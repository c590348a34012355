//! What is done with images that are there: listed, verified, removed, and their layers collected.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink as make_link};
use std::path::{Path, PathBuf};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use runtime::image::layers::{LayerKey, Layers, bases};
use runtime::image::record::Record;
use runtime::image::{self, Form, ImportRequest, collect, import, remove_image, verify};
use tests::pack::{Tar, dir, docker, file, hardlink, oci, symlink};

use crate::place::{Place, id};

/// A lower layer with one of many things, and one above that has something to hide and something to link.
fn layers() -> [Vec<u8>; 2] {
    let lower = Tar::of([
        dir("d").mtime(5),
        file("d/a", "lower"),
        file("d/b", "content").pax("SCHILY.xattr.user.x", "1"),
        hardlink("d/c", "d/b"),
        symlink("d/l", "b"),
        file("odd name\n=\u{e4}", ""),
        file("d/gone", ""),
    ]);
    let upper = Tar::of([
        file("d/.wh.gone", ""),
        file("implied/x", "y"),
        hardlink("e", "d/b"),
    ]);
    [lower, upper]
}

impl Place {
    /// Imports as layers, under a name.
    fn layered(&self, name: &str, data: &[u8]) {
        import(&ImportRequest {
            flat: false,
            id: id(name),
            ..self.request(self.source(data))
        })
        .unwrap();
    }

    fn keys(&self, name: &str) -> Vec<LayerKey> {
        let record = Record::read(&self.base(), name).unwrap().unwrap();
        record.keys().cloned().collect()
    }

    fn there(&self) -> Vec<LayerKey> {
        let layers = Layers::open(&self.data()).unwrap().unwrap();
        layers.list().unwrap()
    }

    fn tree(&self, key: &LayerKey) -> PathBuf {
        self.data().join("layers").join(key.tree())
    }

    /// What verify says of `img`, without the layer.
    fn problems(&self) -> Vec<String> {
        let verified = verify(&self.base(), "img").unwrap();
        let line = |problem: &image::Problem| {
            format!(
                "{}: {}",
                problem.path.as_deref().unwrap_or("-"),
                problem.what
            )
        };
        verified.problems.iter().map(line).collect()
    }
}

#[test]
fn what_is_as_it_was_verifies() {
    let place = Place::new();
    place.layered("img", &oci(&layers()).into_tar());
    let verified = verify(&place.base(), "img").unwrap();
    assert_eq!(verified.problems, []);
    assert_eq!(verified.layers, 2);
    // Of the upper layer: the root, d, the whiteout, b and c which are linked, implied and x, e.
    assert_eq!(verified.names, 8 + 8, "{verified:?}");
}

/// Does something to the tree at a path.
type Change = fn(&Path);

#[test]
fn every_kind_of_change_is_found() {
    let change: [(&str, Change); 12] = [
        ("/d/a: it is missing", |root| {
            fs::remove_file(root.join("d/a")).unwrap()
        }),
        ("/d/new: it was not there", |root| {
            fs::write(root.join("d/new"), "").unwrap()
        }),
        ("/d/a: other size, content", |root| {
            set(root, "d/a", "longer than it was")
        }),
        ("/d/a: other content", |root| set(root, "d/a", "LOWER")),
        ("/d/a: other mode", |root| {
            fs::set_permissions(root.join("d/a"), fs::Permissions::from_mode(0o4755)).unwrap();
        }),
        ("/d/a: other time", |root| touch(&root.join("d/a"), 7)),
        ("/d/b: other attributes", |root| {
            xattr::set(root.join("d/b"), "user.x", b"2").unwrap()
        }),
        ("/d/b: other attributes", |root| {
            xattr::set(root.join("d/b"), "user.y", b"1").unwrap()
        }),
        ("/d/l: other target", |root| {
            fs::remove_file(root.join("d/l")).unwrap();
            make_link("c", root.join("d/l")).unwrap();
            touch(&root.join("d/l"), tests::pack::MTIME.try_into().unwrap());
        }),
        ("/d/c: it is not another name of /d/b any more", |root| {
            let copy = fs::read(root.join("d/c")).unwrap();
            fs::remove_file(root.join("d/c")).unwrap();
            fs::write(root.join("d/c"), copy).unwrap();
        }),
        ("/d/a: it was file and is dir", |root| {
            fs::remove_file(root.join("d/a")).unwrap();
            fs::create_dir(root.join("d/a")).unwrap();
        }),
        ("/d: what it hides is other", |root| {
            let prefix = if crate::place::may_mount() {
                "trusted"
            } else {
                "user"
            };
            xattr::set(root.join("d"), format!("{prefix}.overlay.opaque"), b"y").unwrap();
        }),
    ];
    for (expected, change) in change {
        let place = Place::new();
        place.layered("img", &oci(&layers()).into_tar());
        let lower = place.tree(&place.keys("img")[0]);
        change(&lower);
        // What was made in it has changed the directory's time.
        touch(&lower.join("d"), 5);
        assert_eq!(place.problems(), [expected]);
    }
}

/// Writes a file and leaves its time as it was.
fn set(root: &Path, name: &str, content: &str) {
    fs::write(root.join(name), content).unwrap();
    touch(&root.join(name), tests::pack::MTIME.try_into().unwrap());
}

fn touch(path: &Path, time: i64) {
    let time = TimeSpec::new(time, 0);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).unwrap();
}

#[test]
fn layers_that_are_missing_or_whose_records_are_damaged() {
    let place = Place::new();
    place.layered("img", &oci(&layers()).into_tar());
    let [lower, upper] = &place.keys("img")[..] else {
        panic!("two layers")
    };
    let beside =
        |key: &LayerKey, name: &str| place.data().join("layers").join(key.as_str()).join(name);
    fs::write(beside(lower, "layer.json"), "{").unwrap();
    fs::write(beside(upper, "contents"), "no type\n").unwrap();
    assert_eq!(
        place.problems(),
        [
            "-: its record is damaged",
            "-: the list of what was in it is damaged in line 1"
        ]
    );
    fs::remove_dir_all(place.data().join("layers").join(lower.as_str())).unwrap();
    fs::remove_dir_all(place.data().join("layers").join(upper.as_str())).unwrap();
    assert_eq!(place.problems(), ["-: it is missing", "-: it is missing"]);
    let error = verify(&place.base(), "other").unwrap_err().to_string();
    assert!(error.contains("no such image"), "{error}");
}

#[test]
fn images_are_listed_and_removed_in_every_form() {
    let place = Place::new();
    assert_eq!(image::list(&place.base()).unwrap(), []);
    place.layered("img", &docker(&layers(), &["name:1"]).into_tar());
    import(&ImportRequest {
        id: id("flat"),
        ..place.request(place.source(&oci(&layers()).into_tar()))
    })
    .unwrap();
    fs::write(place.images().join("file.squashfs"), "12345").unwrap();
    fs::write(place.images().join("damaged.image"), "{").unwrap();
    fs::create_dir(place.images().join(".hidden.0123456789abcdef.tmp")).unwrap();
    let listed = image::list(&place.base()).unwrap();
    let found: Vec<_> = listed
        .iter()
        .map(|image| (image.id.as_str(), image.form, image.size))
        .collect();
    assert_eq!(
        found,
        [
            ("damaged", Form::Layers, None),
            ("file", Form::Squashfs, Some(5)),
            ("flat", Form::Directory, None),
            ("img", Form::Layers, Some(13)),
        ]
    );
    assert_eq!(listed[3].reference.as_deref(), Some("name:1"));
    assert!(listed[0].damaged.is_some());
    fs::remove_dir(place.images().join(".hidden.0123456789abcdef.tmp")).unwrap();
    for name in ["damaged", "file", "flat", "img"] {
        remove_image(&place.base(), name).unwrap();
        let error = remove_image(&place.base(), name).unwrap_err().to_string();
        assert!(error.contains("no such image"), "{error}");
    }
    assert_eq!(place.names(), Vec::<String>::new());
    // The layers are nobody's business but gc's.
    assert_eq!(place.there().len(), 2);
}

#[test]
fn layers_stay_as_long_as_an_image_of_any_base_or_a_root_filesystem_stands_on_them() {
    let place = Place::new();
    let [lower, upper] = layers();
    place.layered("img", &oci(&[lower.clone(), upper]).into_tar());
    let other_base = place.top.join("other");
    let other = Tar::of([file("other", "x")]);
    import(&ImportRequest {
        flat: false,
        base: other_base.clone(),
        ..place.request(place.source(&oci(&[lower, other]).into_tar()))
    })
    .unwrap();
    let keys = place.keys("img");
    assert_eq!(place.there().len(), 3);
    let gone = |forget: &[PathBuf]| {
        collect(&place.base(), &place.data(), forget)
            .unwrap()
            .removed
    };
    assert_eq!(gone(&[]), []);

    // As create-fs writes it down.
    remove_image(&place.base(), "img").unwrap();
    let container = place.data().join("containers/g");
    fs::create_dir_all(&container).unwrap();
    fs::write(
        container.join("layers"),
        format!("{}\n{}\n", keys[0], keys[1]),
    )
    .unwrap();
    assert_eq!(gone(&[]), []);
    fs::write(container.join("layers"), "damaged\n").unwrap();
    let error = collect(&place.base(), &place.data(), &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("damaged"), "{error}");
    fs::remove_dir_all(&container).unwrap();
    assert_eq!(gone(&[]), [keys[1].clone()]);
    assert!(place.tree(&keys[0]).is_dir());

    // A base that cannot be seen keeps everything, until it is forgotten.
    let away = place.top.join("away");
    fs::rename(&other_base, &away).unwrap();
    let error = collect(&place.base(), &place.data(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--forget-base") && error.contains("other"),
        "{error}"
    );
    assert_eq!(place.there().len(), 2);
    let error = collect(&place.base(), &place.data(), &[away])
        .unwrap_err()
        .to_string();
    assert!(error.contains("known are"), "{error}");
    assert_eq!(gone(&[other_base]).len(), 2);
    assert_eq!(place.there(), []);
    assert_eq!(bases(&place.data()).unwrap().len(), 1);
    // Nothing is left but the two directories.
    assert_eq!(
        fs::read_dir(place.data().join("layers")).unwrap().count(),
        0
    );
}

#[test]
fn a_record_that_cannot_be_read_keeps_all_layers() {
    let place = Place::new();
    place.layered("img", &oci(&layers()).into_tar());
    fs::write(place.images().join("img.image"), "{").unwrap();
    let error = collect(&place.base(), &place.data(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("img.image") && error.contains("damaged"),
        "{error}"
    );
    assert_eq!(place.there().len(), 2);
}

#[test]
fn a_directory_and_layers_replace_each_other() {
    let place = Place::new();
    let source = place.source(&oci(&layers()).into_tar());
    let as_layers = ImportRequest {
        flat: false,
        replace: true,
        ..place.request(&source)
    };
    let as_directory = ImportRequest {
        flat: true,
        ..as_layers.clone()
    };
    for _ in 0..2 {
        import(&as_layers).unwrap();
        assert_eq!(place.names(), ["img.env", "img.image", "img.json"]);
        import(&as_directory).unwrap();
        assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    }
    let taken = ImportRequest {
        replace: false,
        ..as_layers
    };
    assert!(import(&taken).unwrap_err().to_string().contains("exists"));
}

#[test]
fn many_imports_of_the_same_layers_at_once() {
    let place = Place::new();
    let [lower, upper] = layers();
    let own = |number: usize| Tar::of([file(format!("own-{number}"), "x")]);
    let sources: Vec<_> = (0..6)
        .map(|number| {
            // The layers that all have, each time above others.
            let mut all = vec![lower.clone(), upper.clone()];
            all.insert(number % 3, own(number));
            place.source(&oci(&all).into_tar())
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, source) in sources.iter().enumerate() {
            let request = ImportRequest {
                flat: false,
                id: id(&format!("img{number}")),
                ..place.request(source)
            };
            scope.spawn(move || import(&request).unwrap());
        }
    });
    for number in 0..sources.len() {
        let verified = verify(&place.base(), &format!("img{number}")).unwrap();
        assert_eq!(verified.problems, []);
    }
    let names = fs::read_dir(place.data().join("layers")).unwrap();
    assert_eq!(
        names.count(),
        place.there().len(),
        "nothing temporary is left"
    );
    for number in 0..sources.len() {
        remove_image(&place.base(), &format!("img{number}")).unwrap();
    }
    collect(&place.base(), &place.data(), &[]).unwrap();
    assert_eq!(place.there(), []);
}
