//! CONTRACT 6: deaths by signals that have no name, and by one of several.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use tests::{World, tool};

/// SIGRTMIN is 34 for programs that use a C library's threads.
const REAL_TIME: i32 = 40;

#[test]
fn a_real_time_signal_is_told_by_launch() {
    let Some(world) = World::new() else { return };
    // As PID 1 itself a command is immune to it: the kernel drops what PID 1 has no handler for.
    let root = world.create();
    let done = world
        .launch_run(&root)
        .opt("--init")
        .sh("busybox kill -40 $$")
        .done();
    assert_eq!(done.status.signal(), Some(REAL_TIME), "{:?}", done.status);
}

#[test]
fn a_real_time_signal_is_told_by_pipe_wrap() {
    let Some(world) = World::new() else { return };
    let sh = tool("sh");
    let words = [sh.to_str().expect("path"), "-c", "kill -40 $$"];
    let done = world.bare(["pipe-wrap"]).cmd(words).done();
    assert_eq!(done.status.signal(), Some(REAL_TIME), "{:?}", done.status);
}

#[test]
fn the_first_of_several_stop_signals_ends_a_launched_command() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let (env, sh) = (tool("env"), tool("sh"));
    // Blocked and pending, they survive the execve of the client, who finds them before there is a container.
    let wrap = [
        env.to_str().expect("path"),
        "--block-signal=HUP,TERM",
        sh.to_str().expect("path"),
        "-c",
        "kill -TERM $$; kill -HUP $$; exec \"$@\"",
        "sh",
    ];
    let done = world
        .launch_run(&root)
        .wrap(wrap)
        .sh("exec sleep 100000")
        .done();
    // Of what is pending the lower number comes first (signal(7)).
    let expected = Some(Signal::SIGHUP as i32);
    assert_eq!(done.signal(), expected, "{:?}", done.status);
}
