//! CONTRACT 1 and 3: what `subcontainer launch` starts, and when it is ready.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use tests::{Launch, World, mounts_below, spin, until};

#[test]
fn idle_leader_has_one_process_that_is_ours() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    assert_eq!(root.pids(), [1]);
    assert_eq!(
        world.exec(&root).sh("[ $$ -gt 1 ] && echo own").text(),
        "own"
    );
    // What an exec leaves is nothing, as soon as PID 1 has reaped it.
    root.wait_alone();
    // What the tests of what is left rely on: the container's processes can be told from the host's.
    let found = tests::processes_of(&world.dir);
    let is_init = |process: &tests::Process| process.cmdline.starts_with("init");
    assert!(found.iter().any(is_init), "{found:?}");
}

#[test]
fn proc_1_appears_in_the_callers_mount_namespace() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let proc = root.join("proc");
    assert_eq!(
        mounts_below(&proc),
        std::slice::from_ref(&proc),
        "exactly one procfs is mounted there"
    );
    assert!(
        fs::read_to_string(proc.join("1/stat"))
            .expect("stat")
            .starts_with("1 ")
    );
    assert!(
        !proc.join(std::process::id().to_string()).exists() || root.pids() == [1],
        "the host's processes show"
    );
}

#[test]
fn ready_with_ten_at_once_and_every_cpu_busy() {
    let Some(world) = World::new() else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let burners: Vec<_> = (0..cpus * 2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    spin(std::time::Duration::from_millis(1))
                }
            })
        })
        .collect();
    let roots: Vec<_> = (0..10).map(|_| world.create()).collect();
    let leaders: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = roots
            .iter()
            .map(|root| scope.spawn(|| world.launch(root)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("launch"))
            .collect()
    });
    stop.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().expect("burner");
    }
    for root in &roots {
        assert_eq!(world.exec(root).cmd(["echo", "up"]).text(), "up");
    }
    for leader in leaders {
        leader.stop().expect_code(0);
    }
}

#[test]
fn exec_right_after_launch_waits_for_it() {
    let Some(world) = World::new() else { return };
    for _ in 0..20 {
        let root = world.create();
        let leader = world.launch_run(&root).spawn();
        assert_eq!(world.exec(&root).cmd(["echo", "in"]).text(), "in");
        leader.signal(Signal::SIGTERM);
        leader.finish().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn command_is_pid_1_itself() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut leader = world
        .launch_run(&root)
        .sh("echo pid $$; exec sleep 100000")
        .spawn();
    leader.expect("pid 1\n");
    until("sleep as PID 1", || {
        (root.cmdline(1) == "sleep 100000").then_some(())
    });
    assert_eq!(root.pids(), [1]);
}

#[test]
fn with_init_the_command_is_a_child_of_ours() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let done = world
        .launch_run(&root)
        .opt("--init")
        .sh("[ $$ -gt 1 ] && [ $PPID = 1 ] && echo child; exit 7")
        .done();
    assert_eq!(done.out_text(), "child");
    done.expect_code(7);
}

#[test]
fn with_init_the_end_of_the_command_ends_the_container() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let before = tests::Snapshot::of(&world);
    let run = world.launch_run(&root).opt("--init");
    run.sh("setsid sleep 100000 & exit 3").done().expect_code(3);
    before.assert_same(&world);
}

#[test]
fn launch_ends_with_the_code_of_the_command() {
    let Some(world) = World::new() else { return };
    for code in [0, 1, 42, 124, 125, 126, 127, 128, 143, 255] {
        let root = world.create();
        world
            .launch_run(&root)
            .sh(&format!("exit {code}"))
            .done()
            .expect_code(code);
    }
}

#[test]
fn launch_dies_by_the_signal_that_killed_the_command() {
    let Some(world) = World::new() else { return };
    for (name, number) in [
        ("TERM", 15),
        ("KILL", 9),
        ("SEGV", 11),
        ("USR1", 10),
        ("ABRT", 6),
    ] {
        let root = world.create();
        let done = world
            .launch_run(&root)
            .opt("--init")
            .sh(&format!("kill -{name} $$"))
            .done();
        assert_eq!(
            done.signal(),
            Some(number),
            "{name}: {:?} {}",
            done.status,
            done.err_text()
        );
    }
}

