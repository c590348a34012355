//! CONTRACT 3: signals, sessions and stopping.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Seeded, Snapshot, World, spin};

/// Signals that a client sends and the command has to get, by the name the shell knows.
const FORWARDED: [(&str, Signal); 18] = [
    ("ABRT", Signal::SIGABRT),
    ("ALRM", Signal::SIGALRM),
    ("CONT", Signal::SIGCONT),
    ("HUP", Signal::SIGHUP),
    ("INT", Signal::SIGINT),
    ("IO", Signal::SIGIO),
    ("PIPE", Signal::SIGPIPE),
    ("PROF", Signal::SIGPROF),
    ("QUIT", Signal::SIGQUIT),
    ("TERM", Signal::SIGTERM),
    ("TRAP", Signal::SIGTRAP),
    ("TSTP", Signal::SIGTSTP),
    ("TTIN", Signal::SIGTTIN),
    ("TTOU", Signal::SIGTTOU),
    ("URG", Signal::SIGURG),
    ("USR1", Signal::SIGUSR1),
    ("USR2", Signal::SIGUSR2),
    ("VTALRM", Signal::SIGVTALRM),
];

/// Answers to one signal and ends with 7; `wait` is interrupted by a trap, a foreground sleep is not.
fn answer(name: &str) -> String {
    format!(
        "trap 'echo got {name}; kill $!; exit 7' {name}; sleep 100000 & echo ready; while :; do wait; done"
    )
}

#[test]
fn every_listed_signal_reaches_the_command() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // Where there is no terminal whose size it could tell of, SIGWINCH is a signal like the others.
    for (name, signal) in FORWARDED.into_iter().chain([("WINCH", Signal::SIGWINCH)]) {
        let mut client = world.exec(&root).sh(&answer(name)).spawn();
        client.expect("ready");
        client.signal(signal);
        client.expect(&format!("got {name}"));
        client.finish().expect_code(7);
    }
}

#[test]
fn every_listed_signal_reaches_a_command_with_a_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for (name, signal) in FORWARDED {
        let mut client = world
            .exec(&root)
            .opt("--force-tty")
            .sh(&answer(name))
            .spawn();
        client.expect("ready");
        client.signal(signal);
        client.expect(&format!("got {name}"));
        client.finish().expect_code(7);
    }
}

#[test]
fn every_listed_signal_reaches_a_launched_command() {
    let Some(world) = World::new() else { return };
    for options in [&[][..], &["--init"]] {
        for (name, signal) in FORWARDED {
            let root = world.create();
            let mut client = world
                .launch_run(&root)
                .opts(options)
                .sh(&answer(name))
                .spawn();
            client.expect("ready");
            client.signal(signal);
            client.expect(&format!("got {name}"));
            client.finish().expect_code(7);
            world.destroy(&root);
        }
    }
}

#[test]
fn a_signal_without_a_handler_ends_command_and_client_alike() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        let mut client = world
            .exec(&root)
            .sh("echo ready; exec sleep 100000")
            .spawn();
        client.expect("ready");
        client.signal(signal);
        assert_eq!(client.finish().signal(), Some(signal as i32), "{signal}");
        root.wait_alone();
    }
}

#[test]
fn a_signal_right_after_spawn_is_not_lost() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut seeded = Seeded::new(3);
    for _ in 0..60 {
        let client = world
            .exec(&root)
            .sh("trap 'exit 7' TERM; while :; do sleep 1 & wait; done")
            .spawn();
        spin(Duration::from_micros(seeded.below(6000)));
        client.signal(Signal::SIGTERM);
        let done = client.finish();
        // Before the trap is set, the signal ends whoever has it; what must not happen is that it ends nobody.
        assert!(
            done.code() == Some(7) || done.signal() == Some(15),
            "{:?} {}",
            done.status,
            done.err_text()
        );
    }
    drop(
        world
            .exec(&root)
            .sh("for p in /proc/[0-9]*; do [ $p = /proc/1 ] || kill -9 ${p#/proc/}; done")
            .done(),
    );
    root.wait_alone();
}

#[test]
fn a_stopped_command_goes_on_after_cont() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut client = world
        .exec(&root)
        .sh("echo ready; kill -STOP $$; echo went on; exit 4")
        .spawn();
    client.expect("ready");
    tests::until("a stopped process", || {
        root.pids()
            .iter()
            .any(|pid| {
                let stat = std::fs::read_to_string(root.join(&format!("proc/{pid}/stat")))
                    .unwrap_or_default();
                stat.contains("(sh) T")
            })
            .then_some(())
    });
    assert!(
        client.ended().is_none(),
        "the client took a stop for an end"
    );
    client.signal(Signal::SIGCONT);
    let done = client.finish();
    done.expect_code(4);
    assert_eq!(done.out_text(), "ready\nwent on");
}

