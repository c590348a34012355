//! Namespaces of others, and user namespaces.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World, processes_of, until};

const NAMES: [(&str, &str); 5] = [
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("pid", "pid"),
    ("cgroup", "cgroup"),
];

/// Puts a path at the namespace of a type, which is added where it is not there.
fn set_path(config: &mut Value, kind: &str, path: &str) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|one| one["type"] != kind);
    list.push(json!({ "type": kind, "path": path }));
}

fn pid(bundle: &Bundle<'_>, id: &str) -> i64 {
    bundle.state(id)["pid"].as_i64().unwrap()
}

fn inode(pid: &str, name: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{name}"))
        .unwrap()
        .ino()
}

#[test]
fn a_container_is_in_the_namespaces_of_another() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "pod"]);
    let pod = pid(&bundle, "pod").to_string();
    let mut config = bundle.config();
    for (kind, name) in NAMES {
        set_path(&mut config, kind, &format!("/proc/{pod}/ns/{name}"));
    }
    config["hostname"] = "renamed".into();
    config["linux"]["cgroupsPath"] = bundle.cgroup("two").into();
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    let one = pid(&bundle, "one").to_string();
    for (_, name) in NAMES {
        assert_eq!(inode(&one, name), inode(&pod, name), "{name}");
        assert_ne!(inode(&one, name), inode("self", name), "{name}");
    }
    assert_ne!(inode(&one, "mnt"), inode(&pod, "mnt"));
    // Of both a command finds itself in the same places.
    for id in ["pod", "one"] {
        let script = "hostname; ls -l /proc/self/ns | grep -c .; cat /proc/1/comm";
        let text = bundle.ok(&["exec", id, "sh", "-c", script]);
        assert!(
            text.starts_with("renamed\n") && text.ends_with("sleep"),
            "{text}"
        );
    }
    bundle.ok(&["delete", "--force", "one"]);
    assert_eq!(bundle.state("pod")["status"], "running");
}

#[test]
fn a_path_that_is_not_such_a_namespace_is_refused() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    let good = bundle.config();
    let before = Snapshot::of(&world);
    for (kind, path, told) in [
        ("network", "/proc/self/ns/ipc", "EINVAL"),
        ("network", "/dev/null", "EINVAL"),
        ("network", "/nonexistent", "ENOENT"),
        ("network", "proc/self/ns/net", "is not absolute"),
        (
            "mount",
            "/proc/self/ns/mnt",
            "has a mount namespace of its own",
        ),
    ] {
        let mut config = good.clone();
        set_path(&mut config, kind, path);
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        let message = bundle.last_log()["msg"].to_string();
        assert!(
            message.contains("linux.namespaces[") && message.contains(told),
            "{message}"
        );
    }
    bundle.write(&good);
    before.assert_same(&world);
}

/// A configuration with a user namespace in which root is this id.
fn with_ids(config: &mut Value, first: u32) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "user" }));
    for field in ["uidMappings", "gidMappings"] {
        config["linux"][field] = json!([{ "containerID": 0, "hostID": first, "size": 65536 }]);
    }
}

/// Gives a tree to somebody.
fn give(path: PathBuf, id: u32) {
    std::os::unix::fs::lchown(&path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(&path).unwrap() {
            give(entry.unwrap().path(), id);
        }
    }
}

