//! CONTRACT 6: exit codes and deaths by signal.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use tests::{Snapshot, World, until, write_file};

#[test]
fn every_code_is_unchanged() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for code in 0..=255 {
        let done = world.exec(&root).sh(&format!("exit {code}")).done();
        done.expect_code(code);
        assert!(
            done.out.is_empty() && done.err.is_empty(),
            "{code}: {:?} {:?}",
            done.out_text(),
            done.err_text()
        );
    }
}

#[test]
fn codes_are_unchanged_with_a_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for code in [0, 1, 125, 126, 127, 128, 255] {
        world
            .exec(&root)
            .opt("--force-tty")
            .sh(&format!("exit {code}"))
            .done()
            .expect_code(code);
    }
}

#[test]
fn death_by_signal_is_death_by_that_signal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for number in 1..=31 {
        let signal = Signal::try_from(number).expect("signal");
        // What does not end a process by default cannot be a death.
        if matches!(
            signal,
            Signal::SIGCHLD
                | Signal::SIGCONT
                | Signal::SIGSTOP
                | Signal::SIGTSTP
                | Signal::SIGTTIN
                | Signal::SIGTTOU
                | Signal::SIGURG
                | Signal::SIGWINCH
        ) {
            continue;
        }
        // The shell ignores QUIT for itself, so another exec kills a plain program.
        let mut client = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
        client.expect("up");
        until("sleep to run", || {
            let is_it = |pid: &u32| root.cmdline(*pid) == "sleep 100000";
            root.pids().iter().any(is_it).then_some(())
        });
        let _ = world
            .exec(&root)
            .sh(&format!("killall -{number} sleep"))
            .text();
        let done = client.finish();
        assert_eq!(
            done.signal(),
            Some(number),
            "{signal}: {:?} {}",
            done.status,
            done.err_text()
        );
    }
}

#[test]
fn death_by_a_real_time_signal_is_death_by_that_signal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let done = world.exec(&root).sh("busybox kill -40 $$").done();
    assert_eq!(done.status.signal(), Some(40), "{:?}", done.status);
}

#[test]
fn death_by_signal_leaves_no_core_of_ours() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let other = world.create();
    let sh = tests::tool("sh");
    let wrap = [
        sh.to_str().expect("path"),
        "-c",
        "ulimit -c unlimited; exec \"$@\"",
        "sh",
    ];
    for run in [world.exec(&root), world.launch_run(&other).opt("--init")] {
        let run = run.wrap(wrap).cwd(&world.dir);
        let done = run.sh("ulimit -c 0; kill -SEGV $$").done();
        assert_eq!(done.signal(), Some(11));
        assert!(
            !done.status.core_dumped(),
            "a core of the client: {}",
            done.what
        );
    }
    assert!(
        std::fs::read_dir(&world.dir)
            .expect("list")
            .flatten()
            .all(|e| !e.file_name().as_encoded_bytes().starts_with(b"core"))
    );
}

#[test]
fn death_by_signal_with_a_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for (name, number) in [("TERM", 15), ("KILL", 9), ("INT", 2)] {
        let done = world
            .exec(&root)
            .opt("--force-tty")
            .sh(&format!("kill -{name} $$"))
            .done();
        assert_eq!(done.signal(), Some(number), "{name}: {:?}", done.status);
    }
}

#[test]
fn not_found_is_127() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for name in ["no-such-command", "/no/such/file", "./nothing"] {
        let done = world.exec(&root).cmd([name]).done();
        done.expect_refused(&[127]);
        assert!(done.err_text().contains(name), "{}", done.err_text());
    }
}

#[test]
fn not_executable_is_126() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("opt/plain"), "echo no\n");
    write_file(root.join("opt/garbage"), [0x7f, b'E', b'L', b'F', 9, 9, 9]);
    std::fs::set_permissions(
        root.join("opt/garbage"),
        std::fs::Permissions::from_mode(0o755),
    )
    .expect("mode");
    for name in ["/opt/plain", "/opt", "/opt/garbage"] {
        let done = world.exec(&root).cmd([name]).done();
        done.expect_refused(&[126]);
        assert!(done.err_text().contains(name), "{}", done.err_text());
    }
}

