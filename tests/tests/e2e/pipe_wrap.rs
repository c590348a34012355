//! CONTRACT 1: `pipe-wrap`.

use std::fs;

use nix::sys::signal::Signal;
use tests::{Run, World, until, write_file};

fn wrap(world: &World) -> Run {
    world.bare(["pipe-wrap"]).env("PATH", "/usr/bin:/bin")
}

#[test]
fn dev_stderr_can_be_opened_when_the_callers_streams_are_sockets() {
    let Some(world) = World::new() else { return };
    let done = wrap(&world)
        .sh("echo out > /dev/stdout; echo err > /dev/stderr")
        .done();
    assert_eq!(done.expect_ok(), "out");
    assert_eq!(done.err_text(), "err");
}

#[test]
fn stdout_and_stderr_are_pipes() {
    let Some(world) = World::new() else { return };
    for run in [wrap(&world), wrap(&world).pipes()] {
        let text = run
            .sh("for fd in 1 2; do readlink /proc/$$/fd/$fd; done")
            .text();
        assert!(
            text.lines().count() == 2 && text.lines().all(|line| line.starts_with("pipe:")),
            "{text}"
        );
    }
}

#[test]
fn stdin_is_passed_on() {
    let Some(world) = World::new() else { return };
    assert_eq!(wrap(&world).input("typed\n").cmd(["cat"]).text(), "typed");
}

#[test]
fn the_exit_code_is_the_commands() {
    let Some(world) = World::new() else { return };
    for code in [0, 1, 42, 125, 126, 127, 143, 255] {
        wrap(&world)
            .sh(&format!("exit {code}"))
            .done()
            .expect_code(code);
    }
    wrap(&world)
        .cmd(["no-such-command"])
        .done()
        .expect_refused(&[127]);
    wrap(&world)
        .cmd(["/etc/passwd"])
        .done()
        .expect_refused(&[126]);
}

#[test]
fn death_by_signal_is_the_commands() {
    let Some(world) = World::new() else { return };
    for (name, number) in [("TERM", 15), ("KILL", 9), ("USR1", 10), ("PIPE", 13)] {
        assert_eq!(
            wrap(&world).sh(&format!("kill -{name} $$")).done().signal(),
            Some(number),
            "{name}"
        );
    }
}

#[test]
fn signals_are_forwarded() {
    let Some(world) = World::new() else { return };
    // A shell can trap nothing that was ignored when it began, as SIGINT is in another shell's background.
    let env = tests::tool("env");
    for (name, signal) in [
        ("TERM", Signal::SIGTERM),
        ("INT", Signal::SIGINT),
        ("HUP", Signal::SIGHUP),
        ("QUIT", Signal::SIGQUIT),
        ("USR1", Signal::SIGUSR1),
        ("USR2", Signal::SIGUSR2),
        ("CONT", Signal::SIGCONT),
        ("WINCH", Signal::SIGWINCH),
    ] {
        let script = format!(
            "trap 'echo got; kill $!; exit 7' {name}; sleep 100000 & echo ready; while :; do wait; done"
        );
        let run = wrap(&world).wrap([env.as_os_str(), "--default-signal".as_ref()]);
        let mut client = run.sh(&script).spawn();
        client.expect("ready");
        client.signal(signal);
        client.expect("got");
        client.finish().expect_code(7);
    }
}

#[test]
fn no_output_is_lost_at_the_exit() {
    let Some(world) = World::new() else { return };
    let bytes: Vec<u8> = (0..190_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let file = world.dir.join("bytes");
    fs::write(&file, &bytes).expect("write");
    for _ in 0..20 {
        let done = wrap(&world)
            .sh(&format!("cat {0}; cat {0} >&2", file.display()))
            .done();
        assert!(done.status.success(), "{:?}", done.status);
        assert!(
            done.out == bytes && done.err == bytes,
            "{} and {} of {} bytes",
            done.out.len(),
            done.err.len(),
            bytes.len()
        );
    }
}

#[test]
fn daemonised_holders_of_the_pipes_are_not_waited_for() {
    let Some(world) = World::new() else { return };
    let (go, over) = (world.dir.join("go"), world.dir.join("over"));
    let daemon = format!(
        "trap '' HUP PIPE; while [ ! -e {} ]; do sleep 0.01; done; echo over > {}",
        go.display(),
        over.display()
    );
    write_file(world.dir.join("daemon"), daemon);
    let script = format!(
        "setsid sh {} & echo started",
        world.dir.join("daemon").display()
    );
    assert_eq!(wrap(&world).sh(&script).text(), "started");
    assert!(!over.exists());
    write_file(&go, "");
    until("the daemon's end", || over.exists().then_some(()));
}

#[test]
fn arguments_are_verbatim_and_the_environment_is_inherited() {
    let Some(world) = World::new() else { return };
    let words = ["--help", "", "-x", "--", "a b"];
    let text = wrap(&world).cmd(["printf", "[%s]"]).cmd(words).text();
    assert_eq!(text, "[--help][][-x][--][a b]");
    assert_eq!(wrap(&world).env("K", "v").sh("echo $K").text(), "v");
    assert_eq!(wrap(&world).cmd(["--", "echo", "--", "x"]).text(), "-- x");
}

#[test]
fn an_empty_command_is_refused() {
    let Some(world) = World::new() else { return };
    wrap(&world).done().expect_refused(&[125]);
    wrap(&world).cmd([""]).done().expect_refused(&[125, 127]);
}
