//! Cgroups of version 2 in a user namespace: whose they are, and what is seen of them.

use nix::unistd::Uid;
use serde_json::json;
use tests::{Bundle, World};

use super::cgroups_second::with_controllers;
use super::own_ids;
use super::systemd::{call, with_systemd};

/// Says whose the cgroup and two files of it are, and whether there can be one in it.
const LOOK: &str =
    "cd /sys/fs/cgroup; stat -c %u . cgroup.procs memory.max; mkdir own 2>/dev/null && echo made";

/// A container with root of its own that has its cgroups mounted, with these options.
fn bundle<'w>(world: &'w World, options: &[&str]) -> Bundle<'w> {
    own_ids::bundle(world, LOOK, |config| {
        config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options,
        }));
    })
}

/// What nobody in the container owns.
const OTHERS: &str = "65534\n65534\n65534";

#[test]
fn a_cgroup_is_the_containers_where_it_may_write_to_it() {
    let Some(world) = with_controllers(&["memory"]) else {
        return;
    };
    assert!(Uid::effective().is_root());
    assert_eq!(bundle(&world, &[]).ok(&["run", "one"]), "0\n0\n65534\nmade");
    assert_eq!(
        bundle(&world, &["ro"])
            .call(&["run", "one"])
            .done()
            .out_text()
            .trim_end(),
        OTHERS
    );
}

#[test]
fn so_is_a_scope_of_systemds() {
    let Some(world) = with_systemd() else { return };
    let path = |name: &str| format!("system.slice:{}:{name}", world.name());
    let own = bundle(&world, &[]);
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
    let said = done.out_text();
    assert!(
        said.starts_with("65534\n65534\n"),
        "{said} {}",
        done.err_text()
    );
    assert!(!said.contains("made"), "{said}");
}
