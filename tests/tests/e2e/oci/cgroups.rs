//! linux.cgroupsPath and linux.resources: what is limited, and that nothing of it stays.
//!
//! The hierarchies are those that the machine has; version 2 alone is shown where one of it is there, by covering the
//! others for the programs of a test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Bundle, Run, Snapshot, World, cgroups_of, lacking, processes_of, tool, until};

/// A container's cgroup in a hierarchy of version 1.
pub(super) fn first(world: &World, controller: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup")
        .join(controller)
        .join(world.name())
        .join("one")
}

/// A world on a machine with these controllers in hierarchies of version 1; nothing, which is said, on another one.
pub(super) fn with_first(controllers: &[&str]) -> Option<World> {
    for controller in controllers {
        let place = Path::new("/sys/fs/cgroup").join(controller);
        if !place.join("notify_on_release").exists() {
            lacking(&format!("needs {controller} in a hierarchy of version 1"));
            return None;
        }
    }
    World::new()
}

/// Whether the hierarchy of this line of `/proc/PID/cgroup` is one that can be entered: it is listed for as long as one
/// of its cgroups is remembered, also when it is no longer mounted anywhere.
pub(super) fn is_mounted(line: &str) -> bool {
    let name = line.split(':').nth(1).unwrap();
    let place = name.strip_prefix("name=").unwrap_or(name);
    let mounted = Path::new("/sys/fs/cgroup").join(place);
    place.is_empty() && second().is_some() || mounted.join("cgroup.procs").exists()
}

/// Where version 2 is mounted.
pub(super) fn second() -> Option<&'static Path> {
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(Path::new)
        .into_iter()
        .find(|place| place.join("cgroup.controllers").exists())
}

/// The same on a machine where there are cgroups of version 2.
pub(super) fn with_second() -> Option<World> {
    if second().is_none() {
        lacking("needs cgroups of version 2");
        return None;
    }
    World::new()
}

/// A call on a host that has nothing but version 2.
pub(super) fn unified(bundle: &Bundle<'_>, words: &[&str]) -> Run {
    let only = format!(
        "mount --bind {} /sys/fs/cgroup; exec \"$@\"",
        second().unwrap().display()
    );
    let unshare = tool("unshare");
    let wrap = [
        unshare.to_str().unwrap(),
        "--mount",
        "/bin/sh",
        "-c",
        &only,
        "sh",
    ];
    bundle
        .call(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .wrap_around(wrap)
}

pub(super) fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
        .trim()
        .to_owned()
}

fn limited(resources: Value) -> impl FnOnce(&mut Value) {
    |config| config["linux"]["resources"] = resources
}

#[test]
fn limits_hold_before_the_program_starts() {
    let Some(world) = with_first(&["memory", "cpu", "cpuset", "pids", "blkio", "devices"]) else {
        return;
    };
    let resources = json!({
        "memory": { "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20, "swappiness": 7, "disableOOMKiller": true },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 6 },
        "blockIO": { "weight": 0 },
    });
    let script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all";
    let bundle = Bundle::new(&world, script, limited(resources));
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    bundle.ok(&["create", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.memsw.limit_in_bytes", "100663296"),
        ("memory", "memory.swappiness", "7"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "6"),
    ] {
        let place = first(&world, controller);
        assert_eq!(text(place.join(file)), value, "{file}");
        assert_eq!(text(place.join("cgroup.procs")), pid, "{controller}");
    }
    let oom = text(first(&world, "memory").join("memory.oom_control"));
    assert!(oom.contains("oom_kill_disable 1"), "{oom}");
    bundle.ok(&["delete", "--force", "one"]);
    before.assert_same(&world);
    let done = bundle.call(&["run", "one"]).done();
    assert!(
        !done.out_text().contains("all"),
        "it has forked as often as it liked"
    );
    before.assert_same(&world);
}

#[test]
fn devices_are_those_that_are_allowed() {
    let script = "mknod /tmp/fuse c 10 229; mknod /tmp/full c 1 7; mknod /tmp/loop c 10 237; \
                  for n in fuse full loop; do (: < /tmp/$n) 2> /dev/null && echo read $n; \
                  (: > /tmp/$n) 2> /dev/null && echo write $n; done; head -c 3 /dev/zero | wc -c";
    let change = |config: &mut Value| {
        config["root"]["readonly"] = false.into();
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
        }
        config["linux"]["resources"] = json!({ "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "r" },
        ] });
    };
    if let Some(world) = with_first(&["devices"]) {
        let bundle = Bundle::new(&world, script, change);
        assert_eq!(
            bundle.ok(&["run", "one"]),
            "read fuse\nread full\nwrite full\n3"
        );
    }
    if let Some(world) = with_second() {
        let bundle = Bundle::new(&world, script, change);
        let printed = unified(&bundle, &["run", "one"]).text();
        assert_eq!(printed, "read fuse\nread full\nwrite full\n3");
        // Of what is wanted together, each must be allowed.
        let config = bundle.config();
        let mut other = config.clone();
        other["process"]["args"][2] =
            "mknod /tmp/both c 10 229; (: <> /tmp/both) 2> /dev/null && echo both; echo end".into();
        bundle.write(&other);
        assert_eq!(unified(&bundle, &["run", "one"]).text(), "end");
    }
}

