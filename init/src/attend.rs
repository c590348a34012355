//! The role between an exec client and its command.
//!
//! The client's only way to stop an exec is to be killed. Its death closes the liveness pipe, whose other end nobody
//! else holds, and then everything that the command started is ended, also what called setsid or forked twice: all of
//! it stays below us, because we are a child subreaper. When the command ends by itself, we end too, and what it left
//! behind becomes PID 1's.

use crate::pid1::reap;
use crate::policy::{exit_code, is_forwarded, parent_in_stat, signal};
use crate::protocol::{Record, Spec, Step, Word};
use crate::sys::{self, PollFd};
use crate::{Failed, fail};

const PR_SET_DUMPABLE: usize = 4;
const PR_SET_CHILD_SUBREAPER: usize = 36;

/// Before the command is forked: the container's root must neither trace us nor take our descriptors, and orphans of
/// the command come to us.
pub(crate) fn prepare() -> Result<(), Failed> {
    sys::prctl(PR_SET_DUMPABLE, 0).map_err(|errno| (Step::Attend, errno))?;
    sys::prctl(PR_SET_CHILD_SUBREAPER, 1).map_err(|errno| (Step::Attend, errno))
}

/// Stays until the command has ended, or the client.
pub(crate) fn watch(spec: &Spec, child: i32) -> ! {
    // The command's streams are not ours: a pipe reaches its end only when no copy is left open.
    for fd in (0..3).chain(spec.streams).chain([spec.terminal]) {
        sys::close(fd);
    }
    let mut drains = spec.drains;
    let signals = match sys::signalfd() {
        Ok(signals) => signals,
        Err(errno) => {
            end_everything(spec);
            fail(spec, (Step::Attend, errno))
        }
    };
    loop {
        let mut set = [waiting(signals), waiting(spec.liveness)];
        sys::poll(&mut set, false);
        let [signalled, alive] = set;
        if signalled.revents != 0 {
            forward(child, signals);
            if let Some(status) = reap(Some(child)) {
                sys::write(spec.report, &Record::Ended(status).to_bytes());
                await_heard(spec, &mut drains);
                leave(spec, drains, exit_code(status));
            }
        }
        if alive.revents != 0 && hear(spec, &mut drains) == Heard::Silence {
            die_with_client(spec);
        }
    }
}

fn waiting(fd: i32) -> PollFd {
    PollFd {
        fd,
        events: sys::POLLIN,
        revents: 0,
    }
}

/// Passes on what has arrived; SIGCHLD only wakes us.
fn forward(child: i32, signals: i32) {
    const SIGINFO_LENGTH: usize = 128;
    let mut info = [0u8; SIGINFO_LENGTH];
    while sys::read(signals, &mut info) == Ok(SIGINFO_LENGTH) {
        let [first, second, third, fourth, ..] = info;
        let number = u32::from_ne_bytes([first, second, third, fourth]).cast_signed();
        if is_forwarded(number) {
            sys::kill(child, number);
        }
    }
}

/// What has been heard from the client.
#[derive(PartialEq, Eq)]
enum Heard {
    /// It is dead.
    Silence,
    /// It knows of the command's end.
    End,
    /// Something else, which has been dealt with.
    Other,
}

/// Reads one word of the client's. A stream that nobody reads any more shall look so to the command: our copy of the
/// read end goes.
fn hear(spec: &Spec, drains: &mut [i32; 2]) -> Heard {
    let mut byte = [0u8; 1];
    if sys::read(spec.liveness, &mut byte) != Ok(1) {
        return Heard::Silence;
    }
    let [stdout, stderr] = drains;
    let unread = match Word::from_byte(byte[0]) {
        Some(Word::EndHeard) => return Heard::End,
        Some(Word::StdoutClosed) => stdout,
        Some(Word::StderrClosed) => stderr,
        None => return Heard::Other,
    };
    sys::close(*unread);
    *unread = -1;
    Heard::Other
}

/// The death of a client that relays ends some commands by itself: a hang-up, the end of their input. So the end of
/// the command proves nothing before the client has said that it lived to hear of it.
fn await_heard(spec: &Spec, drains: &mut [i32; 2]) {
    while spec.is_relayed() {
        match hear(spec, drains) {
            Heard::Silence => die_with_client(spec),
            Heard::End => return,
            Heard::Other => {}
        }
    }
}

/// Ends everything that the command started, and us.
fn die_with_client(spec: &Spec) -> ! {
    end_everything(spec);
    sys::exit(128 + signal::KILL)
}

