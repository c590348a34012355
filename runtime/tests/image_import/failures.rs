//! What an import does when the machine, not the archive, is the reason; and what killed imports leave.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink as make_link};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, setfsuid};
use runtime::image::{ImportRequest, Rights, import};
use tests::own_mounts;

use crate::pack::{Tar, dir, file, oci};
use crate::place::{Place, id, is_root, list};
use crate::verdict::refuse;

fn archive() -> Vec<u8> {
    Tar::of([dir("etc"), file("etc/a", "1")])
}

/// Runs in a thread of its own, whose mount namespace and file-system user end with it.
fn apart<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// The error of a failed import, which must be one line and a hint.
fn refused(request: &ImportRequest) -> String {
    let error = import(request).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(error.contains("\n  hint: "), "{error}");
    error
}

#[test]
fn sources_that_are_no_archive() {
    let place = Place::new();
    let before = place.outside();
    let empty_directory = place.top.join("directory");
    fs::create_dir(&empty_directory).unwrap();
    let table = [
        (place.top.join("missing"), "ENOENT"),
        (empty_directory, "no OCI image layout"),
        (
            "/dev/null".into(),
            "neither a file, nor a pipe, nor a directory",
        ),
        (place.source(b""), "empty"),
        (place.source(b"short"), "no tar archive"),
        (place.source(&[b'x'; 4096]), "no tar archive"),
        (
            place.source(b"\xfd7zXZ\0\0\0........"),
            "the xz data is damaged",
        ),
        (place.source(b"LZIP\x01..........."), "lzip"),
        (place.source(b"PK\x03\x04............"), "zip"),
        (place.source(b"hsqs............"), "squashfs"),
        (
            place.source(&crate::pack::gzip(b"not a tar")),
            "no tar archive",
        ),
    ];
    for (source, why) in table {
        let error = refused(&place.request(&source));
        assert!(error.contains(why), "{}: {error}", source.display());
        assert!(!place.base().exists(), "{}", source.display());
    }
    let request = ImportRequest {
        reference: Some("x".into()),
        ..place.request(place.source(&archive()))
    };
    assert!(refused(&request).contains("has no name"));
    assert_eq!(place.outside(), before);
}

