//! `tmpcopyup`: a filesystem begins with what is in the directory that it covers.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tests::tree::Tree;
use tests::{Bundle, Snapshot, World};

use super::mounts::mount;

/// Where the host sees a path of a container.
fn inside(bundle: &Bundle<'_>, path: &str) -> PathBuf {
    let pid = bundle.state("one")["pid"].as_i64().unwrap();
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

fn own(path: &Path, uid: u32, mode: u32) {
    chown(path, Some(uid), Some(uid + 1)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory of an image with one of each kind, and a symlink that leads to a directory of the host if it is followed.
fn fill(bundle: &Bundle<'_>, sentinel: &Path) -> PathBuf {
    let data = bundle.file("data");
    fs::create_dir_all(data.join("deep/deeper")).unwrap();
    fs::write(data.join("deep/deeper/file"), "content").unwrap();
    own(&data.join("deep/deeper/file"), 5, 0o4751);
    own(&data.join("deep"), 7, 0o1705);
    own(&data, 9, 0o750);
    fs::write(data.join("large"), vec![7; 300_000]).unwrap();
    xattr::set(data.join("large"), "user.mark", b"kept").unwrap();
    xattr::set(data.join("large"), "trusted.mark", b"kept too").unwrap();
    symlink(sentinel, data.join("away")).unwrap();
    lchown(data.join("away"), Some(11), Some(12)).unwrap();
    let pipe = data.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    own(&pipe, 13, 0o622);
    // More than one call lists.
    for number in 0..300 {
        fs::write(
            data.join(format!("deep/a-name-that-takes-some-room-{number}")),
            "",
        )
        .unwrap();
    }
    data
}

#[test]
fn a_tmpfs_begins_with_what_is_in_the_directory_that_it_covers() {
    let Some(world) = World::new() else { return };
    let sentinel = world.dir.join("sentinel");
    fs::create_dir(&sentinel).unwrap();
    fs::write(sentinel.join("secret"), "").unwrap();
    let bundle = Bundle::new(&world, "sleep 1000", |_| {});
    let data = fill(&bundle, &sentinel);
    let entry =
        json!({ "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro", "nosuid"] });
    let mut config = bundle.config();
    // Mounted below it, so no part of it.
    mount(
        &mut config,
        "/data/deep/deeper/bound",
        json!({ "source": sentinel, "options": ["bind"] }),
    );
    mount(&mut config, "/data", entry);
    bundle.write(&config);
    fs::create_dir(data.join("deep/deeper/bound")).unwrap();
    let image = Tree::of(&data).without_xattrs(&["user."]);
    bundle.ok(&["run", "-d", "one"]);
    let copy = inside(&bundle, "/data");
    let copied = Tree::of(&copy).without_xattrs(&["user."]);
    assert!(!copied.has("deep/deeper/bound"));
    let top = fs::metadata(&copy).unwrap();
    assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (9, 10, 0o750));
    let wanted = image.clone().without(&[".", "deep/deeper/bound"]);
    assert_eq!(wanted.len(), 306);
    wanted.assert_same("image", &copied.without(&["."]), "tmpfs");
    // A tmpfs has attributes of users since Linux 6.6.
    let mark = match xattr::get(copy.join("large"), "user.mark") {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => None,
        mark => mark.unwrap(),
    };
    assert!(matches!(mark.as_deref(), None | Some(b"kept")));
    // It is the tmpfs that is read-only.
    let flags = "grep -o '/data [a-z,]*' /proc/self/mountinfo";
    let flags = bundle.ok(&["exec", "one", "sh", "-c", flags]);
    assert_eq!(flags, "/data ro,nosuid,relatime");
    bundle.ok(&["delete", "--force", "one"]);
    let after = Tree::of(&data).without_xattrs(&["user."]);
    image.assert_same("before", &after, "after");
}

#[test]
fn the_copy_counts_as_what_the_container_writes() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "stat -c '%a %u' /data /data/deep /made", |_| {});
    let data = fill(&bundle, &world.dir);
    let good = bundle.config();
    let entry = |option: &str| json!({ "type": "tmpfs", "options": ["tmpcopyup", option] });
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    // The tmpfs is too small.
    let mut config = good.clone();
    mount(&mut config, "/data", entry("size=64k"));
    bundle.write(&config);
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(done.err_text().contains("ENOSPC"), "{}", done.err_text());
    // Only a tmpfs is filled.
    for (kind, options) in [
        ("bind", json!(["tmpcopyup"])),
        ("ramfs", json!(["tmpcopyup"])),
    ] {
        let mut config = good.clone();
        mount(
            &mut config,
            "/data",
            json!({ "type": kind, "source": "/", "options": options }),
        );
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains("tmpcopyup"), "{}", done.err_text());
    }
    before.assert_same(&world);
    // What the options say wins; what was not there before has nothing to take over.
    let mut config = good;
    mount(
        &mut config,
        "/data",
        json!({ "type": "tmpfs", "options": ["tmpcopyup", "mode=711", "uid=3"] }),
    );
    mount(&mut config, "/made", json!({ "type": "tmpfs" }));
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "711 3\n1705 7\n1777 0");
    // A tmpfs that is not filled looks like the directory all the same.
    let mut config = bundle.config();
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|entry| entry["destination"] != "/data");
    mount(&mut config, "/data", json!({ "type": "tmpfs" }));
    mount(
        &mut config,
        "/data/deep",
        json!({ "type": "tmpfs", "options": ["mode=700"] }),
    );
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "750 0\n700 0\n755 0");
    assert!(data.join("large").exists());
}

#[test]
fn ids_of_a_user_namespace_are_kept_in_the_copy() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "stat -c '%a %u' /data /data/file", |config| {
        let line = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
        config["linux"]["uidMappings"] = line.clone();
        config["linux"]["gidMappings"] = line;
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "type": "user" }));
        mount(
            config,
            "/data",
            json!({ "type": "tmpfs", "options": ["tmpcopyup"] }),
        );
    });
    let done = Command::new("chown")
        .args(["-R", "200000:200000"])
        .arg(bundle.file(""))
        .status();
    assert!(done.unwrap().success());
    fs::create_dir(bundle.file("data")).unwrap();
    fs::write(bundle.file("data/file"), "").unwrap();
    own(&bundle.file("data"), 200_004, 0o751);
    own(&bundle.file("data/file"), 200_005, 0o640);
    assert_eq!(bundle.ok(&["run", "one"]), "751 4\n640 5");
}
