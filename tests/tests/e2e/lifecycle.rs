//! CONTRACT 3: what stays, what is reaped, and what the end of a container leaves.

use std::fs;

use nix::sys::signal::Signal;
use tests::{Rootfs, Sentinel, Snapshot, World, processes_of, until, write_file};

fn zombies(root: &Rootfs) -> usize {
    let state =
        |pid: u32| fs::read_to_string(root.join(&format!("proc/{pid}/stat"))).unwrap_or_default();
    root.pids()
        .into_iter()
        .filter(|pid| {
            state(*pid)
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z'))
        })
        .count()
}

#[test]
fn a_thousand_orphans_are_reaped() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let _ = world
        .exec(&root)
        .sh("i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done")
        .text();
    until("no zombie", || (zombies(&root) == 0).then_some(()));
    root.wait_alone();
}

#[test]
fn orphans_of_daemons_are_reaped_by_pid_1() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // The daemon outlives its exec, so the orphans that it makes afterwards can only be PID 1's.
    let daemon = "while [ ! -e /tmp/go ]; do sleep 0.01; done; i=0; while [ $i -lt 300 ]; do (true &); i=$((i+1)); done; \
                  echo made > /tmp/made; exec sleep 100000";
    write_file(root.join("tmp/daemon"), daemon);
    let _ = world
        .exec(&root)
        .sh("setsid sh /tmp/daemon < /dev/null > /dev/null 2>&1 &")
        .text();
    write_file(root.join("tmp/go"), "");
    assert_eq!(root.wait_file("tmp/made"), "made");
    until("no zombie", || (zombies(&root) == 0).then_some(()));
    until("PID 1 and the daemon alone", || {
        (root.pids().len() == 2).then_some(())
    });
}

#[test]
fn orphans_are_reaped_with_init_and_a_command() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let script =
        "i=0; while [ $i -lt 300 ]; do (true &); i=$((i+1)); done; echo made; exec sleep 100000";
    let mut leader = world.launch_run(&root).opt("--init").sh(script).spawn();
    leader.expect("made");
    until("no zombie", || (zombies(&root) == 0).then_some(()));
    until("PID 1 and the command alone", || {
        (root.pids().len() == 2).then_some(())
    });
}

#[test]
fn exec_returns_at_once_although_a_daemon_holds_stdout() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for (number, run) in [
        world.exec(&root),
        world.exec(&root).pipes(),
        world.exec(&root).opt("--force-tty"),
    ]
    .into_iter()
    .enumerate()
    {
        // The daemon ends only after the exec has: if the exec waited for it, neither would end.
        let go = format!("tmp/go{number}");
        let daemon =
            format!("while [ ! -e /{go} ]; do sleep 0.01; done; echo over > /tmp/over{number}");
        let done = run
            .sh(&format!("trap '' HUP; sh -c '{daemon}' & echo started"))
            .done();
        assert_eq!(done.expect_ok(), "started");
        write_file(root.join(&go), "");
        assert_eq!(root.wait_file(&format!("tmp/over{number}")), "over");
    }
    root.wait_alone();
}

#[test]
fn a_daemon_may_go_on_writing() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // 300 kB are more than any pipe buffer holds; the daemon must neither block nor get SIGPIPE.
    let daemon = "while [ ! -e /tmp/go ]; do sleep 0.01; done; head -c 300000 /dev/zero; first=$?; \
                  head -c 300000 /dev/zero >&2; echo $first $? > /tmp/wrote";
    write_file(root.join("tmp/daemon"), daemon);
    assert_eq!(
        world.exec(&root).sh("sh /tmp/daemon & echo started").text(),
        "started"
    );
    write_file(root.join("tmp/go"), "");
    assert_eq!(root.wait_file("tmp/wrote"), "0 0");
}

#[test]
fn a_daemon_belongs_to_pid_1_when_its_exec_has_ended() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let _ = world
        .exec(&root)
        .sh("sleep 100000 & echo $! > /tmp/pid")
        .text();
    let pid = root.wait_file("tmp/pid");
    until("parent 1", || {
        let status = fs::read_to_string(root.join(&format!("proc/{pid}/status")))
            .expect("the daemon is gone");
        status.contains("\nPPid:\t1\n").then_some(())
    });
    leader.stop().expect_code(0);
    until("no process of the container", || {
        processes_of(&world.dir).is_empty().then_some(())
    });
}

#[test]
fn daemons_of_one_exec_survive_the_kill_of_another() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let _ = world.exec(&root).sh("setsid sleep 100001 &").text();
    until("the daemon to run", || {
        let is_it = |pid: &u32| root.cmdline(*pid) == "sleep 100001";
        root.pids().iter().any(is_it).then_some(())
    });
    let mut other = world
        .exec(&root)
        .sh("setsid sleep 100002 & echo up; wait")
        .spawn();
    other.expect("up");
    other.signal(Signal::SIGKILL);
    drop(other);
    // The one is there throughout; the other goes.
    let names = || -> Vec<String> {
        root.pids()
            .into_iter()
            .map(|pid| root.cmdline(pid))
            .collect()
    };
    until("the end of the other", || {
        let names = names();
        assert!(
            names.iter().any(|name| name == "sleep 100001"),
            "the daemon is gone: {names:?}"
        );
        (!names.iter().any(|name| name.contains("100002"))).then_some(())
    });
}

