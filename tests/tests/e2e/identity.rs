//! Invariants 6 and 7: process identity is a pidfd and a number only a way to get one, and no wait is without an end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tests::{Client, Snapshot, World, until};

// 6. Process identity is a pidfd; a number is only a way to get one.

/// A process of the test that must not be touched.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        Self(
            Command::new("/bin/sleep")
                .arg("100000")
                .stdin(Stdio::null())
                .spawn()
                .expect("sleep"),
        )
    }

    fn assert_alive(&mut self) {
        assert!(
            self.0.try_wait().expect("wait").is_none(),
            "a process of the host was killed for another one's number"
        );
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record_of(world: &World) -> PathBuf {
    let mut records: Vec<PathBuf> = fs::read_dir(world.state.join("leaders"))
        .expect("leaders")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(19))
        .and_then(|text| text.parse().ok())
        .expect("field 22")
}

/// Kills the launch, so that its record stays, changes the record, and expects that nobody believes it.
fn not_believed(change: impl FnOnce(&mut Value, &Victim)) {
    let Some(world) = World::new() else { return };
    let mut victim = Victim::new();
    let (root, leader) = world.idle();
    let record = record_of(&world);
    let bytes = fs::read(&record).expect("record");
    leader.kill();
    until("the end of the container", || {
        tests::processes_of(&world.dir).is_empty().then_some(())
    });
    let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
    change(&mut value, &victim);
    fs::write(&record, value.to_string()).expect("write");
    world
        .exec(&root)
        .cmd(["touch", "/tmp/ran"])
        .done()
        .expect_refused(&[125]);
    victim.assert_alive();
    assert!(!Path::new("/tmp/ran").exists());
    // A second launch and destroy-fs stop the leader of the record; they must not take the victim for it.
    world.launch(&root).stop().expect_code(0);
    victim.assert_alive();
    fs::write(&record, value.to_string()).expect("write");
    world.destroy(&root);
    victim.assert_alive();
}

#[test]
fn a_record_with_a_reused_pid_is_not_believed() {
    not_believed(|record, victim| {
        for who in ["leader", "shim"] {
            record[who]["pid"] = victim.0.id().into();
            // A tick is 10 ms, and the victim may have been started within the same one.
            record[who]["start_time"] = (start_time(victim.0.id()) - 1).into();
        }
    });
}

#[test]
fn a_record_of_another_boot_is_not_believed() {
    not_believed(|record, victim| {
        for who in ["leader", "shim"] {
            record[who]["pid"] = victim.0.id().into();
            record[who]["start_time"] = start_time(victim.0.id()).into();
        }
        record["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
    });
}

#[test]
fn a_record_that_is_no_record_is_not_believed() {
    for text in [
        "",
        "{",
        "[]",
        "null",
        "{\"leader\":{\"pid\":1,\"start_time\":0}}",
        "\u{0}\u{0}",
    ] {
        let Some(world) = World::new() else { return };
        let (root, leader) = world.idle();
        let record = record_of(&world);
        leader.kill();
        fs::write(&record, text).expect("write");
        // The container dies a moment after its launch, and until then it can be joined.
        until("no process of the container", || {
            tests::processes_of(&world.dir).is_empty().then_some(())
        });
        world
            .exec(&root)
            .cmd(["true"])
            .done()
            .expect_refused(&[125]);
        let leader = world.launch(&root);
        assert_eq!(
            world.exec(&root).cmd(["echo", "up"]).text(),
            "up",
            "{text:?}"
        );
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn a_lost_record_does_not_lose_the_container() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let (root, leader) = world.idle();
    fs::remove_file(record_of(&world)).expect("remove");
    let done = world.exec(&root).cmd(["echo", "found"]).done();
    assert_eq!(done.expect_ok(), "found");
    leader.stop().expect_code(0);
    world.destroy(&root);
    before.assert_same(&world);
}

// 7. No wait without an end.

fn bounded(client: Client, what: &str) {
    // `finish` fails at the deadline.
    let done = client.finish();
    assert!(
        done.code().is_some(),
        "{what}: {:?} {}",
        done.status,
        done.err_text()
    );
}

#[test]
fn a_stopped_launch_process_holds_nobody_for_ever() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let (root, first) = world.idle();
    first.signal(Signal::SIGSTOP);
    assert_eq!(world.exec(&root).cmd(["echo", "in"]).text(), "in");
    let second = world.launch_run(&root).cmd(["echo", "second"]).spawn();
    bounded(second, "launch");
    bounded(
        world.verb("destroy-fs").cmd([&root.guid]).spawn(),
        "destroy-fs",
    );
    first.signal(Signal::SIGCONT);
    drop(first);
    world.destroy(&root);
    before.assert_same(&world);
}

#[test]
fn a_record_that_somebody_keeps_locked_holds_nobody_for_ever() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let record = record_of(&world);
    let bytes = fs::read(&record).expect("record");
    leader.kill();
    fs::write(&record, bytes).expect("write");
    let lock = Flock::lock(
        File::open(&record).expect("open"),
        FlockArg::LockExclusiveNonblock,
    )
    .expect("lock");
    world
        .exec(&root)
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
    world.launch_run(&root).done().expect_refused(&[125]);
    drop(lock);
    world.destroy(&root);
}

#[test]
fn a_fifo_as_env_file_holds_nobody_for_ever() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let fifo = world.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("mkfifo");
    world
        .exec(&root)
        .opt(format!("--env-file={}", fifo.display()))
        .cmd(["true"])
        .done()
        .expect_refused(&[125]);
}

#[test]
fn a_stopped_pid_1_holds_no_exec_for_ever() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut leader = world
        .launch_run(&root)
        .opt("--init")
        .sh("echo up; exec sleep 100000")
        .spawn();
    leader.expect("up");
    let pid_1 = host_pid_of_init(&world);
    kill(pid_1, Signal::SIGSTOP).expect("stop");
    assert_eq!(world.exec(&root).cmd(["echo", "in"]).text(), "in");
    kill(pid_1, Signal::SIGCONT).expect("continue");
    leader.signal(Signal::SIGTERM);
    let _ = leader.finish();
}

/// The host's number of the container's PID 1.
fn host_pid_of_init(world: &World) -> nix::unistd::Pid {
    let is_first = |pid: nix::unistd::Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| {
            line.starts_with("NSpid:")
                && line.split_whitespace().count() == 3
                && line.ends_with("\t1")
        })
    };
    until("PID 1", || {
        tests::processes_of(&world.dir)
            .into_iter()
            .map(|process| process.pid)
            .find(|pid| is_first(*pid))
    })
}
