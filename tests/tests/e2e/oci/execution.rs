//! linux.personality and linux.memoryPolicy, of the container's process and of those that join it.

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World, lacking};

const SHOW: &str =
    "cat /proc/self/personality; uname -m; head -n 1 /proc/self/numa_maps | cut -d' ' -f2";

fn run_and_join(world: &World, change: impl Fn(&mut Value)) -> [String; 2] {
    let bundle = Bundle::new(world, SHOW, &change);
    let run = bundle.ok(&["run", "one"]);
    let mut config = bundle.config();
    config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    let joined = bundle.ok(&["exec", "one", "sh", "-c", SHOW]);
    [run, joined]
}

#[test]
fn a_container_has_the_personality_that_it_is_given() {
    let Some(world) = World::new() else { return };
    let both = run_and_join(&world, |config| {
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
    });
    for text in both {
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "00000008", "{text}");
        if cfg!(target_arch = "x86_64") {
            assert_eq!(lines[1], "i686", "{text}");
        }
    }
}

#[test]
fn the_callers_personality_is_replaced() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SHOW, |config| {
        config["linux"]["personality"] = json!({ "domain": "LINUX" });
    });
    let run = bundle.call(&["run", "one"]);
    let text = run.wrap_around(["/bin/busybox", "linux32"]).text();
    assert!(text.starts_with("00000000\n"), "{text}");
}

#[test]
fn memory_comes_from_where_the_policy_says() {
    if !fs::exists("/proc/self/numa_maps").unwrap() {
        return lacking("needs CONFIG_NUMA");
    }
    for (policy, shown) in [
        (
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }),
            "bind=static:0",
        ),
        (json!({ "mode": "MPOL_DEFAULT" }), "default"),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "" }), "local"),
    ] {
        let Some(world) = World::new() else { return };
        let both = run_and_join(&world, |config| {
            config["linux"]["memoryPolicy"] = policy.clone();
        });
        for text in both {
            assert_eq!(text.lines().last(), Some(shown), "{text}");
        }
    }
}

#[test]
fn what_is_no_such_thing_is_refused_by_its_name() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    for (name, value, told) in [
        (
            "personality",
            json!({ "domain": "BSD" }),
            "personality.domain",
        ),
        (
            "personality",
            json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }),
            "personality.flags",
        ),
        (
            "memoryPolicy",
            json!({ "mode": "MPOL_NOSUCH" }),
            "memoryPolicy.mode",
        ),
        (
            "memoryPolicy",
            json!({ "mode": "MPOL_BIND" }),
            "memoryPolicy.nodes",
        ),
        (
            "memoryPolicy",
            json!({ "mode": "MPOL_LOCAL", "nodes": "0" }),
            "memoryPolicy.nodes",
        ),
        (
            "memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "1-0" }),
            "memoryPolicy.nodes",
        ),
        (
            "memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NOSUCH"] }),
            "memoryPolicy.flags",
        ),
        // What only the kernel finds.
        (
            "memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "1023" }),
            "memoryPolicy",
        ),
    ] {
        let mut config = good.clone();
        config["linux"][name] = value;
        bundle.refuses(&config, told);
        before.assert_same(&world);
    }
    bundle.write(&good);
}