#[test]
fn found_in_path_but_not_executable_is_126() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("opt/bin/plain"), "echo no\n");
    // Also when the search went on, and ended with "not found".
    for path in ["/opt/bin", "/opt/bin:/usr/bin:/nothing"] {
        world
            .exec(&root)
            .opt(format!("--env=PATH={path}"))
            .cmd(["plain"])
            .done()
            .expect_refused(&[126]);
    }
}

#[test]
fn a_script_whose_interpreter_is_missing_is_127_or_126() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("opt/script"), "#!/no/such/interpreter\n");
    std::fs::set_permissions(
        root.join("opt/script"),
        std::fs::Permissions::from_mode(0o755),
    )
    .expect("mode");
    world
        .exec(&root)
        .cmd(["/opt/script"])
        .done()
        .expect_refused(&[126, 127]);
}

#[test]
fn launch_says_126_and_127_too_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    write_file(root.join("opt/plain"), "echo no\n");
    let before = tests::Snapshot::of(&world);
    for options in [&[][..], &["--init"]] {
        world
            .launch_run(&root)
            .opts(options)
            .cmd(["no-such-command"])
            .done()
            .expect_refused(&[127]);
        world
            .launch_run(&root)
            .opts(options)
            .cmd(["/opt/plain"])
            .done()
            .expect_refused(&[126]);
        before.assert_same(&world);
    }
}

#[test]
fn own_failures_are_125_with_nothing_on_stdout() {
    let Some(world) = World::new() else { return };
    world
        .verb("exec")
        .rootfs("/no/such/rootfs")
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
    world
        .verb("launch")
        .rootfs("/no/such/rootfs")
        .done()
        .expect_refused(&[125]);
    world
        .verb("create-fs")
        .cmd(["no-such-image"])
        .done()
        .expect_refused(&[125]);
}

/// Whoever writes beyond RLIMIT_FSIZE gets SIGXFSZ, and would say nothing.
#[test]
fn a_limit_of_the_size_of_files_is_named() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let other = world.create();
    let before = Snapshot::of(&world);
    let sh = tests::tool("sh");
    let limited = ["-c", "ulimit -f 0; exec \"$@\"", "sh"];
    for run in [
        world.verb("create-fs").cmd(["img"]),
        world.launch_run(&other),
        world.launch_run(&other).sh("exit 0"),
        world.exec(&root).sh("exit 0"),
    ] {
        let done = run.wrap([&sh]).wrap(limited).done();
        done.expect_refused(&[125]);
        let told = done.err_text();
        assert!(
            told.contains("EFBIG") && told.contains("ulimit -f"),
            "{told}"
        );
    }
    before.assert_same(&world);
    // Nobody gets our way of taking it.
    let status = ["cat", "/proc/self/status"];
    let wrapped = world.bare(["pipe-wrap"]).cmd(status).text();
    let commands = world.exec(&root).cmd(status).text();
    let launched = world.launch_run(&other).opt("--init").cmd(status).text();
    for text in [wrapped, commands, launched] {
        let ignored = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = u64::from_str_radix(ignored.expect("SigIgn").trim(), 16).expect("mask");
        assert_eq!(ignored & 1 << (Signal::SIGXFSZ as i32 - 1), 0, "{text}");
    }
}

#[test]
fn exec_without_a_leader_is_an_error_and_not_a_hang() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let before = tests::Snapshot::of(&world);
    world
        .exec(&root)
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
    let leader = world.launch(&root);
    leader.stop().expect_code(0);
    world
        .exec(&root)
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
    before.assert_same(&world);
    let leader = world.launch(&root);
    leader.kill();
    world
        .exec(&root)
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
    // A directory that never was a root filesystem.
    world
        .exec(world.base.join("volumes/main"))
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
}

#[test]
fn a_leader_that_ends_during_an_exec_ends_the_exec() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let mut inside = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    inside.expect("up");
    leader.stop().expect_code(0);
    let done = inside.finish();
    assert_eq!(
        done.signal(),
        Some(9),
        "the kernel killed it with its PID 1: {:?} {}",
        done.status,
        done.err_text()
    );
}