/// Ends us after the command ended by itself. If it left somebody behind who holds its stdout or stderr, a process
/// stays that keeps those pipes readable and empty, so that the daemon neither blocks nor dies of SIGPIPE.
fn leave(spec: &Spec, drains: [i32; 2], code: i32) -> ! {
    let mut set = drains.map(waiting);
    sys::poll(&mut set, true);
    let held = |entry: &PollFd| entry.fd >= 0 && entry.revents & sys::POLLHUP == 0;
    if set.iter().any(held) && sys::fork() == Ok(0) {
        sys::close(spec.report);
        drain(spec, drains);
    }
    sys::exit(code)
}

/// Reads and forgets, from the client's end until the last writer's.
fn drain(spec: &Spec, mut drains: [i32; 2]) -> ! {
    let _ = sys::setsid();
    // As long as the client lives, the bytes are its to read.
    while hear(spec, &mut drains) != Heard::Silence {}
    let mut buffer = [0u8; 4096];
    loop {
        let mut set = drains.map(waiting);
        if set.iter().all(|entry| entry.fd < 0) {
            sys::exit(0);
        }
        sys::poll(&mut set, false);
        for (entry, drain) in set.iter().zip(&mut drains) {
            let ready = entry.revents & (sys::POLLIN | sys::POLLHUP | sys::POLLERR) != 0;
            // The pipe does not block a reader for whom poll has found something; 0 is the end of file.
            if entry.fd >= 0 && ready && !matches!(sys::read(entry.fd, &mut buffer), Ok(1..)) {
                sys::close(entry.fd);
                *drain = -1;
            }
        }
    }
}

/// Kills and reaps until no child is left. Only direct children are killed: their numbers cannot be reused before we
/// reap them, and what they leave behind becomes a direct child in turn.
///
/// Numbers are those of the procfs, which is the surrounding container's where the kernel did not let a new one be
/// made: they are compared with each other only, and a process is signalled through its directory there.
fn end_everything(spec: &Spec) {
    // No process has the parent -1.
    let own = sys::own_number(spec.procfs).unwrap_or(-1);
    loop {
        kill_children(spec.procfs, own);
        // As long as anything is left there is a direct child, and it has just been killed: this does not wait long,
        // and what its end gives us is there when it returns.
        if sys::wait_any(false) == Err(sys::ECHILD) {
            return;
        }
        while let Ok((1.., _)) = sys::wait_any(true) {}
    }
}

/// Sends SIGKILL to every process whose parent we are.
fn kill_children(procfs: i32, own: i32) {
    let mut entries = [0u8; 4096];
    sys::rewind(procfs);
    while let Ok(length @ 1..) = sys::read_directory(procfs, &mut entries) {
        let mut rest = entries.get(..length).unwrap_or_default();
        while let Some((name, next)) = directory_entry(rest) {
            if crate::protocol::number(name).is_some_and(|pid| pid > 0) {
                kill_if_child(procfs, name, own);
            }
            rest = next;
        }
    }
}

/// The name of the first `struct linux_dirent64` and what follows it.
fn directory_entry(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    // d_ino and d_off, eight bytes each; d_reclen, two; d_type, one; then the name.
    let length = entries.get(16..18)?;
    let length = usize::from(u16::from_ne_bytes([*length.first()?, *length.get(1)?]));
    let name = entries.get(19..length)?;
    let end = name.iter().position(|&byte| byte == 0)?;
    Some((name.get(..end)?, entries.get(length..)?))
}

/// Sends SIGKILL to the process of that number if its parent is `own`. The directory stands for the process as a pidfd
/// does (pidfd_send_signal(2), since Linux 5.1), whatever becomes of the number.
fn kill_if_child(procfs: i32, pid: &[u8], own: i32) {
    let Some(name) = path_of(pid) else {
        return;
    };
    let Ok(process) = sys::open_at(procfs, &name) else {
        return;
    };
    if parent_of(process) == Some(own) {
        sys::pidfd_send_signal(process, signal::KILL);
    }
    sys::close(process);
}

/// A name as the kernel wants it.
fn path_of(name: &[u8]) -> Option<[u8; 32]> {
    let mut path = [0u8; 32];
    let (place, null) = path.split_at_mut_checked(name.len())?;
    place
        .iter_mut()
        .zip(name)
        .for_each(|(to, from)| *to = *from);
    (!null.is_empty()).then_some(path)
}

/// The parent of a process, from `stat` in its directory.
fn parent_of(process: i32) -> Option<i32> {
    let file = sys::open_at(process, &path_of(b"stat")?).ok()?;
    let mut line = [0u8; 512];
    let length = sys::read(file, &mut line);
    sys::close(file);
    parent_in_stat(line.get(..length.ok()?)?)
}
