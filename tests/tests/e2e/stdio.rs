//! CONTRACT 4: standard streams that are no terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;

use tests::{Run, Wire, World, until};

/// Bytes without a pattern that could hide a shift, the same for every call.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

fn both(run: Run, script: &str) -> (String, String) {
    let done = run.sh(script).done();
    (done.expect_ok(), done.err_text())
}

#[test]
fn dev_stdout_and_stderr_can_be_opened_when_the_callers_are_sockets() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; echo more >> /proc/self/fd/1";
    assert_eq!(
        both(world.exec(&root), script),
        ("out\nmore".into(), "err".into())
    );
}

#[test]
fn dev_stdout_and_stderr_can_be_opened_by_another_user() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let script = "echo out > /dev/stdout; echo err > /dev/stderr";
    for user in ["app", "4321:77"] {
        let run = world.exec(&root).opt(format!("--user={user}"));
        assert_eq!(both(run, script), ("out".into(), "err".into()), "{user}");
    }
}

#[test]
fn dev_stdin_can_be_opened_by_everybody() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for user in ["root", "app"] {
        let run = world
            .exec(&root)
            .opt(format!("--user={user}"))
            .input("typed\n");
        assert_eq!(run.sh("cat < /dev/stdin").text(), "typed", "{user}");
    }
}

#[test]
fn a_launched_command_can_open_dev_stdout_too() {
    let Some(world) = World::new() else { return };
    let script = "echo out > /dev/stdout; echo err > /dev/stderr";
    for options in [
        &["--user=root"][..],
        &["--user=app"],
        &["--init", "--user=app"],
    ] {
        let root = world.create();
        let run = world.launch_run(&root).opts(options);
        assert_eq!(
            both(run, script),
            ("out".into(), "err".into()),
            "{options:?}"
        );
    }
}

#[test]
fn all_output_is_readable_at_the_exit() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let bytes = noise(190_000);
    fs::write(root.join("tmp/noise"), &bytes).expect("write");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..13 {
                    let done = world
                        .exec(&root)
                        .sh("cat /tmp/noise; cat /tmp/noise >&2")
                        .done();
                    assert!(done.status.success(), "{:?}", done.status);
                    assert!(
                        done.out == bytes,
                        "{} of {} bytes on stdout",
                        done.out.len(),
                        bytes.len()
                    );
                    assert!(
                        done.err == bytes,
                        "{} of {} bytes on stderr",
                        done.err.len(),
                        bytes.len()
                    );
                }
            });
        }
    });
}

#[test]
fn ten_megabytes_in_and_out() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let bytes = noise(10 << 20);
    for run in [world.exec(&root), world.exec(&root).pipes()] {
        let done = run.input(bytes.clone()).cmd(["cat"]).done();
        assert!(
            done.status.success(),
            "{:?} {}",
            done.status,
            done.err_text()
        );
        assert!(
            done.out == bytes,
            "{} of {} bytes came back",
            done.out.len(),
            bytes.len()
        );
    }
}

#[test]
fn ten_megabytes_for_a_client_that_reads_only_after_writing() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let bytes = noise(10 << 20);
    let (mut stdin, theirs_in) = UnixStream::pair().expect("socketpair");
    let (mut stdout, theirs_out) = UnixStream::pair().expect("socketpair");
    let run = world
        .exec(&root)
        .stdin(Wire::Given(OwnedFd::from(theirs_in)))
        .stdout(Wire::Given(OwnedFd::from(theirs_out)));
    let client = run.cmd(["cat"]).spawn();
    stdin
        .set_write_timeout(Some(tests::DEADLINE))
        .expect("timeout");
    stdin
        .write_all(&bytes)
        .expect("the relay stopped reading while nobody read its output");
    drop(stdin);
    stdout
        .set_read_timeout(Some(tests::DEADLINE))
        .expect("timeout");
    let mut back = Vec::new();
    stdout.read_to_end(&mut back).expect("read");
    assert!(
        back == bytes,
        "{} of {} bytes came back",
        back.len(),
        bytes.len()
    );
    client.finish().expect_code(0);
}