#[test]
fn a_layout_whose_blobs_are_links_out_or_pipes() {
    let place = Place::new();
    let directory = place.top.join("layout");
    oci(&[archive()]).into_directory(&directory);
    let layer = directory
        .join("blobs/sha256")
        .join(crate::pack::sha256(&archive()));
    fs::remove_file(&layer).unwrap();
    // The right content in the wrong place is still the wrong place.
    let outside = place.source(&archive());
    make_link(&outside, &layer).unwrap();
    assert!(refused(&place.request(&directory)).contains("EXDEV"));
    fs::remove_file(&layer).unwrap();
    nix::unistd::mkfifo(&layer, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(refused(&place.request(&directory)).contains("no regular file"));
    assert!(!place.base().exists());
}

#[test]
fn places_that_cannot_be_imported_to() {
    let place = Place::new();
    let source = place.source(&archive());
    fs::write(place.base(), "a file").unwrap();
    assert!(refused(&place.request(&source)).contains("ENOTDIR"));
    fs::remove_file(place.base()).unwrap();
    fs::create_dir_all(place.images()).unwrap();
    for taken in ["img", "img.squashfs"] {
        let path = place.images().join(taken);
        fs::write(&path, "taken").unwrap();
        assert!(
            refused(&place.request(&source)).contains("exists"),
            "{taken}"
        );
        assert_eq!(place.names(), [taken]);
        fs::remove_file(path).unwrap();
    }
    // A directory in the place of a file goes with the image that is replaced.
    fs::create_dir(place.images().join("img.json")).unwrap();
    fs::write(place.images().join("img.json/x"), "").unwrap();
    import(&ImportRequest {
        replace: true,
        ..place.request(&source)
    })
    .unwrap();
    assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    assert!(place.images().join("img.json").is_file());
}

#[test]
fn a_replacement_that_fails_at_the_last_step_changes_nothing() {
    if !is_root("a_replacement_that_fails_at_the_last_step_changes_nothing") {
        return;
    }
    let place = Place::new();
    let old = place.source(&oci(&[archive()]).into_tar());
    import(&place.request(&old)).unwrap();
    let image = place.images().join("img");
    let beside = || {
        ["img.env", "img.json"].map(|name| fs::read_to_string(place.images().join(name)).unwrap())
    };
    let before = beside();
    let source = place.source(&archive());
    apart(|| {
        own_mounts().unwrap();
        // A mount point cannot be renamed.
        mount(
            Some(&image),
            &image,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        let error = refused(&ImportRequest {
            replace: true,
            ..place.request(&source)
        });
        assert!(
            error.contains("give name") && error.contains("EBUSY"),
            "{error}"
        );
    });
    assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    assert_eq!(beside(), before);
    assert!(before[0].contains("PATH=/bin"));
}

#[test]
fn no_space_left() {
    if !is_root("no_space_left") {
        return;
    }
    let place = Place::new();
    let big = Tar::of([file("etc/big", vec![b'x'; 2 << 20])]);
    let sources = [
        ("rootfs", place.source(&big)),
        (
            "layer",
            place.source(&oci(std::slice::from_ref(&big)).into_tar()),
        ),
        (
            "spool",
            place.source(&crate::pack::gzip(&oci(&[big]).into_tar())),
        ),
        (
            "inodes",
            place.source(&Tar::of(
                (0..400).map(|number| file(format!("etc/{number}"), "")),
            )),
        ),
    ];
    fs::create_dir(place.base()).unwrap();
    apart(|| {
        own_mounts().unwrap();
        mount(
            Some("none"),
            &place.base(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=1m,nr_inodes=200"),
        )
        .unwrap();
        for (name, source) in &sources {
            let error = refused(&place.request(source));
            assert!(
                error.contains("ENOSPC") && error.contains("no space"),
                "{name}: {error}"
            );
            assert_eq!(fs::read_dir(place.base()).unwrap().count(), 0, "{name}");
        }
    });
}

/// tmpfs takes a file of any size; filesystems on a disk do not.
#[test]
fn a_file_that_is_larger_than_the_filesystem_takes() {
    let holes = file("s", "12345678")
        .pax("GNU.sparse.size", "9223372036854775807")
        .pax("GNU.sparse.map", "0,8");
    refuse("holes", &Tar::of([holes]), "EFBIG");
}

#[test]
fn no_permission_and_owners_that_cannot_be_set() {
    if !is_root("no_permission_and_owners_that_cannot_be_set") {
        return;
    }
    let place = Place::new();
    let source = place.source(&archive());
    fs::set_permissions(&place.top, Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(place.base()).unwrap();
    let as_somebody = |request: ImportRequest| {
        apart(move || {
            setfsuid(Uid::from_raw(4000));
            refused(&request)
        })
    };
    let error = as_somebody(place.request(&source));
    assert!(
        error.contains("EACCES") && error.contains("root"),
        "{error}"
    );
    assert_eq!(fs::read_dir(place.base()).unwrap().count(), 0);

    chown(place.base(), Some(4000), None).unwrap();
    let error = as_somebody(place.request(&source));
    assert!(
        error.contains("set owner 0:0 of") && error.contains("etc") && error.contains("EPERM"),
        "{error}"
    );
    assert_eq!(fs::read_dir(place.base()).unwrap().count(), 0);

    fs::set_permissions(&source, Permissions::from_mode(0o0)).unwrap();
    let error = as_somebody(place.request(&source));
    assert!(
        error.contains("open image source") && error.contains("EACCES"),
        "{error}"
    );
    assert_eq!(fs::read_dir(place.base()).unwrap().count(), 0);
}

/// The name of a variable that carries a source to the half of the next test that runs in a user namespace.
const SOURCE: &str = "IMAGE_IMPORT_TEST_SOURCE";

#[test]
fn owners_that_are_not_mapped() {
    if let Some(source) = std::env::var_os(SOURCE) {
        let place = Place::new();
        let error = refused(&place.request(&source));
        assert!(
            error.contains("set owner 12345:0 of") && error.contains("EINVAL"),
            "{error}"
        );
        assert!(error.contains("not mapped"), "{error}");
        assert!(
            error.contains("etc/a") && error.contains("--squash"),
            "{error}"
        );
        assert!(!place.base().exists());
        for (name, flat) in [("img", true), ("layered", false)] {
            let squashed = ImportRequest {
                rights: Rights::Squash,
                id: id(name),
                flat,
                ..place.request(&source)
            };
            import(&squashed).unwrap();
        }
        let found = list(&place.images().join("img"));
        // Nobody's programs do not become root's.
        for line in [
            "/etc/a file 0644 0:0 1 n1 1",
            "/etc/su file 0755 0:0 1 n1 1",
            "/etc/mine file 6755 0:0 1 n1 1",
            "/etc/group file 4755 0:0 1 n1 1",
            "/etc/shared dir 2755 0:0",
        ] {
            assert!(found.contains(&line.to_owned()), "{line}: {found:#?}");
        }
        return;
    }
    if !is_root("owners_that_are_not_mapped") {
        return;
    }
    let place = Place::new();
    let source = place.source(&Tar::of([
        file("etc/a", "1").owner(12_345, 0),
        file("etc/su", "1").owner(12_345, 12_345).mode(0o6755),
        file("etc/group", "1").owner(0, 12_345).mode(0o6755),
        file("etc/mine", "1").mode(0o6755),
        dir("etc/shared").owner(12_345, 12_345).mode(0o2755),
    ]));
    let status = Command::new("unshare")
        .arg("--map-root-user")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "failures::owners_that_are_not_mapped"])
        .env(SOURCE, source)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn what_a_killed_import_left_is_removed_and_a_live_one_is_let_be() {
    let place = Place::new();
    let source = place.source(&archive());
    let images = place.images();
    let dead = images.join(".img.0123456789abcdef.tmp");
    fs::create_dir_all(dead.join("a/b")).unwrap();
    fs::write(dead.join("a/b/c"), "x").unwrap();
    fs::set_permissions(dead.join("a"), Permissions::from_mode(0o0)).unwrap();
    make_link(place.sentinel(), dead.join("link")).unwrap();
    for name in ["env", "json", "spool"] {
        fs::write(
            images.join(format!(".img.0123456789abcdef.{name}.tmp")),
            "x",
        )
        .unwrap();
    }
    let live = images.join(".img.fedcba9876543210.tmp");
    fs::create_dir(&live).unwrap();
    let lock = File::open(&live).unwrap();
    lock.lock().unwrap();
    let others = [
        ".img.x.0123456789abcdef.tmp",
        ".img2.0123456789abcdef.tmp",
        ".img.tmp",
    ];
    for other in others {
        fs::create_dir(images.join(other)).unwrap();
    }
    let before = place.outside();
    import(&place.request(&source)).unwrap();
    assert_eq!(place.outside(), before);
    let mut expected = vec![".img.fedcba9876543210.tmp", "img", "img.env", "img.json"];
    expected.extend(others);
    expected.sort_unstable();
    assert_eq!(place.names(), expected);

    drop(lock);
    import(&ImportRequest {
        replace: true,
        ..place.request(&source)
    })
    .unwrap();
    assert!(!live.exists());
}

#[test]
fn many_at_once_end_with_one_of_them() {
    let place = Place::new();
    let sources: Vec<_> = (0..8)
        .map(|number| {
            place.source(&Tar::of(
                (0..20).map(|file_number| file(format!("etc/{number}-{file_number}"), "x")),
            ))
        })
        .collect();
    let results: Vec<_> = std::thread::scope(|scope| {
        let start = |source| {
            let request = place.request(source);
            scope.spawn(move || import(&request).is_ok())
        };
        let running: Vec<_> = sources.iter().map(start).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(results.iter().filter(|done| **done).count(), 1);
    assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    assert_eq!(list(&place.images().join("img")).len(), 22);

    std::thread::scope(|scope| {
        for source in &sources {
            let request = ImportRequest {
                replace: true,
                ..place.request(source)
            };
            scope.spawn(move || import(&request).unwrap());
        }
    });
    assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    assert_eq!(list(&place.images().join("img")).len(), 22);
}

#[test]
fn the_store_is_for_its_owner_alone_whatever_the_umask() {
    for umask in [0, 0o077] {
        let place = Place::new();
        let source = place.source(&Tar::of([
            dir("made"),
            file("implied/f", "x"),
            file("wide", "").mode(0o666),
        ]));
        apart(|| {
            // The umask is shared between threads until this.
            unshare(CloneFlags::CLONE_FS).unwrap();
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
            import(&ImportRequest {
                id: id("other"),
                ..place.request(&source)
            })
            .unwrap();
        });
        let mode = |name: &str| {
            fs::metadata(place.images().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        let found = ["", "other", "other/implied", "other/made", "other/wide"].map(mode);
        assert_eq!(found, [0o700, 0o755, 0o755, 0o755, 0o666], "{umask:o}");
        assert_eq!(mode("other.json"), 0o644 & !umask);
    }
}
