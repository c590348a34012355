//! linux.resources with cgroups of version 2 that have all controllers: no hierarchy of version 1 has taken one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::{Bundle, Snapshot, World, lacking, until};

use super::cgroups::text;
use super::control::events_of_who_takes_too_much;

const PLACE: &str = "/sys/fs/cgroup";

/// A world on a machine where version 2 has these controllers.
pub(super) fn with_controllers(wanted: &[&str]) -> Option<World> {
    let offered = fs::read_to_string(Path::new(PLACE).join("cgroup.controllers"));
    let offered = offered.unwrap_or_default();
    for one in wanted {
        if !offered.split_whitespace().any(|name| name == *one) {
            lacking(&format!(
                "needs the controller {one} in cgroups of version 2 alone"
            ));
            return None;
        }
    }
    World::new()
}

/// The container's cgroup.
fn own(world: &World) -> PathBuf {
    Path::new(PLACE).join(world.name()).join("one")
}

/// Each file of a cgroup says this.
pub(super) fn hold(place: &Path, expected: &[(&str, &str)]) {
    for (file, value) in expected {
        assert_eq!(text(place.join(file)), *value, "{file}");
    }
}

#[test]
fn limits_of_all_controllers_hold_before_the_program_starts() {
    let all = ["memory", "cpu", "cpuset", "pids", "io", "hugetlb"];
    let Some(world) = with_controllers(&all) else {
        return;
    };
    let script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all";
    let bundle = Bundle::new(&world, script, |config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "burst": 10_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 6 },
            "blockIO": { "weight": 500 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }],
            "unified": { "memory.high": "50331648", "memory.oom.group": "1" },
        });
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    bundle.ok(&["create", "one"]);
    let place = own(&world);
    hold(
        &place,
        &[
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("memory.swap.max", "33554432"),
            ("memory.high", "50331648"),
            ("memory.oom.group", "1"),
            ("cpu.weight", "59"),
            ("cpu.max", "50000 100000"),
            ("cpu.max.burst", "10000"),
            ("cpuset.cpus", "0"),
            ("cpuset.mems", "0"),
            ("pids.max", "6"),
            ("hugetlb.2MB.max", "4194304"),
            ("cgroup.procs", &bundle.state("one")["pid"].to_string()),
        ],
    );
    let weights = ["io.bfq.weight", "io.weight"].map(|name| fs::read_to_string(place.join(name)));
    let weight = weights.into_iter().flatten().next().unwrap();
    assert!(
        ["default 500\n", "default 4950\n"].contains(&weight.as_str()),
        "{weight}"
    );
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
fn update_changes_one_limit_and_counts_swap_beyond_memory() {
    let Some(world) = with_controllers(&["memory", "cpu", "pids"]) else {
        return;
    };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "swap": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 10 },
        });
    });
    bundle.ok(&["run", "-d", "one"]);
    let place = own(&world);
    hold(&place, &[("memory.swap.max", "0")]);
    bundle.ok(&["update", "--memory=128m", "--memory-swap", "192m", "one"]);
    hold(
        &place,
        &[
            ("memory.max", "134217728"),
            ("memory.swap.max", "67108864"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "10"),
        ],
    );
    // What holds is what swap is counted from, where no memory is said.
    bundle.ok(&["update", "--memory-swap", "129m", "one"]);
    bundle.ok(&["update", "--cpu-quota", "2000", "--pids-limit", "-1", "one"]);
    hold(
        &place,
        &[
            ("memory.swap.max", "1048576"),
            ("cpu.max", "2000 100000"),
            ("pids.max", "max"),
        ],
    );
    bundle.ok(&["update", "--memory", "-1", "one"]);
    hold(&place, &[("memory.max", "max"), ("memory.swap.max", "max")]);
    let less = bundle.call(&["update", "--memory=64m", "--memory-swap=32m", "one"]);
    let done = less.done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("memory.swap"),
        "{}",
        done.err_text()
    );
    hold(&place, &[("memory.max", "max")]);
}

#[test]
fn what_is_used_is_told_and_that_memory_has_run_out() {
    if let Some(world) = with_controllers(&["memory", "cpu", "pids"]) {
        events_of_who_takes_too_much(&world);
    }
}

#[test]
fn a_cgroup_of_others_stays_and_one_that_hands_controllers_down_is_entered_beside() {
    let Some(world) = with_controllers(&["memory", "pids"]) else {
        return;
    };
    // The container moves itself down and hands controllers on, as systemd in a container does.
    let script = "cd /sys/fs/cgroup; mkdir own; echo 1 > own/cgroup.procs; echo +pids > cgroup.subtree_control; \
                  echo > /tmp/ready; exec sleep 1000";
    let bundle = Bundle::new(&world, script, |config| {
        config["root"]["readonly"] = false.into();
        let mount =
            json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" });
        config["mounts"].as_array_mut().unwrap().push(mount);
        config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
    });
    let place = own(&world);
    fs::create_dir_all(&place).unwrap();
    bundle.ok(&["run", "-d", "one"]);
    until("the controllers", || {
        bundle.file("tmp/ready").exists().then_some(())
    });
    let joined = bundle.ok(&["exec", "one", "cat", "/proc/self/cgroup"]);
    assert_eq!(joined.lines().next_back(), Some("0::/own"));
    bundle.ok(&["delete", "--force", "one"]);
    assert!(place.exists(), "it was there before");
    assert!(!place.join("own").exists());
    fs::remove_dir(&place).unwrap();
}

#[test]
fn where_the_leader_has_gone_to_is_where_others_go() {
    let Some(world) = with_controllers(&["memory", "pids"]) else {
        return;
    };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let other = own(&world).with_file_name("other");
    fs::create_dir(&other).unwrap();
    let leader = bundle.state("one")["pid"].to_string();
    fs::write(other.join("cgroup.procs"), leader).unwrap();
    fs::remove_dir(own(&world)).unwrap();
    let joined = bundle.ok(&["exec", "one", "cat", "/proc/self/cgroup"]);
    assert_eq!(joined, "0::/../other");
    bundle.ok(&["delete", "--force", "one"]);
    fs::remove_dir(&other).unwrap();
}
