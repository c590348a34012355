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
        ("mount", "/proc/self/ns/net", "EINVAL"),
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

const HOUR: f64 = 3600.0;

/// A new time namespace with the boot a thousand hours ago, and the monotonic clock likewise but for some.
fn with_time(config: &mut Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "time" }));
    config["linux"]["timeOffsets"] = json!({
        "boottime": { "secs": 3_600_000 },
        "monotonic": { "secs": 7_200_000, "nanosecs": 5 },
    });
}

const TIMES: &str = "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets";

/// By how many hours the boot is longer ago than on the host, and the offsets, as [`TIMES`] has printed them.
fn times(printed: &str) -> (f64, Vec<String>) {
    let (uptime, offsets) = printed.split_once('\n').unwrap();
    let own = fs::read_to_string("/proc/uptime").unwrap();
    let own: f64 = own.split_whitespace().next().unwrap().parse().unwrap();
    let ahead = (uptime.parse::<f64>().unwrap() - own) / HOUR;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    (ahead.round(), offsets.lines().map(words).collect())
}

#[test]
fn a_time_namespace_has_clocks_of_its_own() {
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        return tests::lacking("needs time namespaces (CONFIG_TIME_NS)");
    }
    for user in [false, true] {
        let Some(world) = World::new() else { return };
        let bundle = Bundle::new(&world, &format!("{TIMES}; exec sleep 1000"), |config| {
            with_time(config);
            if user {
                with_ids(config, 100_000);
            }
        });
        if user {
            give(bundle.dir.join("rootfs"), 100_000);
        }
        let hook = ["/bin/sh", "-c", "readlink /proc/self/ns/time > hooked"];
        let mut config = bundle.config();
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": hook }] });
        bundle.write(&config);
        let client = bundle.call(&["run", "one"]).spawn();
        until("the container", || {
            let state = bundle.call(&["state", "one"]).done();
            state.out_text().contains("running").then_some(())
        });
        let one = pid(&bundle, "one").to_string();
        assert_ne!(inode(&one, "time"), inode("self", "time"));
        let host = fs::read_link("/proc/self/ns/time").unwrap();
        let hooked = fs::read_to_string(bundle.dir.join("hooked")).unwrap();
        assert_eq!(hooked.trim_end(), host.to_str().unwrap());
        let offsets = ["monotonic 7200000 5", "boottime 3600000 0"];
        let script = format!("readlink /proc/self/ns/time; {TIMES}");
        let printed = bundle.ok(&["exec", "one", "sh", "-c", &script]);
        let (link, rest) = printed.split_once('\n').unwrap();
        assert_eq!(link, format!("time:[{}]", inode(&one, "time")));
        assert_eq!(times(rest), (1000.0, offsets.map(str::to_owned).into()));
        bundle.ok(&["kill", "one", "KILL"]);
        let printed = client.finish().out_text();
        assert_eq!(times(&printed), (1000.0, offsets.map(str::to_owned).into()));
    }
}

#[test]
fn the_time_of_another_is_joined_and_not_changed() {
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        return tests::lacking("needs time namespaces (CONFIG_TIME_NS)");
    }
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", with_time);
    bundle.ok(&["run", "-d", "pod"]);
    let good = bundle.config();
    let mut config = good.clone();
    let path = format!("/proc/{}/ns/time", pid(&bundle, "pod"));
    set_path(&mut config, "time", &path);
    config["linux"]["cgroupsPath"] = bundle.cgroup("two").into();
    config["process"]["args"] = json!(["sh", "-c", TIMES]);
    let before = Snapshot::of(&world);
    bundle.refuses(&config, "linux.timeOffsets");
    config["linux"]["timeOffsets"] = Value::Null;
    bundle.write(&config);
    let (ahead, offsets) = times(&bundle.ok(&["run", "one"]));
    assert_eq!((ahead, offsets.len()), (1000.0, 2));

    for (offsets, told) in [
        (json!({ "realtime": { "secs": 1 } }), "timeOffsets.realtime"),
        (
            json!({ "boottime": { "nanosecs": 1_000_000_000 } }),
            "nanosecs",
        ),
        (json!({ "boottime": { "secs": -1_000_000_000 } }), "ERANGE"),
    ] {
        let mut config = good.clone();
        config["linux"]["cgroupsPath"] = bundle.cgroup("two").into();
        config["linux"]["timeOffsets"] = offsets;
        bundle.refuses(&config, told);
    }
    before.assert_same(&world);
}
