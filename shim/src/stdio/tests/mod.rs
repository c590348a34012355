//! The relay with real children, sockets, pipes and ptys. The test is the client; the relay runs in the test's thread.

mod terminal;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use super::plan::{TerminalWish, WindowSize, kind, plan};
use super::*;
use crate::signals;
use crate::sys::{pidfd, tty};

const PATIENCE: Duration = Duration::from_secs(20);

/// A stdio for three streams of a client.
fn stdio(streams: [OwnedFd; 3], wish: &TerminalWish) -> Stdio {
    let plan = plan(streams.each_ref().map(|fd| kind(fd.as_fd())), wish);
    open_given(&plan, streams).unwrap()
}

fn forced() -> TerminalWish {
    TerminalWish {
        force: true,
        ..TerminalWish::default()
    }
}

/// What a run needed.
struct Run {
    status: ExitStatus,
    drained: Drained,
    wakeups: usize,
}

/// Starts `argv` with these streams; with a terminal in a session of its own that the terminal controls.
fn start(stdio: &Stdio, argv: &[&str]) -> std::process::Child {
    let session: &[&str] = if stdio.terminal() {
        &["setsid", "--ctty"]
    } else {
        &[]
    };
    let words: Vec<&str> = session.iter().chain(argv).copied().collect();
    let end = |index| {
        let fd: OwnedFd = stdio
            .workload_end(index)
            .unwrap()
            .try_clone_to_owned()
            .unwrap();
        fd
    };
    let mut command = Command::new(words[0]);
    crate::sys::signal::start_clean(&mut command);
    command
        .args(&words[1..])
        .stdin(end(0))
        .stdout(end(1))
        .stderr(end(2))
        .spawn()
        .unwrap()
}

/// Relays until the child has ended, then finishes.
fn relay(mut relay: Relay, mut child: std::process::Child, signals: &SignalFd) -> Run {
    let process = pidfd::open(Pid::from_raw(i32::try_from(child.id()).unwrap())).unwrap();
    let mut wakeups = 0;
    let begun = Instant::now();
    loop {
        let patience = relay.patience();
        let mut set = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        set.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        relay.interest(&mut set);
        let timeout = if patience.is_none() {
            PollTimeout::from(30_000_u16)
        } else {
            patience
        };
        let moved = poll(&mut set, timeout).unwrap();
        assert!(moved > 0 || patience.is_some(), "nothing moves");
        assert!(begun.elapsed() < Duration::from_secs(60), "for ever");
        let ready: Vec<PollFlags> = set.iter().map(|fd| fd.revents().unwrap()).collect();
        wakeups += 1;
        // A signal to one thread of a test program cannot be sent from another: every wake-up counts as SIGWINCH.
        relay.window_changed();
        if !ready[0].is_empty() {
            break;
        }
        relay.progress(&ready[2..]).unwrap();
    }
    let status = child.wait().unwrap();
    let drained = relay.finish(PATIENCE, signals).unwrap();
    Run {
        status,
        drained,
        wakeups,
    }
}

fn null() -> OwnedFd {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null");
    OwnedFd::from(file.unwrap())
}

/// Three socket pairs as Node makes them: the client's sides and ours.
fn sockets() -> ([UnixStream; 3], [OwnedFd; 3]) {
    let pair = || UnixStream::pair().unwrap();
    let [(a, x), (b, y), (c, z)] = [pair(), pair(), pair()];
    ([a, b, c], [x.into(), y.into(), z.into()])
}

