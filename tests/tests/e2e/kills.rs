//! CONTRACT 3 and invariant 1: SIGKILL of a client at any moment. Timeout and abort are nothing else.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Seeded, Snapshot, World, spin, until};

/// Starts `script`, waits until it says `up`, kills the exec client, and expects that PID 1 is alone again.
fn killed_leaves_nothing(options: &[&str], script: &str) {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut client = world.exec(&root).opts(options).sh(script).spawn();
    client.expect("up");
    client.signal(Signal::SIGKILL);
    drop(client);
    root.wait_alone();
    assert_eq!(world.exec(&root).cmd(["echo", "alive"]).text(), "alive");
}

#[test]
fn the_command_ends() {
    killed_leaves_nothing(
        &[],
        "trap '' TERM HUP INT; echo up; while :; do sleep 1; done",
    );
}

#[test]
fn the_command_of_another_user_ends() {
    killed_leaves_nothing(
        &["--user=app"],
        "setsid sleep 100000 & echo up; exec sleep 100000",
    );
}

#[test]
fn the_command_with_a_terminal_ends() {
    killed_leaves_nothing(
        &["--force-tty"],
        "trap '' HUP; setsid sleep 100000 & echo up; exec sleep 100000",
    );
}

/// The client's death closes the terminal or the input, and the command may end by that alone, before the attendant
/// has seen that the client is gone. What it leaves behind then must not be taken for wanted daemons.
#[test]
fn what_a_command_leaves_that_ends_by_the_hangup_ends_too() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let background = "(trap '' HUP; setsid sleep 100000 &); setsid sleep 100001 & echo up;";
    for _ in 0..20 {
        for (options, last) in [
            (&["--force-tty"][..], "exec sleep 100002"),
            (&["--force-tty"], "cat"),
            (&[], "cat"),
            (&[], "read line"),
        ] {
            let run = world.exec(&root).opts(options);
            let mut client = run.sh(&format!("{background} {last}")).spawn();
            client.expect("up");
            client.signal(Signal::SIGKILL);
            drop(client);
            root.wait_alone();
        }
    }
}

#[test]
fn what_called_setsid_ends() {
    killed_leaves_nothing(
        &[],
        "setsid sleep 100000 & setsid setsid sleep 100001 & echo up; wait",
    );
}

#[test]
fn what_forked_twice_ends() {
    killed_leaves_nothing(
        &[],
        "(setsid sh -c 'sleep 100000 & sleep 100001 &' &); (sleep 100002 &); echo up; exec sleep 100003",
    );
}

#[test]
fn what_keeps_forking_ends() {
    // A chain in which every process starts its successor and ends, so that no list of processes is ever current.
    let script = "echo 'sleep 0.002; setsid sh /tmp/chain &' > /tmp/chain; sh /tmp/chain & sh /tmp/chain & echo up; sleep 100000";
    killed_leaves_nothing(&[], script);
}

#[test]
fn stopped_processes_end() {
    killed_leaves_nothing(
        &[],
        "setsid sh -c 'kill -STOP $$' & sleep 100000 & kill -STOP $!; echo up; wait",
    );
}

#[test]
fn a_hundred_processes_end() {
    killed_leaves_nothing(
        &[],
        "i=0; while [ $i -lt 100 ]; do (setsid sleep 100000 &); i=$((i+1)); done; echo up; sleep 100000",
    );
}

/// Root inside can kill the attendant, and with it nobody is left who would end the command for the client.
#[test]
fn the_command_ends_with_its_attendant() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for user in ["root", "app"] {
        let run = world.exec(&root).opt(format!("--user={user}"));
        let client = run
            .sh("echo $PPID > /tmp/attendant; exec sleep 100000")
            .spawn();
        let attendant = root.wait_file("tmp/attendant");
        let _ = world.exec(&root).cmd(["kill", "-9", &attendant]).text();
        assert_eq!(client.finish().signal(), Some(9), "{user}");
        root.wait_alone();
        std::fs::remove_file(root.join("tmp/attendant")).expect("remove");
    }
}