#[test]
fn destroy_after_sigterm_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let (root, leader) = world.idle();
    world.rbind_host(&root);
    let target = root.join("data");
    let bind = world
        .bare(["bind-mount", "--source"])
        .opt(world.base.join("volumes/main"))
        .opt("--target")
        .opt(&target);
    let _ = bind.opt("--recursive").text();
    write_file(target.join("kept"), "volume\n");
    let _ = world.exec(&root).sh("mkdir -p /etc/a/b; dd if=/dev/zero of=/big bs=1024 count=100 2>/dev/null; setsid sleep 100000 &").text();
    leader.stop().expect_code(0);
    world.destroy(&root);
    let kept = world.base.join("volumes/main/kept");
    assert_eq!(
        fs::read_to_string(&kept).expect("the volume was deleted through"),
        "volume\n"
    );
    fs::remove_file(kept).expect("remove");
    before.assert_same(&world);
}

#[test]
fn destroy_after_sigkill_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let (root, leader) = world.idle();
    world.rbind_host(&root);
    let mut inside = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    inside.expect("up");
    leader.kill();
    let _ = inside.finish();
    world.destroy(&root);
    before.assert_same(&world);
}

#[test]
fn destroy_takes_a_container_down_that_still_runs() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let (root, leader) = world.idle();
    world.destroy(&root);
    let _ = leader.into_client().finish();
    before.assert_same(&world);
}

#[test]
fn volumes_are_never_deleted_through_the_root_filesystem() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("volume"));
    for kill in [false, true] {
        let (root, leader) = world.idle();
        for target in ["data", "data/nested/deeper", "home/app"] {
            let path = root.join(target);
            if target.contains("nested") {
                continue;
            }
            let run = world
                .bare(["bind-mount", "--source"])
                .opt(&sentinel.dir)
                .opt("--target")
                .opt(&path);
            let _ = run.text();
        }
        // Also a mount that the client made itself.
        fs::create_dir_all(root.join("own")).expect("directory");
        let flags = nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REC;
        nix::mount::mount(
            Some(&sentinel.dir),
            &root.join("own"),
            None::<&str>,
            flags,
            None::<&str>,
        )
        .expect("bind");
        if kill {
            leader.kill()
        } else {
            leader.stop().expect_code(0)
        }
        world.destroy(&root);
        assert!(!root.path.exists(), "{} is left", root.path.display());
        sentinel.assert_same();
    }
}

#[test]
fn sigkill_of_launch_takes_the_whole_container_down() {
    let Some(world) = World::new() else { return };
    for options in [&[][..], &["--init"]] {
        let root = world.create();
        let mut leader = world.launch_run(&root).opts(options);
        if !options.is_empty() {
            leader = leader.sh("echo ready; exec sleep 100000");
        }
        let leader = tests::Launch::start(leader, &root);
        let _ = world
            .exec(&root)
            .sh("for i in 1 2 3; do (trap '' TERM HUP; setsid sleep 100000 &); done")
            .text();
        let mut inside = world
            .exec(&root)
            .opt("--user=app")
            .sh("echo up; exec sleep 100000")
            .spawn();
        inside.expect("up");
        leader.kill();
        let _ = inside.finish();
        until("no process of the container", || {
            processes_of(&world.dir).is_empty().then_some(())
        });
    }
    let root = world.create();
    let mut leader = world
        .launch_run(&root)
        .sh("echo up; exec sleep 100000")
        .spawn();
    leader.expect("up");
    drop(leader);
    until("no process of the container", || {
        processes_of(&world.dir).is_empty().then_some(())
    });
}

/// The kernel forgets PR_SET_PDEATHSIG when the ids of a process change.
#[test]
fn sigkill_of_launch_ends_a_command_that_dropped_root() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut leader = world
        .launch_run(&root)
        .cmd(["su", "app", "-c", "echo dropped; exec sleep 100000"])
        .spawn();
    leader.expect("dropped");
    leader.signal(Signal::SIGKILL);
    drop(leader);
    until("no process of the container", || {
        processes_of(&world.dir).is_empty().then_some(())
    });
}

#[test]
fn sigkill_of_launch_ends_the_container_of_a_caller_with_another_group() {
    let Some(world) = World::new() else { return };
    let setpriv = tests::tool("setpriv");
    let wrap = [
        setpriv.to_str().expect("path"),
        "--regid=1000",
        "--clear-groups",
    ];
    let root = world.create();
    tests::Launch::start(world.launch_run(&root).wrap(wrap), &root).kill();
    until("no process of the container", || {
        processes_of(&world.dir).is_empty().then_some(())
    });
}

#[test]
fn a_hundred_cycles_leave_nothing() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    for _ in 0..100 {
        let (root, leader) = world.idle();
        assert_eq!(world.exec(&root).cmd(["echo", "x"]).text(), "x");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
    before.assert_same(&world);
}
