//! Waits until the caller has read what was written into its sockets.
//!
//! A caller that learns of our exit before it looks at the sockets again may take what it has got by then for all there
//! is: Node reaps every child that has ended whenever one of them has, whatever lies unread in its streams. So bytes
//! that are written but not read are not yet delivered, and a socket can tell (unix(7), SIOCOUTQ).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use super::finish::stopped;
use super::plan::{StreamKind, kind};
use crate::{Result, sys};

/// How long a caller may leave bytes unread without taking any: one that reads only after our exit is not held up for
/// longer, and one that reads at all, on however loaded a machine, has been scheduled by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sockets among the caller's output streams.
#[derive(Debug, Default)]
pub(super) struct Readers {
    sockets: [Option<OwnedFd>; 2],
    /// When the workload closed that stream.
    closed: [Option<Instant>; 2],
}

impl Readers {
    /// Remembers the streams that are sockets. A reader sees the end when its socket is let go here, and not before.
    pub(super) fn new(streams: [Option<&OwnedFd>; 2]) -> Self {
        Self {
            sockets: streams.map(|stream| {
                let socket = stream.filter(|fd| kind(fd.as_fd()) == StreamKind::Socket)?;
                socket.try_clone().ok()
            }),
            closed: [None; 2],
        }
    }

    /// The workload itself has closed that stream, which is also how its end begins: the caller shall see the end of
    /// file, but a socket with unread bytes in it must still be there when we come to wait for them.
    pub(super) fn release(&mut self, index: usize) {
        if let Some(closed) = self.closed.get_mut(index) {
            closed.get_or_insert_with(Instant::now);
        }
        self.let_go();
    }

    /// Lets go of what the workload has closed and the caller has read; true when there is more of that to come.
    pub(super) fn let_go(&mut self) -> bool {
        let mut held = false;
        for (socket, closed) in self.sockets.iter_mut().zip(&self.closed) {
            if let (Some(fd), Some(since)) = (&*socket, closed) {
                if sys::pipe::unsent(fd).unwrap_or(0) == 0 || since.elapsed() >= PATIENCE {
                    *socket = None;
                } else {
                    held = true;
                }
            }
        }
        held
    }

    /// Returns when everything has been read, nothing is being read, or a terminating signal has come.
    ///
    /// # Errors
    /// Those of reading the signals.
    pub(super) fn wait(&self, stop: &SignalFd) -> Result<()> {
        let mut left = self.unread();
        let mut since = Instant::now();
        // There is no event for "all read", so it is asked for, ever less often.
        let mut pause = Duration::from_micros(50);
        while left > 0 && since.elapsed() < PATIENCE {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
            let now = self.unread();
            if now != left {
                since = Instant::now();
                left = now;
            }
            if stopped(stop)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// In units of the kernel's accounting; 0 is nothing, and also what a socket without a reader has.
    fn unread(&self) -> usize {
        let sockets = self.sockets.iter().flatten();
        let each = sockets.map(|fd| sys::pipe::unsent(fd).unwrap_or(0));
        each.sum()
    }
}
