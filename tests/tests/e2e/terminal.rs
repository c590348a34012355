//! CONTRACT 4: terminals.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::termios::LocalFlags;
use nix::unistd::mkfifo;
use tests::{Client, Pty, Run, Wire, World, tool, until, write_file};

/// The client sits at this terminal with all three streams.
fn at(run: Run, pty: &Pty) -> Run {
    run.stdin(pty.wire()).stdout(pty.wire()).stderr(pty.wire())
}

/// Reads a line and says what it was.
const READS: &str = "echo up; read line; echo got $line";

/// Runs a script that says "up" first, and waits until it has and the terminal is raw.
fn spawn_raw(run: Run, pty: &mut Pty, script: &str) -> Client {
    let client = at(run, pty).sh(script).spawn();
    pty.expect("up");
    until_raw(pty);
    client
}

/// Types a line for [`READS`], and waits for what it says and its end.
fn answer(client: Client, pty: &mut Pty) {
    pty.write(b"hello\r");
    pty.expect("got hello");
    client.finish().expect_code(0);
}

fn until_raw(pty: &Pty) {
    until("raw mode", || is_raw(pty).then_some(()));
}

fn is_raw(pty: &Pty) -> bool {
    !pty.settings()
        .local_flags
        .intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
}

#[test]
fn the_command_has_a_terminal_of_its_own_when_the_caller_has() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let script = "test -t 0 && test -t 1 && test -t 2 && echo all; exit 3";
    at(world.exec(&root), &pty).sh(script).done().expect_code(3);
    pty.expect("all");
    // Another terminal than the caller's: the caller's could be typed into from inside (TIOCSTI).
    let outer = std::fs::read_link("/proc/self/fd/0").ok();
    world.rbind_host(&root);
    at(world.exec(&root), &pty).sh("tty").done().expect_code(0);
    let shown = pty.expect("\n");
    assert!(
        outer.is_none_or(|name| !shown.contains(name.to_str().unwrap_or("?"))),
        "{shown}"
    );
}

#[test]
fn the_terminal_is_the_controlling_one() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    world.rbind_host(&root);
    assert_eq!(
        world
            .exec(&root)
            .opt("--force-tty")
            .sh("echo yes > /dev/tty")
            .text(),
        "yes"
    );
    assert_eq!(
        world
            .exec(&root)
            .opts(["--force-tty", "--user=app"])
            .sh("echo yes > /dev/tty")
            .text(),
        "yes"
    );
}

#[test]
fn another_user_may_open_its_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    world.rbind_host(&root);
    let run = world
        .exec(&root)
        .opts(["--force-tty", "--force-stderr-tty", "--user=app"]);
    assert_eq!(
        run.sh("echo out > /dev/stdout; echo err > /dev/stderr")
            .text(),
        "out\r\nerr"
    );
}

#[test]
fn raw_while_it_runs_and_restored_at_the_end() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let before = pty.settings();
    let client = spawn_raw(world.exec(&root), &mut pty, READS);
    answer(client, &mut pty);
    assert_eq!(pty.settings(), before);
}

/// A shell that has stopped its job takes the terminal back, sets the mode that it likes, and later lets the job go on.
#[test]
fn raw_again_when_it_is_let_go_on() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let before = pty.settings();
    let client = spawn_raw(world.exec(&root), &mut pty, READS);
    pty.set(&before);
    client.signal(Signal::SIGCONT);
    until_raw(&pty);
    answer(client, &mut pty);
    assert_eq!(pty.settings(), before);
}

