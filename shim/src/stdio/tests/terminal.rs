//! The relay with a pty: its size, its end of input, its last bytes, and the user's own terminal around it.

use super::*;

/// Runs a shell command on a forced terminal over sockets; stderr is apart.
fn run_on_terminal(wish: &TerminalWish, script: &str, input: &[u8]) -> (String, String, Run) {
    let signals = signals::block_all().unwrap();
    let ([mut stdin, stdout, stderr], ours) = sockets();
    let stdio = stdio(ours, wish);
    let child = start(&stdio, &["sh", "-c", script]);
    stdin.write_all(input).unwrap();
    drop(stdin);
    let client = thread::spawn(move || (read_all(stdout), read_all(stderr)));
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    let (out, err) = client.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), run)
}

#[test]
fn a_terminal_has_its_size_before_the_command_starts() {
    let wish = TerminalWish {
        size: Some(WindowSize {
            rows: 33,
            cols: 101,
            xpixel: 5,
            ypixel: 6,
        }),
        ..forced()
    };
    let (out, err, _) = run_on_terminal(&wish, "stty size; test -t 2 || echo apart >&2", b"");
    assert_eq!((out.as_str(), err.as_str()), ("33 101\r\n", "apart\n"));
    let both = TerminalWish {
        force_stderr: true,
        ..wish
    };
    let (out, err, _) = run_on_terminal(&both, "test -t 2 && stat -Lc %a /dev/tty >&2", b"");
    assert_eq!(
        (out.lines().count(), err.as_str()),
        (1, ""),
        "{out:?} {err:?}"
    );
}

#[test]
fn the_end_of_input_is_typed_into_a_terminal() {
    for (input, expected) in [
        (&b""[..], "end\r\n"),
        (b"whole\n", "whole\r\nend\r\n"),
        (b"half", "halfend\r\n"),
    ] {
        let (out, _, run) = run_on_terminal(&forced(), "stty -echo; cat; echo end", input);
        // What was typed before echo was switched off may have been echoed.
        assert!(out.ends_with(expected), "{input:?}: {out:?}");
        assert!(run.status.success());
    }
}

#[test]
fn a_shell_that_edits_its_line_sees_the_end_of_input() {
    let (out, _, run) = run_on_terminal(
        &forced(),
        "PS1= exec bash --norc --noprofile -i",
        b"echo $((6*7))\n",
    );
    assert!(out.contains("42\r\n"), "{out:?}");
    assert!(run.status.success());
}

/// Nothing that could be waited for tells of a terminal whose mode has changed.
#[test]
fn an_editor_that_begins_in_silence_sees_the_end_of_input() {
    // cat takes the end that was typed for the line discipline; what is left of it may be a zero byte.
    let script = "cat; stty -icanon -echo; while :; do \
                  case $(dd bs=1 count=1 2>&- | od -An -tx1) in *04*) echo seen; exit;; esac; done";
    let (out, _, run) = run_on_terminal(&forced(), script, b"");
    assert!(out.contains("seen"), "{out:?}");
    assert!(run.status.success());
}

#[test]
fn a_program_that_takes_every_byte_gets_no_extra_one() {
    let (out, _, _) = run_on_terminal(
        &forced(),
        "stty raw -echo; echo ready; head -c 3 | od -An -tx1; timeout 0.3 od -An -tx1 -N1 -v; true",
        b"abc",
    );
    assert!(out.contains("61 62 63"), "{out:?}");
    assert!(!out.contains("04"), "{out:?}");
}

