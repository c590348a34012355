//! What holds at each moment of a client: strace acts at one of its system calls, so that no moment is a matter of luck.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Launch, Run, World, until};

/// Signals that end who does not catch them and write no core, in the kernel's order.
const ENDING: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
];

/// Traces the client alone, nothing that it forks; the list of its system calls goes to `list`.
fn traced(run: Run, list: &Path, options: &[&str]) -> Run {
    let strace = tests::tool("strace");
    run.wrap([strace.as_os_str(), "-o".as_ref(), list.as_os_str()])
        .wrap(options)
}

/// As [`traced`]; whatever of [`ENDING`] arrives before the client has taken signals in hand is lost, since its caller
/// ignores them.
fn traced_by_the_deaf(run: Run, list: &Path, options: &[&str]) -> Run {
    let env = tests::tool("env");
    let names = ENDING.map(|signal| signal.as_str().trim_start_matches("SIG"));
    let ignore = format!("--ignore-signal={}", names.join(",").replace("IO", "POLL"));
    let run = run.wrap([env.to_str().expect("path"), &ignore]);
    traced(run, list, options)
}

/// The client's system calls from the first file that it looks at to where it waits for its command: the name of each,
/// and the how-manieth of that name it is.
fn calls_before_the_wait(list: &Path) -> Vec<(String, usize)> {
    let text = fs::read_to_string(list).expect("list of system calls");
    let mut counts = BTreeMap::new();
    let mut calls = Vec::new();
    let (mut looks, mut forks) = (false, false);
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        let count = counts.entry(name.to_owned()).or_insert(0_usize);
        *count += 1;
        looks |= line.contains("/etc/start-container/config.toml");
        forks |= name.starts_with("clone");
        if forks && name == "poll" {
            return calls;
        }
        if looks {
            calls.push((name.to_owned(), *count));
        }
    }
    panic!("it does not wait: {text}")
}

/// Sent at any of its system calls a signal ends the command, which has it at its default, and the client alike.
fn a_signal_at_any_moment_arrives(make: impl Fn() -> Run, list: &Path) {
    // What is not in each run, a first use or another try, may not be in the next.
    let [mut calls, again] = [(); 2].map(|()| {
        let run = make().sh("exit 0");
        traced_by_the_deaf(run, list, &[]).done().expect_code(0);
        calls_before_the_wait(list)
    });
    calls.retain(|call| again.contains(call));
    assert!(calls.len() > 50, "{calls:?}");
    for ((name, count), signal) in calls.iter().zip(ENDING.into_iter().cycle()) {
        let inject = format!("--inject={name}:signal={}:when={count}", signal as i32);
        let run = make().cmd(["sleep", "100000"]);
        let done = traced_by_the_deaf(run, list, &[&inject]).done();
        assert_eq!(
            done.signal(),
            Some(signal as i32),
            "{signal} at {name} {count}"
        );
    }
}

#[test]
fn a_signal_at_any_moment_of_exec_reaches_the_command() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    a_signal_at_any_moment_arrives(|| world.exec(&root), &world.dir.join("calls"));
    root.wait_alone();
}

#[test]
fn a_signal_at_any_moment_of_launch_reaches_the_command() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let launch = || world.launch_run(&root).opt("--init");
    a_signal_at_any_moment_arrives(launch, &world.dir.join("calls"));
}