#[test]
fn launch_takes_user_workdir_and_environment() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let run = world.launch_run(&root).opts([
        "--user=app",
        "--workdir=/tmp",
        "-e",
        "K=v",
        "--env=FROM_IMAGE=no",
    ]);
    assert_eq!(
        run.sh("id -u; pwd; echo $K $FROM_IMAGE $HOME").text(),
        "1000\n/tmp\nv no /home/app"
    );
}

#[test]
fn stdio_of_an_idle_leader_is_inherited_and_silent() {
    let Some(world) = World::new() else { return };
    let (_root, leader) = world.idle();
    let done = leader.stop();
    assert_eq!(
        (done.out_text(), done.err_text()),
        (String::new(), String::new())
    );
}

#[test]
fn launch_has_a_terminal_like_exec() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let run = world
        .launch_run(&root)
        .opts(["--force-tty", "--pty-size=41:99"]);
    assert_eq!(
        run.sh("test -t 0 && test -t 1 && stty size").text(),
        "41 99"
    );
}

#[test]
fn second_launch_ends_the_first_and_replaces_it() {
    let Some(world) = World::new() else { return };
    let (root, first) = world.idle();
    let mut inside = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    inside.expect("up");
    let mut second = world
        .launch_run(&root)
        .sh("echo second; exec sleep 100001")
        .spawn();
    second.expect("second");
    first.into_client().finish().expect_code(0);
    let _ = inside.finish();
    until("the new PID 1", || {
        (root.cmdline(1) == "sleep 100001").then_some(())
    });
    let proc = root.join("proc");
    assert_eq!(
        mounts_below(&proc),
        std::slice::from_ref(&proc),
        "exactly one procfs is mounted there"
    );
    assert_eq!(
        world.exec(&root).cmd(["echo", "in the second"]).text(),
        "in the second"
    );
}

/// The last one stays, and each of the others ends as after SIGTERM: none is killed because another was slow.
#[test]
fn of_many_launches_at_once_one_stays() {
    let Some(world) = World::new() else { return };
    let (root, first) = world.idle();
    let mut clients = vec![first.into_client()];
    clients.extend((0..4).map(|_| world.launch_run(&root).spawn()));
    until("all but one to end", || {
        let running = clients
            .iter_mut()
            .filter_map(|client| client.ended().is_none().then_some(()));
        (running.count() == 1).then_some(())
    });
    for mut client in clients {
        if client.ended().is_none() {
            client.signal(nix::sys::signal::Signal::SIGTERM);
        }
        client.finish().expect_code(0);
    }
}

#[test]
fn launch_again_after_the_end() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    for round in 0..5 {
        let leader = world.launch(&root);
        assert_eq!(
            world.exec(&root).cmd(["echo", &round.to_string()]).text(),
            round.to_string()
        );
        if round % 2 == 0 {
            leader.stop().expect_code(0)
        } else {
            leader.kill();
            // Until it is dead, its procfs makes the next one look ready, and an exec may join it and die with it.
            until("no process of the container", || {
                tests::processes_of(&world.dir).is_empty().then_some(())
            });
        }
    }
    let leader = world.launch(&root);
    let proc = root.join("proc");
    assert_eq!(
        mounts_below(&proc),
        std::slice::from_ref(&proc),
        "exactly one procfs is mounted there"
    );
    leader.stop().expect_code(0);
}

#[test]
fn a_plain_directory_can_be_launched_and_is_left_as_it_was() {
    let Some(world) = World::new() else { return };
    let root = world.plain("plain");
    let before = tests::Snapshot::of(&world);
    let leader = Launch::start(world.launch_run(&root), &root);
    assert_eq!(world.exec(&root).cmd(["echo", "plain"]).text(), "plain");
    leader.stop().expect_code(0);
    before.assert_same(&world);
}
