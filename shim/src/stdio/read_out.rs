//! Waits until the caller has read what was written into its sockets.
//!
//! A caller that learns of our exit before it looks at the sockets again may take what it has got by then for all there
//! is: Node reaps every child that has ended whenever one of them has, whatever lies unread in its streams. So bytes
//! that are written but not read are not yet delivered, and a socket can tell (unix(7), SIOCOUTQ).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

use super::finish::stopped;
use super::plan::{StreamKind, kind};
use crate::{Result, sys};

/// How long a caller that sleeps may leave bytes unread: it does not want them before our exit.
const ASLEEP: Duration = Duration::from_secs(1);

/// How long any caller may. One that computes, or waits for a processor, cannot have read them yet: Node neither reads nor
/// reaps while it starts a hundred commands on a loaded machine.
const AWAKE: Duration = Duration::from_secs(30);

/// The sockets among the caller's output streams.
#[derive(Debug, Default)]
pub(super) struct Readers([Option<Reader>; 2]);

impl Readers {
    /// Remembers the streams that are sockets. A reader sees the end when its socket is let go here, and not before.
    pub(super) fn new(streams: [Option<&OwnedFd>; 2]) -> Self {
        Self(streams.map(|stream| stream.and_then(Reader::new)))
    }

    /// The workload itself has closed that stream, which is also how its end begins: the caller shall see the end of
    /// file, but a socket with unread bytes in it must still be there when we come to wait for them.
    pub(super) fn release(&mut self, index: usize) {
        if let Some(Some(reader)) = self.0.get_mut(index) {
            reader.closed = true;
        }
        self.let_go();
    }

    /// Lets go of what the workload has closed and the caller has read; true when there is more of that to come.
    pub(super) fn let_go(&mut self) -> bool {
        let mut held = false;
        for slot in &mut self.0 {
            if slot.as_mut().is_some_and(|it| it.closed && it.is_through()) {
                *slot = None;
            }
            held |= slot.as_ref().is_some_and(|it| it.closed);
        }
        held
    }

    /// Returns when everything has been read, nothing is being read, or a terminating signal has come.
    ///
    /// # Errors
    /// Those of reading the signals.
    pub(super) fn wait(&mut self, stop: &SignalFd) -> Result<()> {
        // There is no event for "all read", so it is asked for, ever less often.
        let mut pause = Duration::from_micros(50);
        loop {
            let mut through = true;
            for reader in self.0.iter_mut().flatten() {
                through &= reader.is_through();
            }
            if through || stopped(stop)? {
                return Ok(());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

/// Who reads one of the streams.
#[derive(Debug)]
struct Reader {
    socket: OwnedFd,
    /// The process that made the socket; none where it is of a PID namespace that is not seen from here.
    pid: Option<Pid>,
    /// Whether the workload has closed the stream.
    closed: bool,
    /// What was unread when it was last waited for.
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    /// In units of the kernel's accounting.
    unread: usize,
    /// When that became so.
    since: Instant,
    /// When the reader was last seen awake.
    awake: Instant,
}

impl Reader {
    fn new(stream: &OwnedFd) -> Option<Self> {
        if kind(stream.as_fd()) != StreamKind::Socket {
            return None;
        }
        let socket = stream.try_clone().ok()?;
        let maker = getsockopt(&socket, sockopt::PeerCredentials).ok();
        Some(Self {
            pid: maker.map(|it| Pid::from_raw(it.pid())),
            socket,
            closed: false,
            wait: None,
        })
    }

    /// Whether everything has been read, or nothing more is going to be.
    fn is_through(&mut self) -> bool {
        // 0 is also what a socket without a reader has.
        let unread = sys::pipe::unsent(&self.socket).unwrap_or(0);
        if unread == 0 {
            return true;
        }
        let now = Instant::now();
        let moved = Wait {
            unread,
            since: now,
            awake: now,
        };
        match &mut self.wait {
            Some(wait) if wait.unread == unread => {
                if self.pid.is_some_and(is_awake) {
                    wait.awake = now;
                }
                now - wait.awake >= ASLEEP || now - wait.since >= AWAKE
            }
            slot => {
                *slot = Some(moved);
                false
            }
        }
    }
}

/// Whether a process runs, waits for a processor, or for a disk (proc_pid_stat(5)).
fn is_awake(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may have anything in it.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|rest| rest.starts_with(['R', 'D']))
}