#[test]
fn a_user_namespace_has_the_maps_of_the_configuration() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        with_ids(config, 300_000);
        config["process"]["user"] = json!({ "uid": 5, "gid": 6, "additionalGids": [7] });
        config["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
        config["root"]["readonly"] = false.into();
    });
    give(bundle.file(""), 300_000);
    chown(bundle.dir.join("rootfs"), Some(300_000), Some(300_000)).unwrap();
    bundle.ok(&["run", "-d", "one"]);
    let one = pid(&bundle, "one");
    let status = fs::read_to_string(format!("/proc/{one}/status")).unwrap();
    assert!(status.contains("Uid:\t300005\t"), "{status}");
    assert!(status.contains("Gid:\t300006\t"), "{status}");
    let script = "cat /proc/self/uid_map; id; ulimit -n; stat -c %u /proc/1";
    let text = bundle.ok(&["exec", "one", "sh", "-c", script]);
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(words[..3], ["0", "300000", "65536"], "{text}");
    assert!(text.contains("uid=5 gid=6"), "{text}");
    assert!(text.contains("\n100\n"), "{text}");
    let done = bundle
        .call(&["exec", "--user", "0", "one", "touch", "/tmp/mark"])
        .done();
    done.expect_code(0);
    assert_eq!(
        fs::metadata(bundle.file("tmp/mark")).unwrap().uid(),
        300_000
    );
}

#[test]
fn a_user_namespace_of_another_is_joined_with_what_it_owns() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        with_ids(config, 300_000)
    });
    give(bundle.file(""), 300_000);
    bundle.ok(&["run", "-d", "pod"]);
    let pod = pid(&bundle, "pod").to_string();
    let mut config = bundle.config();
    for (kind, name) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
        set_path(&mut config, kind, &format!("/proc/{pod}/ns/{name}"));
    }
    config["linux"]["cgroupsPath"] = bundle.cgroup("two").into();
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    let one = pid(&bundle, "one").to_string();
    for name in ["user", "net", "ipc"] {
        assert_eq!(inode(&one, name), inode(&pod, name), "{name}");
    }
    assert_eq!(bundle.ok(&["exec", "one", "id", "-u"]), "0");
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| with_ids(config, 300_000));
    let good = bundle.config();
    let line = |inside: u32, outside: u32, size: u32| json!({ "containerID": inside, "hostID": outside, "size": size });
    for (field, lines, told) in [
        ("uidMappings", json!([]), "is missing"),
        ("gidMappings", json!([line(0, 5, 0)]), "the range is empty"),
        (
            "uidMappings",
            json!([line(0, 5, 2), line(1, 9, 1)]),
            "share an id",
        ),
    ] {
        let mut config = good.clone();
        config["linux"][field] = lines;
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        let message = bundle.last_log()["msg"].to_string();
        assert!(
            message.contains(field) && message.contains(told),
            "{message}"
        );
    }
    let mut config = good;
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "user");
    bundle.write(&config);
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("needs a user namespace"),
        "{}",
        done.err_text()
    );
}

#[test]
fn without_a_pid_namespace_its_processes_are_ended_by_their_cgroups() {
    let Some(world) = World::new() else { return };
    let script = "sleep 1000 & echo > /tmp/ready; exec sleep 1000";
    let bundle = Bundle::new(&world, script, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
        config["root"]["readonly"] = false.into();
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let ready = bundle.file("tmp/ready");
    let before = Snapshot::of(&world);
    for ending in [&["kill", "one", "KILL"][..], &["delete", "--force", "one"]] {
        bundle.ok(&["run", "-d", "one"]);
        until("both", || ready.exists().then_some(()));
        let one = pid(&bundle, "one").to_string();
        assert_eq!(inode(&one, "pid"), inode("self", "pid"));
        let own = bundle.ok(&["exec", "one", "sh", "-c", "echo $PPID; cat /proc/1/comm"]);
        let init = fs::read_to_string("/proc/1/comm").unwrap();
        assert!(own.ends_with(init.trim_end()), "{own}");
        assert_eq!(processes_of(&world.dir).len(), 2);
        bundle.ok(ending);
        until("both to end", || {
            processes_of(&world.dir).is_empty().then_some(())
        });
        let _ = bundle.call(&["delete", "--force", "one"]).done();
        fs::remove_file(&ready).unwrap();
        before.assert_same(&world);
    }
    // Nobody could end them.
    let done = bundle
        .call(&["--cgroup-manager=disabled", "create", "one"])
        .done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("linux.namespaces"),
        "{}",
        done.err_text()
    );
    before.assert_same(&world);
}