#[test]
fn files_as_streams() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let bytes = noise(300_000);
    fs::write(world.dir.join("in"), &bytes).expect("write");
    let open = |name: &str| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(world.dir.join(name))
    };
    let out = open("out").expect("open");
    let run = world
        .exec(&root)
        .stdin(Wire::Given(open("in").expect("open").into()));
    let run = run.stdout(Wire::Given(out.try_clone().expect("dup").into()));
    run.cmd(["cat"]).done().expect_code(0);
    assert!(fs::read(world.dir.join("out")).expect("read") == bytes);
    // The file itself was handed through: its offset moved with the writes of the command.
    assert_eq!((&out).stream_position().expect("offset"), 300_000);
}

#[test]
fn a_file_can_be_reopened_and_is_appended_to() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let path = world.dir.join("log");
    fs::write(&path, "before\n").expect("write");
    let log = OpenOptions::new().append(true).open(&path).expect("open");
    let run = world.exec(&root).stdout(Wire::Given(log.into()));
    run.sh("echo one; echo two >> /dev/stdout")
        .done()
        .expect_code(0);
    assert_eq!(
        fs::read_to_string(&path).expect("read"),
        "before\none\ntwo\n"
    );
}

#[test]
fn dev_null_stays_dev_null() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // Opened before the redirection of the loop: 3, 4 and 5 are what 0, 1 and 2 were.
    let result =
        "exec 3<&0 4>&1 5>&2; for fd in 3 4 5; do ls -lL /proc/$$/fd/$fd; done > /tmp/kinds";
    world
        .exec(&root)
        .stdin(Wire::Null)
        .stdout(Wire::Null)
        .stderr(Wire::Null)
        .sh(result)
        .done()
        .expect_code(0);
    assert_eq!(
        world
            .exec(&root)
            .sh("grep -c '^c.* 1, *3 ' /tmp/kinds")
            .text(),
        "3"
    );
    let run = world
        .exec(&root)
        .stdout(Wire::Null)
        .sh("exec 3>&1; ls -lL /proc/$$/fd/3 >&2");
    let text = run.done().err_text();
    assert!(text.starts_with('c') && text.contains("1,   3"), "{text}");
    assert_eq!(
        world
            .exec(&root)
            .stdin(Wire::Null)
            .sh("cat; echo end")
            .text(),
        "end"
    );
}

#[test]
fn owners_and_modes_of_inherited_streams_never_change() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let owned = |path: &std::path::Path| {
        let meta = fs::metadata(path).expect("stat");
        (meta.ino(), meta.mode(), meta.uid(), meta.gid())
    };
    let path = world.dir.join("private");
    fs::write(&path, "").expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    chown(&path, Some(12), Some(34)).expect("chown");
    let null = std::path::Path::new("/dev/null");
    let before = (owned(&path), owned(null));
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    let socket = File::from(OwnedFd::from(theirs.try_clone().expect("dup")));
    let before_socket = socket
        .metadata()
        .map(|m| (m.mode(), m.uid(), m.gid()))
        .expect("stat");
    for user in ["app", "4321:77", "root"] {
        let open = || OpenOptions::new().append(true).open(&path).expect("open");
        let run = world
            .exec(&root)
            .opt(format!("--user={user}"))
            .stdin(Wire::Null);
        run.stdout(Wire::Given(open().into()))
            .stderr(Wire::Null)
            .cmd(["echo", "x"])
            .done()
            .expect_code(0);
        let run = world
            .exec(&root)
            .opt(format!("--user={user}"))
            .stdin(Wire::Given(open().into()));
        let run = run
            .stdout(Wire::Null)
            .stderr(Wire::Given(theirs.try_clone().expect("dup").into()));
        run.cmd(["true"]).done().expect_code(0);
        assert_eq!((owned(&path), owned(null)), before, "{user}");
        let now = socket
            .metadata()
            .map(|m| (m.mode(), m.uid(), m.gid()))
            .expect("stat");
        assert_eq!(now, before_socket, "{user}");
    }
    drop(ours);
}

#[test]
fn the_end_of_input_reaches_the_command() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for run in [world.exec(&root), world.exec(&root).pipes()] {
        assert_eq!(run.input("1\n2\n3\n").cmd(["wc", "-l"]).text(), "3");
    }
}