#[test]
fn version_1_is_not_told_what_it_cannot_say() {
    let Some(world) = with_first(&["devices"]) else {
        return;
    };
    let bundle = Bundle::new(
        &world,
        "",
        limited(json!({ "devices": [
        { "allow": true, "type": "c", "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwm" },
    ] })),
    );
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("linux.resources.devices"),
        "{}",
        done.err_text()
    );
}

#[test]
fn what_the_host_has_not_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    for (resources, field) in [
        (
            json!({ "rdma": { "card": { "hcaHandles": 1 } } }),
            "linux.resources.rdma.card",
        ),
        (
            json!({ "unified": { "nosuch.max": "1" } }),
            "linux.resources.unified.nosuch.max",
        ),
        (
            json!({ "unified": { "../x": "1" } }),
            "linux.resources.unified.../x",
        ),
        (
            json!({ "hugepageLimits": [{ "pageSize": "../2MB", "limit": 1 }] }),
            "hugepageLimits[0]",
        ),
        (
            json!({ "cpu": { "cpus": "4000" } }),
            "linux.resources.cpu.cpus",
        ),
        (
            json!({ "devices": [{ "allow": true, "access": "x" }] }),
            "devices[0].access",
        ),
    ] {
        let bundle = Bundle::new(&world, "", limited(resources));
        fs::create_dir_all(bundle.root()).unwrap();
        let before = Snapshot::of(&world);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(field), "{}", done.err_text());
        before.assert_same(&world);
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn a_cgroup_of_others_is_left_alone() {
    let Some(world) = with_first(&["pids"]) else {
        return;
    };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let place = first(&world, "pids");
    fs::create_dir_all(&place).unwrap();
    // Empty: it is used, and stays.
    bundle.ok(&["run", "-d", "one"]);
    assert_eq!(
        text(place.join("cgroup.procs")),
        bundle.state("one")["pid"].to_string()
    );
    bundle.ok(&["delete", "--force", "one"]);
    assert_eq!(cgroups_of(&world), [place.parent().unwrap(), &place]);
    // With a process: neither is touched.
    let mut child = std::process::Command::new(tool("sleep"))
        .arg("1000")
        .spawn()
        .unwrap();
    fs::write(place.join("cgroup.procs"), child.id().to_string()).unwrap();
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("there are processes in it"),
        "{}",
        done.err_text()
    );
    bundle.ok(&["delete", "--force", "one"]);
    assert_eq!(text(place.join("cgroup.procs")), child.id().to_string());
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    child.wait().unwrap();
    until("an empty cgroup", || fs::remove_dir(&place).ok());
    fs::remove_dir(place.parent().unwrap()).unwrap();
}

/// What a container makes of its own cgroups, with processes in them.
const NESTED: &str = "cd $0; mkdir -p a/b/c d; for n in a/b/c d; do sleep 1000 & echo $! > $n/cgroup.procs; done; \
                      echo > /tmp/ready; exec sleep 1000";

