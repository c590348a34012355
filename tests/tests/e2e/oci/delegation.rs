//! Cgroups of version 2 in a user namespace: whose they are, and what is seen of them.

use serde_json::json;
use tests::{Bundle, World};

use super::cgroups_second::with_controllers;
use super::own_ids;
use super::systemd::{call, with_systemd};

/// Says whose the cgroup and two files of it are, and whether there can be one in it.
const LOOK: &str =
    "cd /sys/fs/cgroup; stat -c %u . cgroup.procs memory.max; mkdir own 2>/dev/null && echo made";

/// A container with root of its own that has its cgroups mounted.
fn bundle(world: &World) -> Bundle<'_> {
    own_ids::bundle(world, LOOK, |config| {
        config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"
        }));
    })
}

#[test]
fn a_cgroup_is_the_containers_where_it_may_write_to_it() {
    let Some(world) = with_controllers(&["memory"]) else {
        return;
    };
    let own = bundle(&world);
    assert_eq!(own.ok(&["run", "one"]), "0\n0\n65534\nmade");
    let mut config = own.config();
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.last_mut().unwrap()["options"] = json!(["ro"]);
    own.write(&config);
    let done = own.call(&["run", "two"]).done();
    assert_eq!(done.out_text().trim_end(), "65534\n65534\n65534");
}

#[test]
fn so_is_a_scope_of_systemds() {
    let Some(world) = with_systemd() else { return };
    let path = |name: &str| format!("system.slice:{}:{name}", world.name());
    let own = bundle(&world);
    let mut config = own.config();
    config["linux"]["cgroupsPath"] = path("one").into();
    own.write(&config);
    assert_eq!(call(&own, &["run", "one"]).text(), "0\n0\n65534\nmade");
    // Without a cgroup namespace it sees the host's, and may change nothing there.
    config["linux"]["cgroupsPath"] = path("two").into();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "cgroup");
    own.write(&config);
    let done = call(&own, &["run", "two"]).done();
    // A root has no limits.
    assert_eq!(
        done.out_text().trim_end(),
        "65534\n65534",
        "{}",
        done.err_text()
    );
}