#[test]
fn each_exec_is_a_session_of_its_own() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let ids = "read -r pid comm state ppid pgrp session rest < /proc/$$/stat; [ $pid = $pgrp ] && [ $pid = $session ] && echo own";
    assert_eq!(world.exec(&root).sh(ids).text(), "own");
    assert_eq!(world.exec(&root).opt("--force-tty").sh(ids).text(), "own");
}

/// The client is in a process group with a bystander, and both are in none of the test's.
#[test]
fn kill_zero_inside_stays_inside() {
    let Some(world) = World::new() else { return };
    let (root, mut leader) = world.idle();
    let mut other = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    other.expect("up");
    let (setsid, sh) = (tests::tool("setsid"), tests::tool("sh"));
    let with_bystander = "sleep 100000 & \"$@\"; echo ended $?; kill $! && echo spared";
    let run = world.exec(&root).wrap([
        setsid.to_str().expect("path"),
        "--wait",
        sh.to_str().expect("path"),
        "-c",
        with_bystander,
        "sh",
    ]);
    let done = run.sh("kill -TERM 0; sleep 100000").done();
    assert_eq!(done.out_text(), "ended 143\nspared", "{}", done.err_text());
    assert!(other.ended().is_none(), "another exec was hit");
    assert!(leader.ended().is_none(), "the leader was hit");
    assert_eq!(world.exec(&root).cmd(["echo", "alive"]).text(), "alive");
}

#[test]
fn sigterm_to_an_idle_leader_is_exit_0() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let before = Snapshot::of(&world);
    world.launch(&root).stop().expect_code(0);
    before.assert_same(&world);
}

#[test]
fn sigterm_to_an_idle_leader_with_daemons_inside() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let _ = world
        .exec(&root)
        .sh("for i in 1 2 3; do (trap '' TERM HUP INT; setsid sleep 100000 &) ; done")
        .text();
    leader.stop().expect_code(0);
    tests::until("no process of the container", || {
        tests::processes_of(&world.dir).is_empty().then_some(())
    });
}

#[test]
fn sigterm_stops_a_launched_command_that_does_not_catch_it() {
    let Some(world) = World::new() else { return };
    for options in [&[][..], &["--init"], &["--force-tty"]] {
        let root = world.create();
        let mut client = world
            .launch_run(&root)
            .opts(options)
            .sh("echo up; exec sleep 100000")
            .spawn();
        client.expect("up");
        client.signal(Signal::SIGTERM);
        let done = client.finish();
        let clean = done.signal() == Some(15) || matches!(done.code(), Some(0 | 143));
        assert!(
            clean,
            "not what the client takes for a clean stop: {options:?} {:?} {}",
            done.status,
            done.err_text()
        );
        tests::until("no process of the container", || {
            tests::processes_of(&world.dir).is_empty().then_some(())
        });
    }
}

#[test]
fn sigterm_lets_a_launched_command_that_catches_it_finish() {
    let Some(world) = World::new() else { return };
    for options in [&[][..], &["--init"]] {
        let root = world.create();
        let script = "trap 'echo cleaning; sleep 3; echo cleaned; exit 0' TERM; sleep 100000 & echo up; while :; do wait; done";
        let mut client = world.launch_run(&root).opts(options).sh(script).spawn();
        client.expect("up");
        client.signal(Signal::SIGTERM);
        let done = client.finish();
        done.expect_code(0);
        assert_eq!(
            done.out_text(),
            "up\ncleaning\ncleaned",
            "it was not given the time it took"
        );
    }
}

#[test]
fn signals_that_the_client_ignores_or_blocks_still_arrive() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let env = tests::tool("env");
    let wrap = [
        env.to_str().expect("path"),
        "--ignore-signal=HUP,INT,TERM,CHLD,PIPE",
        "--block-signal=USR1,USR2,QUIT",
    ];
    for (name, signal) in [
        ("TERM", Signal::SIGTERM),
        ("USR1", Signal::SIGUSR1),
        ("INT", Signal::SIGINT),
    ] {
        let mut client = world.exec(&root).wrap(wrap).sh(&answer(name)).spawn();
        client.expect("ready");
        client.signal(signal);
        client.expect(&format!("got {name}"));
        client.finish().expect_code(7);
    }
}
