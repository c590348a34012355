//! What takes root of the machine, for a container that has a user namespace of its own: devices, limits.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use tests::{Bundle, Run, World, lacking, linux_is_before, tool};

use super::rootless::give;
use crate::rootless::User;

/// Over the initial user namespace.
const CAP_SYS_RESOURCE: u64 = 1 << 24;
/// Root inside is this id.
const FIRST: u32 = 300_000;

/// A bundle whose container has a user namespace of its own.
pub(super) fn bundle<'w>(
    world: &'w World,
    script: &str,
    change: impl FnOnce(&mut Value),
) -> Bundle<'w> {
    let bundle = Bundle::new(world, script, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({ "type": "user" }));
        for field in ["uidMappings", "gidMappings"] {
            config["linux"][field] = json!([{ "containerID": 0, "hostID": FIRST, "size": 65536 }]);
        }
        config["root"]["readonly"] = false.into();
        change(config);
    });
    give(&bundle.file(""), FIRST);
    bundle
}

#[test]
fn devices_are_the_hosts_where_none_can_be_made() {
    let Some(world) = World::new() else { return };
    let script = "cd /dev; stat -c '%n %F %t:%T' fuse null pipe; grep -c ' /dev/null ' /proc/mounts; \
                  chmod 600 fuse 2>/dev/null || echo kept; : < null && echo opened";
    let bundle = bundle(&world, script, |config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640 },
            { "path": "/dev/null", "type": "c", "major": 1, "minor": 3 },
            { "path": "/dev/pipe", "type": "p" },
        ]);
    });
    let mode = || fs::metadata("/dev/fuse").map(|about| about.mode()).unwrap();
    let before = mode();
    let text = bundle.ok(&["run", "one"]);
    let expected = "fuse character special file a:e5\nnull character special file 1:3\npipe fifo 0:0\n1\nkept\nopened";
    assert_eq!(text, expected);
    assert_eq!(mode(), before);
    assert!(
        fs::read_to_string(bundle.log())
            .unwrap()
            .contains("linux.devices[0]: its mode"),
    );
}

/// Before Linux 6.15 the refusal names that.
#[test]
fn a_device_that_the_host_has_not_is_made_outside() {
    let Some(world) = World::new() else { return };
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' none fuse deep/disk; head -c 3 none | wc -c; \
                  mknod other c 1 5 2>/dev/null || echo refused; grep -c ' /dev/none ' /proc/mounts";
    let bundle = bundle(&world, script, |config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/none", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 10, "gid": 11 },
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 228 },
            { "path": "/dev/deep/disk", "type": "b", "major": 1, "minor": 5 },
        ]);
    });
    let done = bundle.call(&["run", "one"]).done();
    if linux_is_before(6, 15) {
        done.expect_refused(&[1]);
        assert!(done.err_text().contains("6.15"), "{}", done.err_text());
        return;
    }
    let expected = "none character special file 1:5 644 10:11\nfuse character special file a:e4 666 0:0\n\
                    deep/disk block special file 1:5 666 0:0\n3\nrefused\n1";
    assert_eq!(done.out_text(), expected, "{}", done.err_text());
    assert!(!fs::exists("/dev/none").unwrap());
}

#[test]
fn a_device_that_cannot_be_made_is_refused() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world, "true", |_| {});
    for (device, why) in [
        (
            json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 5 }),
            "another device",
        ),
        (
            json!({ "path": "/dev/none", "type": "c", "major": 1, "minor": 5, "uid": 70000 }),
            "id map",
        ),
    ] {
        let mut config = bundle.config();
        config["linux"]["devices"] = json!([device]);
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        let said = done.err_text();
        assert!(
            said.contains("\"linux.devices[0]\"") && said.contains(why),
            "{said}"
        );
        assert_eq!(bundle.ok(&["list", "-q"]), "");
    }
}

/// As a caller whose own limits are these.
fn limited(run: Run) -> Run {
    run.wrap_around([
        tool("prlimit").to_str().unwrap(),
        "--nofile=128:256",
        "--core=0:0",
    ])
}

#[test]
fn hard_limits_above_the_callers_own_take_root_of_the_machine() {
    let Some(world) = World::new() else { return };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"));
    let capabilities = u64::from_str_radix(capabilities.unwrap(), 16).unwrap();
    if capabilities & CAP_SYS_RESOURCE == 0 {
        return lacking("needs CAP_SYS_RESOURCE");
    }
    let limits = json!([
        { "type": "RLIMIT_NOFILE", "soft": 300, "hard": 512 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX },
    ]);
    let bundle = bundle(&world, "exec sleep 1000", |config| {
        config["process"]["rlimits"] = limits.clone();
    });
    let print = [
        "exec",
        "one",
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; ulimit -Hc",
    ];
    for own_ids in [true, false] {
        limited(bundle.call(&["run", "-d", "one"]))
            .done()
            .expect_code(0);
        let text = limited(bundle.call(&print)).text();
        assert_eq!(text, "300\n512\nunlimited");
        let pid = bundle.state("one")["pid"].to_string();
        let table = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = table.lines().find(|line| line.contains("open files"));
        let words: Vec<_> = line.unwrap().split_whitespace().collect();
        assert_eq!(words[3..5], ["300", "512"]);
        bundle.ok(&["delete", "--force", "one"]);
        if own_ids {
            let mut config = bundle.config();
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            let list = linux["namespaces"].as_array_mut().unwrap();
            list.retain(|one| one["type"] != "user");
            bundle.write(&config);
        }
    }
}

#[test]
fn a_hard_limit_above_the_callers_own_is_refused_where_nobody_can_give_it() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world, "true", |config| {
        config["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 257 }]);
    });
    let setpriv = tool("setpriv");
    let without = ["--bounding-set=-sys_resource", "--inh-caps=-sys_resource"];
    let words = [&[setpriv.to_str().unwrap()][..], &without[..]].concat();
    let done = limited(bundle.call(&["run", "one"]).wrap_around(words)).done();
    done.expect_refused(&[1]);
    let said = done.err_text();
    assert!(
        said.contains("process.rlimits[0]") && said.contains("256"),
        "{said}"
    );
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn a_user_has_the_limits_that_its_own_allow() {
    let Some(user) = User::single() else { return };
    let bundle = super::rootless::Bundle::new(user, "ulimit -n; ulimit -Hn");
    let limit = |soft: u64, hard: u64| {
        bundle.change(|config| {
            config["process"]["rlimits"] =
                json!([{ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard }]);
        });
    };
    limit(200, 256);
    assert_eq!(limited(bundle.make(&["run"])).text(), "200\n256");
    limit(200, 257);
    let done = limited(bundle.make(&["run"])).done();
    done.expect_refused(&[1]);
    let said = done.err_text();
    assert!(
        said.contains("process.rlimits[0]") && said.contains("256"),
        "{said}"
    );
}