#[test]
fn the_death_of_a_clients_parent_is_no_death_of_the_client() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let sh = tests::tool("sh");
    // The shell that started the client ends first; the client goes on.
    let run = world
        .exec(&root)
        .wrap([sh.to_str().expect("path"), "-c", "\"$@\" & exit 0", "sh"]);
    let run = run.sh("while [ ! -e /tmp/go ]; do sleep 0.01; done; echo on > /tmp/on");
    run.done().expect_code(0);
    tests::write_file(root.join("tmp/go"), "");
    assert_eq!(root.wait_file("tmp/on"), "on");
}

#[test]
fn exec_killed_at_any_moment_leaves_no_process() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let before = Snapshot::of(&world);
    let mut seeded = Seeded::new(1);
    for round in 0..60_u64 {
        let options: &[&str] = if round % 3 == 0 {
            &["--force-tty"]
        } else {
            &[]
        };
        let client = world
            .exec(&root)
            .opts(options)
            .sh("setsid sleep 100000 & (sleep 100001 &); exec sleep 100002")
            .spawn();
        spin(Duration::from_micros(seeded.below(12_000)));
        client.signal(Signal::SIGKILL);
        drop(client);
    }
    root.wait_alone();
    before.assert_same(&world);
}

#[test]
fn launch_killed_at_any_moment_leaves_nothing_after_destroy() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let mut seeded = Seeded::new(2);
    for round in 0..60_u64 {
        let root = world.create();
        let run = world.launch_run(&root);
        let run = if round % 2 == 0 {
            run
        } else {
            run.opt("--init")
                .sh("setsid sleep 100000 & exec sleep 100001")
        };
        let client = run.spawn();
        spin(Duration::from_micros(seeded.below(12_000)));
        client.signal(Signal::SIGKILL);
        drop(client);
        world.destroy(&root);
    }
    before.assert_same(&world);
}

#[test]
fn launch_killed_at_any_moment_can_be_launched_again() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut seeded = Seeded::new(4);
    for _ in 0..30 {
        let client = world.launch_run(&root).spawn();
        spin(Duration::from_micros(seeded.below(12_000)));
        client.signal(Signal::SIGKILL);
    }
    let leader = world.launch(&root);
    assert_eq!(world.exec(&root).cmd(["echo", "again"]).text(), "again");
    let proc = root.join("proc");
    assert_eq!(
        tests::mounts_below(&proc),
        [proc],
        "exactly one procfs is mounted there"
    );
    leader.stop().expect_code(0);
}

#[test]
fn create_and_destroy_killed_at_any_moment_leave_nothing() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let mut seeded = Seeded::new(5);
    for _ in 0..40 {
        let client = world.verb("create-fs").cmd(["img"]).spawn();
        spin(Duration::from_micros(seeded.below(6000)));
        client.signal(Signal::SIGKILL);
        drop(client);
        // What the killed one has left is known by the names below subcontainers, data and the journal.
        for place in [
            world.base.join("subcontainers"),
            world.data.join("containers"),
            world.state.join("subcontainers"),
        ] {
            let names: Vec<_> = std::fs::read_dir(place)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name())
                .collect();
            for name in names {
                let run = world.verb("destroy-fs").cmd([&name]).spawn();
                spin(Duration::from_micros(seeded.below(6000)));
                run.signal(Signal::SIGKILL);
                drop(run);
                let _ = world.verb("destroy-fs").cmd([&name]).text();
            }
        }
    }
    before.assert_same(&world);
}

#[test]
fn everything_inside_is_gone_when_destroy_returns() {
    let Some(world) = World::new() else { return };
    for _ in 0..10 {
        let (root, leader) = world.idle();
        let mut inside = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
        inside.expect("up");
        leader.kill();
        inside.signal(Signal::SIGKILL);
        drop(inside);
        world.destroy(&root);
        assert!(!root.path.exists(), "{} is left", root.path.display());
        assert!(tests::mounts_below(&root.path).is_empty());
        until("no process of the container", || {
            tests::processes_of(&world.dir).is_empty().then_some(())
        });
    }
}