/// Runs a shell command with sockets and this input; the client writes all of it before it reads anything.
fn run_with(script: &str, input: &[u8]) -> (Vec<u8>, Vec<u8>, Run) {
    let signals = signals::block_all().unwrap();
    let ([mut stdin, stdout, stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let child = start(&stdio, &["sh", "-c", script]);
    let input = input.to_vec();
    let client = thread::spawn(move || {
        // A workload need not read its input.
        let _ = stdin.write_all(&input);
        drop(stdin);
        (read_all(stdout), read_all(stderr))
    });
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    let (out, err) = client.join().unwrap();
    (out, err, run)
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes of every value, without a period that a buffer size divides.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(state >> 24).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn ten_megabytes_through_cat_for_a_client_that_writes_first() {
    let input = noise(10_000_000);
    let (out, err, run) = run_with("cat", &input);
    assert!(out == input, "{} bytes came back", out.len());
    assert!(err.is_empty());
    assert!(run.status.success());
    assert_eq!(run.drained, Drained::Complete);
}

#[test]
fn a_hundred_outputs_of_190_kb_are_whole_at_the_end_of_the_relay() {
    let expected = noise(190_000);
    let worker = |expected: Vec<u8>| {
        let signals = signals::block_all().unwrap();
        for _ in 0..25 {
            let ([stdin, mut stdout, _stderr], ours) = sockets();
            let stdio = stdio(ours, &TerminalWish::default());
            let child = start(&stdio, &["sh", "-c", "cat; printf end"]);
            let mut stdin = stdin;
            let input = expected.clone();
            let writer = thread::spawn(move || stdin.write_all(&input).unwrap());
            let reader = thread::spawn(move || {
                let mut all = Vec::new();
                stdout.read_to_end(&mut all).unwrap();
                all
            });
            let run = relay(stdio.into_relay().unwrap(), child, &signals);
            writer.join().unwrap();
            let out = reader.join().unwrap();
            assert!(run.status.success());
            assert!(out[..190_000] == expected && &out[190_000..] == b"end");
        }
    };
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let expected = expected.clone();
            thread::spawn(move || worker(expected))
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn streams_can_be_opened_again_and_stay_apart() {
    let (out, err, run) = run_with(
        "cat /dev/stdin; echo out > /dev/stdout; echo err > /dev/stderr; stat -Lc %a /dev/stdin /dev/stdout /dev/stderr",
        b"in ",
    );
    assert_eq!(String::from_utf8_lossy(&out), "in out\n666\n666\n666\n");
    assert_eq!(String::from_utf8_lossy(&err), "err\n");
    assert!(run.status.success());
}

#[test]
fn one_socket_for_both_outputs_keeps_their_order() {
    let signals = signals::block_all().unwrap();
    let (client, ours) = UnixStream::pair().unwrap();
    let ours = OwnedFd::from(ours);
    let stdio = stdio(
        [null(), ours.try_clone().unwrap(), ours],
        &TerminalWish::default(),
    );
    assert_eq!(stdio.drains()[1], None);
    let child = start(
        &stdio,
        &[
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6; do echo o$i; echo e$i >&2; done",
        ],
    );
    relay(stdio.into_relay().unwrap(), child, &signals);
    let expected: String = (1..=6).map(|i| format!("o{i}\ne{i}\n")).collect();
    assert_eq!(String::from_utf8(read_all(client)).unwrap(), expected);
}

#[test]
fn a_background_holder_does_not_hold_up_the_end() {
    let signals = signals::block_all().unwrap();
    let ([_stdin, stdout, stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    // The flood never leaves the pipe empty: the end must not be waited for either.
    let child = start(
        &stdio,
        &[
            "sh",
            "-c",
            "sleep 1000 & echo $!; yes flood & echo $!; echo last",
        ],
    );
    let reader = thread::spawn(move || read_all(stdout));
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    let out = String::from_utf8(reader.join().unwrap()).unwrap();
    let mut lines = out.lines().filter(|line| *line != "flood");
    let background: Vec<i32> = lines
        .by_ref()
        .take(2)
        .filter_map(|pid| pid.parse().ok())
        .collect();
    let rest: Vec<&str> = lines.collect();
    assert!(kill(Pid::from_raw(background[0]), Signal::SIGKILL).is_ok());
    assert!(rest.contains(&"last"), "{rest:?}");
    assert_eq!(run.drained, Drained::Complete);
    drop(stderr);
}

#[test]
fn a_reader_that_goes_away_gives_the_workload_sigpipe() {
    let signals = signals::block_all().unwrap();
    let ([_stdin, mut stdout, stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let child = start(
        &stdio,
        &["sh", "-c", "yes; echo status $? >&2; echo still here >&2"],
    );
    let client = thread::spawn(move || {
        stdout.read_exact(&mut [0; 1000]).unwrap();
        drop(stdout);
        read_all(stderr)
    });
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    let err = String::from_utf8(client.join().unwrap()).unwrap();
    assert_eq!(err, "status 141\nstill here\n");
    assert_eq!(run.drained, Drained::Complete);
}

#[test]
fn a_workload_that_closes_its_streams_is_seen_by_the_client_while_it_runs() {
    let signals = signals::block_all().unwrap();
    let ([mut stdin, stdout, stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let child = start(
        &stdio,
        &["sh", "-c", "exec 3<&0 </dev/null 3<&- >&-; exec sleep 1000"],
    );
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let client = thread::spawn(move || {
        // Both end although the command lives on.
        assert!(read_all(stdout).is_empty());
        let error = loop {
            if let Err(error) = stdin.write_all(&[0; 65_536]) {
                break error;
            }
        };
        kill(pid, Signal::SIGKILL).unwrap();
        drop(stderr);
        error.kind()
    });
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    assert_eq!(client.join().unwrap(), std::io::ErrorKind::BrokenPipe);
    assert!(!run.status.success());
}

#[test]
fn a_flood_for_a_client_that_does_not_read_costs_nothing() {
    let signals = signals::block_all().unwrap();
    let ([stdin, stdout, stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let child = start(&stdio, &["yes"]);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let drain = stdio.ours[1].as_ref().unwrap().try_clone().unwrap();
    let client = thread::spawn(move || {
        // Everything stands still once every buffer is full.
        let deadline = Instant::now() + PATIENCE;
        let (mut before, mut same) = (0, 0);
        while same < 50 {
            assert!(Instant::now() < deadline);
            let now = crate::sys::pipe::unread(&drain).unwrap();
            same = if now > 0 && now == before {
                same + 1
            } else {
                0
            };
            before = now;
            poll(&mut [], PollTimeout::from(4_u8)).unwrap();
        }
        kill(pid, Signal::SIGTERM).unwrap();
        drop((stdin, stderr));
        read_all(stdout)
    });
    let run = relay(stdio.into_relay().unwrap(), child, &signals);
    let out = client.join().unwrap();
    // One pipe, one buffer, one socket.
    assert!(out.len() < 1_000_000, "{}", out.len());
    assert!(out.chunks_exact(2).all(|pair| pair == b"y\n"));
    assert!(run.wakeups < 500, "{} wake-ups", run.wakeups);
}

#[test]
fn a_stalled_reader_holds_up_the_end_only_for_so_long() {
    let signals = signals::block_all().unwrap();
    let ([_stdin, stdout, _stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let mut child = start(&stdio, &["sh", "-c", "head -c 60000 /dev/zero"]);
    fill(stdio.caller.streams[1].as_ref().unwrap());
    child.wait().unwrap();
    let relay = stdio.into_relay().unwrap();
    let drained = relay.finish(Duration::from_millis(50), &signals).unwrap();
    assert_eq!(drained, Drained::Stalled);
    drop(stdout);
}

#[test]
fn a_terminating_signal_ends_the_wait_for_a_stalled_reader_and_others_do_not() {
    let signals = signals::block_all().unwrap();
    let ([_stdin, stdout, _stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let mut child = start(&stdio, &["sh", "-c", "head -c 60000 /dev/zero"]);
    fill(stdio.caller.streams[1].as_ref().unwrap());
    child.wait().unwrap();
    nix::sys::signal::raise(Signal::SIGWINCH).unwrap();
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    let relay = stdio.into_relay().unwrap();
    assert_eq!(relay.finish(PATIENCE, &signals).unwrap(), Drained::Stopped);
    drop(stdout);
}

/// A terminating signal ends that wait as well; nobody else takes the signal here.
#[test]
fn what_is_written_and_not_read_yet_is_waited_for() {
    let signals = signals::block_all().unwrap();
    let ([_stdin, mut stdout, _stderr], ours) = sockets();
    let stdio = stdio(ours, &TerminalWish::default());
    let mut child = start(&stdio, &["echo", "x"]);
    child.wait().unwrap();
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    let relay = stdio.into_relay().unwrap();
    assert_eq!(relay.finish(PATIENCE, &signals).unwrap(), Drained::Complete);
    assert_eq!(
        signals::next(&signals).unwrap(),
        None,
        "it was not waited for"
    );
    let mut bytes = [0; 2];
    stdout.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"x\n");
}

/// Writes until the socket takes no more.
fn fill(socket: &OwnedFd) {
    let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
    while nix::sys::socket::send(socket.as_raw_fd(), &[1; 4096], flags).is_ok() {}
}

#[test]
fn files_and_pipes_are_handed_through_and_leave_the_relay_idle() {
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
    let expected = [reader.as_raw_fd(), file.as_raw_fd()];
    let stdio = stdio([reader, file, null()], &TerminalWish::default());
    assert_eq!(stdio.workload()[..2], expected);
    assert_eq!(stdio.drains(), [None, None]);
    let relay = stdio.into_relay().unwrap();
    assert!(relay.is_idle());
    let mut set = Vec::new();
    relay.interest(&mut set);
    assert!(set.is_empty());
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let signals = signals::block_all().unwrap();
    for wish in [TerminalWish::default(), forced()] {
        let ([stdin, mut stdout, _stderr], ours) = sockets();
        let stdio = stdio(ours, &wish);
        let script = "test -t 1 && stty -opost; exec seq 1 150000";
        let child = start(&stdio, &["sh", "-c", script]);
        let reader = thread::spawn(move || {
            let (mut all, mut bytes) = (Vec::new(), [0; 1024]);
            loop {
                // Far slower than the writer, without a clock.
                for _ in 0..50 {
                    thread::yield_now();
                }
                match stdout.read(&mut bytes).unwrap() {
                    0 => return String::from_utf8(all).unwrap(),
                    count => all.extend_from_slice(&bytes[..count]),
                }
            }
        });
        let run = relay(stdio.into_relay().unwrap(), child, &signals);
        let text = reader.join().unwrap();
        assert!(text.lines().eq((1..=150_000).map(|i| i.to_string())));
        assert_eq!(run.drained, Drained::Complete);
        drop(stdin);
    }
}