fn nesting(config: &mut Value) {
    config["root"]["readonly"] = false.into();
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" });
    config["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn delete_takes_what_the_container_has_made() {
    for only_second in [false, true] {
        let made = if only_second {
            with_second()
        } else {
            with_first(&["pids", "freezer"])
        };
        let Some(world) = made else { continue };
        let place = if only_second {
            "/sys/fs/cgroup"
        } else {
            "/sys/fs/cgroup/pids"
        };
        let bundle = Bundle::new(&world, &NESTED.replace("$0", place), nesting);
        fs::create_dir_all(bundle.root()).unwrap();
        let before = Snapshot::of(&world);
        let call = |words: &[&str]| {
            if only_second {
                unified(&bundle, words)
            } else {
                bundle.call(words)
            }
        };
        let _ = call(&["run", "-d", "one"]).text();
        until("the processes", || {
            bundle.file("tmp/ready").exists().then_some(())
        });
        let inside = |name: &str| {
            cgroups_of(&world)
                .into_iter()
                .any(|path| path.ends_with(Path::new("one").join(name)))
        };
        assert!(inside("a/b/c") && inside("d"), "{:?}", cgroups_of(&world));
        fs::remove_file(bundle.file("tmp/ready")).unwrap();
        let _ = call(&["delete", "--force", "one"]).text();
        assert!(processes_of(&world.dir).is_empty());
        before.assert_same(&world);
    }
}

#[test]
fn the_container_sees_its_own_cgroups_alone() {
    let Some(world) = with_first(&["pids", "memory"]) else {
        return;
    };
    let script = "cat /proc/self/cgroup; echo; ls /sys/fs/cgroup/pids | grep -c sce2e; \
                  mkdir /sys/fs/cgroup/pids/x 2>&1; touch /sys/fs/cgroup/x 2>&1; cat /sys/fs/cgroup/pids/pids.max";
    for own_namespace in [true, false] {
        let bundle = Bundle::new(&world, script, |config| {
            nesting(config);
            config["mounts"].as_array_mut().unwrap().last_mut().unwrap()["options"] = json!(["ro"]);
            config["linux"]["resources"] = json!({ "pids": { "limit": 77 } });
            if !own_namespace {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|one| one["type"] != "cgroup");
            }
        });
        let printed = bundle.ok(&["run", "one"]);
        let own = if own_namespace {
            "/".to_owned()
        } else {
            format!("/{}/one", world.name())
        };
        let (cgroups, rest) = printed.split_once("\n\n").unwrap();
        for line in cgroups.lines().filter(|line| is_mounted(line)) {
            assert!(line.ends_with(&format!(":{own}")), "{printed}");
        }
        let mut lines = rest.lines();
        assert_eq!(lines.next(), Some("0"), "{printed}");
        assert!(lines.next().unwrap().contains("Read-only"), "{printed}");
        assert!(lines.next().unwrap().contains("Read-only"), "{printed}");
        assert_eq!(lines.next(), Some("77"));
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn version_2_alone_is_enough() {
    let Some(world) = with_second() else { return };
    let script = "cat /proc/self/cgroup | grep ^0; cat /sys/fs/cgroup/cgroup.max.depth; head -n 1 /sys/fs/cgroup/cgroup.procs";
    let bundle = Bundle::new(&world, script, |config| {
        nesting(config);
        config["linux"]["resources"] = json!({ "unified": { "cgroup.max.depth": "3" } });
    });
    assert_eq!(unified(&bundle, &["run", "one"]).text(), "0::/\n3\n1");
    let lacks = |resources: Value, field: &str| {
        let mut config = bundle.config();
        config["linux"]["resources"] = resources;
        bundle.write(&config);
        let done = unified(&bundle, &["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(field), "{}", done.err_text());
    };
    if !text(second().unwrap().join("cgroup.controllers")).contains("memory") {
        lacks(
            json!({ "memory": { "limit": 1 << 20 } }),
            "linux.resources.memory",
        );
    }
    lacks(
        json!({ "network": { "classID": 5 } }),
        "linux.resources.network.classID",
    );
}