/// A shell has the terminal and the client is its background job: what is typed is the shell's, and the client neither
/// changes the terminal nor takes a read that is refused for the end of its input. In front it goes on reading, also
/// where the shell sends no SIGCONT because the job was running (bash).
#[test]
fn in_the_background_input_is_left_to_the_shell_and_in_front_it_is_read() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let script = "echo up; until [ -e /go ]; do sleep 0.01; done; echo still there; read line; echo got $line; exit 5";
    let job_control =
        "set -m; \"$@\" & read word < \"$0\"; read line; echo shell has $line; fg; echo code $?";
    let fifo = world.dir.join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("mkfifo");
    for shell in ["sh", "bash"] {
        let mut pty = Pty::new(24, 80);
        let before = pty.settings();
        let wrap = [tool("setsid"), "--ctty".into(), tool(shell), "-c".into()];
        let run = world.exec(&root).wrap(&wrap);
        let run = run.wrap([job_control.as_ref(), fifo.as_os_str()]);
        let shell = at(run, &pty).sh(script).spawn();
        pty.expect("up");
        pty.write(b"first\n");
        until("a line to read", || pty.is_readable().then_some(()));
        // The client sees that there is output and that there is input in one look, and tries to read before it writes.
        write_file(root.join("go"), "");
        pty.expect("still there");
        assert_eq!(pty.settings(), before, "a background job changed the mode");
        write_file(&fifo, "go on\n");
        pty.expect("shell has first");
        until("raw mode in front", || is_raw(&pty).then_some(()));
        pty.write(b"second\r");
        pty.expect("got second");
        pty.expect("code 5");
        shell.finish().expect_code(0);
        assert_eq!(pty.settings(), before);
        fs::remove_file(root.join("go")).expect("remove");
    }
}

#[test]
fn restored_on_every_way_out() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let before = pty.settings();
    at(world.exec(&root), &pty)
        .sh("exit 9")
        .done()
        .expect_code(9);
    assert_eq!(pty.settings(), before, "a code");
    assert_eq!(
        at(world.exec(&root), &pty)
            .sh("kill -KILL $$")
            .done()
            .signal(),
        Some(9)
    );
    assert_eq!(pty.settings(), before, "a signal");
    at(world.exec(&root), &pty)
        .cmd(["no-such-command"])
        .done()
        .expect_code(127);
    assert_eq!(pty.settings(), before, "not found");
    at(world.exec(&root), &pty)
        .opt("--user=nobody-here")
        .cmd(["true"])
        .done()
        .expect_code(125);
    assert_eq!(pty.settings(), before, "refused");
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGUSR1,
    ] {
        let client = spawn_raw(world.exec(&root), &mut pty, "echo up; exec sleep 100000");
        client.signal(signal);
        assert_eq!(client.finish().signal(), Some(signal as i32));
        assert_eq!(pty.settings(), before, "{signal} to the client");
    }
    let client = at(world.exec(&root), &pty)
        .sh("echo up; exec sleep 100000")
        .spawn();
    pty.expect("up");
    leader.stop().expect_code(0);
    let _ = client.finish();
    assert_eq!(pty.settings(), before, "the leader ended");
}

#[test]
fn launch_restores_the_terminal_too() {
    let Some(world) = World::new() else { return };
    let mut pty = Pty::new(24, 80);
    let before = pty.settings();
    let root = world.create();
    let client = spawn_raw(
        world.launch_run(&root),
        &mut pty,
        "echo up; read line; exit 6",
    );
    pty.write(b"x\r");
    client.finish().expect_code(6);
    assert_eq!(pty.settings(), before);
    let client = at(world.launch_run(&root), &pty)
        .sh("echo up; exec sleep 100000")
        .spawn();
    pty.expect("up");
    client.signal(Signal::SIGTERM);
    let _ = client.finish();
    assert_eq!(pty.settings(), before, "SIGTERM to the client");
}

#[test]
fn an_idle_leader_leaves_the_terminal_alone() {
    let Some(world) = World::new() else { return };
    let pty = Pty::new(24, 80);
    let before = pty.settings();
    let root = world.create();
    let leader = tests::Launch::start(at(world.launch_run(&root), &pty), &root);
    assert_eq!(pty.settings(), before);
    leader.stop().expect_code(0);
    assert_eq!(pty.settings(), before);
}

#[test]
fn the_size_is_right_before_the_command_starts() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // busybox shows its own default for less than 2.
    for (rows, columns) in [(24, 80), (2, 3), (500, 1000)] {
        let mut pty = Pty::new(rows, columns);
        at(world.exec(&root), &pty)
            .cmd(["stty", "size"])
            .done()
            .expect_code(0);
        pty.expect(&format!("{rows} {columns}"));
    }
    for (rows, columns) in [(0, 0), (1, 1)] {
        let pty = Pty::new(rows, columns);
        at(world.exec(&root), &pty)
            .cmd(["true"])
            .done()
            .expect_code(0);
    }
}

