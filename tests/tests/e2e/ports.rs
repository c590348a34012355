//! Ports below 1024 on a network that the container shares with its caller: refused where it has a user namespace of its
//! own, and what lifts that.

use tests::{Rootfs, Run, World, tool};

/// A call on a network of the test's own, which belongs to the caller's user namespace as the host's does. `setting` is
/// the first port that everybody may have.
fn on_a_network(run: Run, setting: u16) -> Run {
    let script = format!(
        "echo {setting} > /proc/sys/net/ipv4/ip_unprivileged_port_start && exec \"$0\" \"$@\""
    );
    let words = [
        tool("unshare").into_os_string(),
        "--net".into(),
        tool("sh").into_os_string(),
        "-c".into(),
        script.into(),
    ];
    run.wrap(words)
}

/// Listens on port 80 until it is seen to listen; says what came of it.
const LISTEN: &str = "nc -l -p 80 < /dev/null & \
     while kill -0 $! 2> /dev/null; do grep -q ':0050 ' /proc/self/net/tcp* && echo bound && kill -9 $! && exit 0; done; \
     wait $!; echo refused";

fn outcome(world: &World, root: &Rootfs, userns: &str, setting: u16) -> String {
    let run = world.launch_run(root).opt(format!("--userns={userns}"));
    let done = on_a_network(run.sh(LISTEN), setting).done();
    let text = done.out_text();
    if text.trim_end() == "refused" {
        let error = done.err_text();
        assert!(error.contains("Permission denied"), "{error}");
    }
    text.trim_end().to_owned()
}

#[test]
fn a_privileged_port_needs_the_callers_user_namespace_or_a_setting_of_the_network() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    for (userns, setting, expected) in [
        ("identity", 1024, "refused"),
        ("host", 1024, "bound"),
        ("identity", 80, "bound"),
    ] {
        let found = outcome(&world, &root, userns, setting);
        assert_eq!(found, expected, "--userns={userns}, setting {setting}");
    }
}