#[test]
fn no_byte_of_a_terminal_is_lost_at_the_end() {
    for round in 0..30 {
        let script = if round % 2 == 0 {
            "stty -opost; seq 1 20000"
        } else {
            "stty -opost; (trap '' HUP; exec sleep 1000) & echo $!; seq 1 20000"
        };
        let (out, _, run) = run_on_terminal(&forced(), script, b"");
        let mut lines = out.lines();
        if round % 2 == 1 {
            let pid = lines.next().unwrap().trim().parse().unwrap();
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        assert!(
            lines.eq((1..=20_000).map(|i| i.to_string())),
            "round {round}"
        );
        assert!(run.status.success());
    }
}

#[test]
fn a_terminal_whose_reader_is_gone_hangs_up() {
    let signals = signals::block_all().unwrap();
    let ([_stdin, stdout, _stderr], ours) = sockets();
    let stdio = stdio(ours, &forced());
    let child = start(
        &stdio,
        &["sh", "-c", "echo x; while :; do echo y; sleep 0.01; done"],
    );
    drop(stdout);
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    assert_eq!(run.status.signal(), Some(Signal::SIGHUP as i32));
}

/// A user at a terminal: raw mode on it while the relay runs, ^C inside, the size and its changes, and all restored.
#[test]
fn a_user_at_a_terminal() {
    let signals = signals::block_all().unwrap();
    let user = nix::pty::openpty(None, None).unwrap();
    let size = |rows, cols| {
        let size = WindowSize {
            rows,
            cols,
            xpixel: 0,
            ypixel: 0,
        };
        tty::set_size(&user.master, &size.into()).unwrap();
    };
    size(24, 80);
    let before = tcgetattr(&user.slave).unwrap();
    assert!(before.local_flags.contains(LocalFlags::ICANON));
    let streams = [(); 3].map(|()| user.slave.try_clone().unwrap());
    let stdio = stdio(streams, &TerminalWish::default());
    assert!(stdio.terminal());
    let script = "stty -echo; trap 'stty size; echo caught; exit 7' INT; stty size; while :; do sleep 0.01; done";
    let child = start(&stdio, &["sh", "-c", script]);
    let relay_side = stdio.into_relay().unwrap();
    let raw = tcgetattr(&user.slave).unwrap();
    assert!(
        !raw.local_flags
            .intersects(LocalFlags::ICANON | LocalFlags::ECHO)
    );
    let mut master = std::fs::File::from(user.master.try_clone().unwrap());
    let mut look = {
        let mut seen = String::new();
        move |wanted: &str| {
            while !seen.contains(wanted) {
                let mut bytes = [0; 256];
                let count = master.read(&mut bytes).unwrap();
                seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        }
    };
    let typing = user.master.try_clone().unwrap();
    let client = thread::spawn(move || {
        look("24 80");
        let size = WindowSize {
            rows: 50,
            cols: 132,
            xpixel: 0,
            ypixel: 0,
        };
        tty::set_size(&typing, &size.into()).unwrap();
        // A byte that nobody reads wakes the relay.
        nix::unistd::write(&typing, b" ").unwrap();
        (look, typing)
    });
    // The new size reaches the inner terminal before ^C is typed: wait for it on the inner side.
    let inner = relay_side.pty.as_ref().unwrap().slave.try_clone().unwrap();
    let second = thread::spawn(move || {
        let (mut look, typing) = client.join().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while tty::size(&inner).unwrap().ws_row != 50 {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        drop(inner);
        std::fs::File::from(typing).write_all(b"\x03").unwrap();
        look("50 132\r\ncaught");
    });
    let run = relay(relay_side, child, &signals);
    second.join().unwrap();
    assert_eq!(run.status.code(), Some(7));
    let after = tcgetattr(&user.slave).unwrap();
    assert_eq!(after.local_flags, before.local_flags);
    assert_eq!(after.input_flags, before.input_flags);
    assert_eq!(after.output_flags, before.output_flags);
}

/// stdin is a terminal, stdout is not: no pty, and the workload does not get the caller's either.
#[test]
fn a_callers_terminal_is_relayed_but_never_handed_through() {
    let signals = signals::block_all().unwrap();
    let user = nix::pty::openpty(None, None).unwrap();
    let before = tcgetattr(&user.slave).unwrap();
    let ([_, stdout, _stderr], [_, out, err]) = sockets();
    let stdio = stdio(
        [user.slave.try_clone().unwrap(), out, err],
        &TerminalWish::default(),
    );
    assert!(!stdio.terminal());
    let child = start(&stdio, &["sh", "-c", "test -t 0 || echo pipe; cat"]);
    let relay_side = stdio.into_relay().unwrap();
    let during = tcgetattr(&user.slave).unwrap();
    assert_eq!(during.local_flags, before.local_flags);
    nix::unistd::write(&user.master, b"typed\n\x04").unwrap();
    let reader = thread::spawn(move || read_all(stdout));
    let run = relay(relay_side, child, &signals);
    assert_eq!(reader.join().unwrap(), b"pipe\ntyped\n");
    assert!(run.status.success());
}

#[test]
fn nothing_of_the_callers_changes_its_flags_owner_or_mode() {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sys::stat::fstat;
    let signals = signals::block_all().unwrap();
    let ([_stdin, stdout, _stderr], [stdin, out, err]) = sockets();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(writer);
    for streams in [[stdin, out, err], [reader, null(), null()]] {
        let kept = streams.each_ref().map(|fd| fd.try_clone().unwrap());
        let state = || {
            kept.each_ref().map(|fd| {
                let status = fstat(fd).unwrap();
                let flags = fcntl(fd, FcntlArg::F_GETFL).unwrap();
                (flags, status.st_mode, status.st_uid, status.st_gid)
            })
        };
        let before = state();
        let plan = plan(streams.each_ref().map(|fd| kind(fd.as_fd())), &forced());
        let caller = super::open::Caller::given(streams.map(Some));
        let stdio = super::open::open_for(&plan, (1234, 1234), caller).unwrap();
        let child = start(&stdio, &["sh", "-c", "stat -Lc '%u %g %a' /dev/fd/0"]);
        let relay_side = stdio.into_relay().unwrap();
        relay(relay_side, child, &signals);
        assert_eq!(state(), before);
    }
    let mut bytes = [0; 64];
    let count = (&stdout).read(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], b"1234 1234 620\r\n");
}