#[test]
fn a_change_of_the_size_arrives() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let script =
        "trap 'echo size $(stty size)' WINCH; echo up; while [ ! -e /tmp/go ]; do sleep 0.01; done";
    let client = at(world.exec(&root), &pty).sh(script).spawn();
    pty.expect("up");
    for (rows, columns) in [(30, 100), (31, 101)] {
        pty.resize(rows, columns);
        client.signal(Signal::SIGWINCH);
        pty.expect(&format!("size {rows} {columns}"));
    }
    tests::write_file(root.join("tmp/go"), "");
    client.finish().expect_code(0);
}

#[test]
fn an_asked_size_wins_over_the_callers() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    at(world.exec(&root), &pty)
        .opt("--pty-size=50:132")
        .cmd(["stty", "size"])
        .done()
        .expect_code(0);
    pty.expect("50 132");
}

#[test]
fn control_c_goes_through_the_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let client = spawn_raw(
        world.exec(&root),
        &mut pty,
        "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done",
    );
    pty.write(b"\x03");
    pty.expect("caught");
    client.finish().expect_code(9);
}

#[test]
fn control_d_ends_the_input() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let client = spawn_raw(world.exec(&root), &mut pty, "echo up; cat; echo over");
    pty.write(b"line\r");
    pty.expect("line");
    pty.write(b"\x04");
    pty.expect("over");
    client.finish().expect_code(0);
}

#[test]
fn force_tty_over_other_streams() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let script = "test -t 0 && test -t 1 && echo both; test -t 2 || echo apart; echo error >&2";
    for run in [
        world.exec(&root),
        world.exec(&root).pipes(),
        world.exec(&root).stdin(Wire::Null),
    ] {
        let done = run.opt("--force-tty").sh(script).done();
        assert_eq!(done.expect_ok(), "both\r\napart");
        assert_eq!(done.err_text(), "error");
    }
}

#[test]
fn force_stderr_tty_puts_stderr_on_the_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let done = world
        .exec(&root)
        .opts(["--force-tty", "--force-stderr-tty"])
        .sh("test -t 2 && echo error >&2")
        .done();
    assert_eq!(done.expect_ok(), "error");
    assert_eq!(done.err_text(), "");
}

#[test]
fn stderr_is_apart_unless_it_is_a_terminal() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut pty = Pty::new(24, 80);
    let run = world.exec(&root).stdin(pty.wire()).stdout(pty.wire());
    let done = run
        .sh("test -t 1 && echo out; test -t 2 || echo err >&2")
        .done();
    done.expect_code(0);
    assert_eq!(done.err_text(), "err");
    pty.expect("out");
    assert!(!pty.shown().contains("err"));
}

#[test]
fn input_over_a_pipe_reaches_a_forced_terminal_and_its_end_too() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for run in [world.exec(&root), world.exec(&root).pipes()] {
        let text = run
            .opt("--force-tty")
            .input("one\ntwo\n")
            .sh("stty -echo; while read l; do echo \"[$l]\"; done; echo over")
            .text();
        assert!(text.contains("[one]\r\n[two]\r\n"), "{text:?}");
        assert!(
            text.ends_with("over"),
            "the end of the input did not arrive: {text:?}"
        );
    }
}

#[test]
fn all_output_of_a_terminal_is_there_at_the_exit() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let lines: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    for _ in 0..10 {
        let done = world
            .exec(&root)
            .opt("--force-tty")
            .cmd(["seq", "1", "20000"])
            .done();
        let _ = done.expect_ok();
        assert!(
            done.out == lines.as_bytes(),
            "{} of {} bytes",
            done.out.len(),
            lines.len()
        );
    }
}

#[test]
fn a_terminal_whose_daemon_lives_on_does_not_hold_the_exit() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let run = world.exec(&root).opt("--force-tty");
    assert_eq!(
        run.sh("trap '' HUP; sleep 100000 & echo started").text(),
        "started"
    );
}