/// From the fork to init's first instruction PID 1 is a copy of launch, a process of the host. Who joins meanwhile, with
/// all capabilities that the container has, must not look into it.
#[test]
fn pid_1_cannot_be_looked_into_before_it_is_init() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    // The only mount of launch itself is that of the procfs: anybody may join from then on, and PID 1 waits for a word.
    let stop = "--inject=move_mount:signal=SIGSTOP:when=1";
    let run = world.launch_run(&root).opt("--profile=none");
    let run = traced(run, &world.dir.join("calls"), &[stop]);
    let leader = Launch::start(run, &root);
    let look = "exec 2>&1; for name in exe cwd root fd/0; do readlink -v /proc/1/$name; done; \
                for name in maps environ mem; do head -c 1 /proc/1/$name; done";
    let early = world.exec(&root).sh(look).done().out_text();
    let refused = |line: &str| line.ends_with("Permission denied");
    assert!(early.lines().all(refused), "{early}");
    assert_eq!(early.lines().count(), 7, "{early}");

    kill(child_of(leader.pid()).expect("child"), Signal::SIGCONT).expect("continue");
    until("PID 1 to be init", || {
        (root.cmdline(1) == "init").then_some(())
    });
    let late = world.exec(&root).sh(look).done().out_text();
    assert!(
        late.contains("/memfd:init"),
        "this test can tell nothing: {late}"
    );
}

/// Until its command is executed launch keeps the stop signals that arrive. Here two do, and the command catches the first
/// before launch hears of its execution: the second still ends it.
#[test]
fn every_stop_signal_before_the_command_is_remembered() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    // Held by a tracer that is not its parent, and let go with the tracer's end: launch would pass SIGCONT on.
    let hold = ["-D", "--inject=move_mount:delay_exit=600000000:when=1"];
    let run = world.launch_run(&root).pipes();
    let run = run.sh("trap : HUP; echo up; while :; do sleep 0.1; done");
    let mut leader = Launch::start(traced(run, &world.dir.join("calls"), &hold), &root);
    let client = leader.pid();
    let first = child_of(client).expect("PID 1");
    kill(first, Signal::SIGSTOP).expect("stop PID 1");
    until("a stopped PID 1", || {
        status_of(first, "State")?.starts_with('T').then_some(())
    });
    let tracer: i32 = status_of(client, "TracerPid")
        .and_then(|pid| pid.parse().ok())
        .expect("tracer");
    kill(Pid::from_raw(tracer), Signal::SIGKILL).expect("kill the tracer");
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        kill(client, signal).expect("signal");
        until("launch to take the signal", || {
            let pending = status_of(client, "ShdPnd")?;
            pending.bytes().all(|byte| byte == b'0').then_some(())
        });
    }
    kill(client, Signal::SIGSTOP).expect("stop launch");
    kill(first, Signal::SIGCONT).expect("continue PID 1");
    leader.expect("up");
    kill(client, Signal::SIGCONT).expect("continue launch");
    let done = leader.into_client().finish();
    assert_eq!(
        done.signal(),
        Some(Signal::SIGTERM as i32),
        "{:?}",
        done.status
    );
}

/// Between its two notes in the record, that there is a leader and that it can be seen, launch may take its time.
#[test]
fn exec_waits_for_a_launch_that_is_slow_to_show_its_leader() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let stop = "--inject=ftruncate:signal=SIGSTOP:when=2";
    let run = world.launch_run(&root);
    let calls = world.dir.join("calls");
    let leader = traced(run, &calls, &[stop]).spawn();
    // Its state alone tells nothing: strace stops a child of its own first, to learn what the kernel can do.
    until("a stopped launch", || {
        let text = fs::read_to_string(&calls).ok()?;
        text.contains("--- stopped by SIGSTOP ---").then_some(())
    });
    let client = child_of(leader.pid()).expect("launch");
    let mut early = world.exec(&root).cmd(["echo", "in"]).spawn();
    // After each look it sleeps.
    until("a thousand looks", || {
        let looks: u32 = match early.ended() {
            Some(_) => return Some(()),
            None => status_of(early.pid(), "voluntary_ctxt_switches")?
                .parse()
                .ok()?,
        };
        (looks > 1000).then_some(())
    });
    assert!(!root.join("proc/1").exists(), "this test can tell nothing");
    kill(client, Signal::SIGCONT).expect("continue launch");
    assert_eq!(early.finish().expect_ok(), "in");
}

/// A field of a process's status.
fn status_of(pid: Pid, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The only process that another has started.
fn child_of(parent: Pid) -> Option<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}