#[test]
fn input_that_nobody_reads_does_not_hold_the_exit() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for run in [world.exec(&root), world.exec(&root).pipes()] {
        // The input never ends and is never read.
        let mut client = run.sh("echo done").spawn();
        client.write(&noise(4 << 20));
        let done = client.finish();
        assert_eq!(done.expect_ok(), "done");
    }
}

#[test]
fn a_reader_that_went_away_is_seen_by_the_command() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for run in [world.exec(&root), world.exec(&root).pipes()] {
        let mut client = run
            .stderr(Wire::Null)
            .sh("trap '' PIPE; while echo y; do :; done; exit 9")
            .spawn();
        client.expect("y\n");
        client.close_output();
        client.finish().expect_code(9);
    }
}

#[test]
fn streams_are_not_mixed() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for run in [world.exec(&root), world.exec(&root).pipes()] {
        let script = "i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
        let done = run.sh(script).done();
        let lines = |letter: char| {
            (0..500)
                .map(|n| format!("{letter}{n}"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(done.expect_ok(), lines('o'));
        assert_eq!(done.err_text(), lines('e'));
    }
}

/// Two pipes would keep it by luck only, so that both are one is looked at as well.
#[test]
fn one_socket_for_both_outputs_keeps_the_order() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let (mut ours, theirs) = UnixStream::pair().expect("socketpair");
    let again = theirs.try_clone().expect("dup");
    let run = world.exec(&root).stdout(Wire::Given(theirs.into()));
    let run = run.stderr(Wire::Given(again.into()));
    let script =
        "echo 1; echo 2 >&2; echo 3; echo 4 >&2; [ /dev/stdout -ef /dev/stderr ] && echo one";
    run.sh(script).done().expect_code(0);
    let mut text = String::new();
    ours.read_to_string(&mut text).expect("read");
    assert_eq!(text, "1\n2\n3\n4\none\n");
}

#[test]
fn output_waits_for_a_client_that_reads_after_the_command_has_ended() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // More than a socket takes, less than the socket, the relay and the pipe take together.
    let bytes = noise(260_000);
    fs::write(root.join("tmp/noise"), &bytes).expect("write");
    let client = world
        .exec(&root)
        .sh("cat /tmp/noise; echo yes > /tmp/over")
        .spawn();
    assert_eq!(root.wait_file("tmp/over"), "yes");
    root.wait_alone();
    let done = client.finish();
    assert!(done.status.success(), "{:?}", done.status);
    assert!(
        done.out == bytes,
        "{} of {} bytes",
        done.out.len(),
        bytes.len()
    );
}

#[test]
fn other_descriptors_of_the_caller_are_not_passed_on() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    leader.stop().expect_code(0);
    // Descriptors 3 to 9 and one far away are open and inherited by start-container.
    let wrap = "exec 3</etc/passwd 4</ 5</dev 6<>/dev/null 7</proc 9</etc; exec \"$@\"";
    let wrapped =
        |run: Run| run.wrap([tests::tool("sh").to_str().expect("path"), "-c", wrap, "sh"]);
    let leader = wrapped(world.launch_run(&root)).spawn();
    until("proc/1", || root.join("proc/1").exists().then_some(()));
    let count = "cd /proc/self/fd && for fd in *; do readlink $fd; done | grep -v -E '^(pipe|socket|/proc/[0-9]+/fd)'";
    let shown = wrapped(world.exec(&root))
        .sh(&format!("ls /proc/self/fd; {count}; true"))
        .text();
    // 3 is the directory that ls reads.
    assert_eq!(shown, "0\n1\n2\n3");
    let shown = wrapped(world.exec(&root))
        .opt("--force-tty")
        .cmd(["ls", "-C", "/proc/self/fd"])
        .text();
    assert_eq!(
        shown.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    drop(leader);
    let run = wrapped(world.launch_run(&root)).cmd(["ls", "/proc/self/fd"]);
    assert_eq!(run.text(), "0\n1\n2\n3");
}

#[test]
fn closed_streams_are_no_hazard() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let wrap = [
        tests::tool("sh").to_str().expect("path"),
        "-c",
        "exec \"$@\" <&- >&- 2>&-",
        "sh",
    ]
    .map(str::to_owned);
    world
        .exec(&root)
        .wrap(wrap)
        .sh("echo lost; echo lost >&2; exit 5")
        .done()
        .expect_code(5);
}
