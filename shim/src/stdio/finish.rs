//! The end of a relay: what the workload wrote before it ended reaches the caller, and nothing else is waited for.
//!
//! Background children may hold the pipes and even go on writing; so the amount to read is fixed when this begins. The
//! client of a Node program resolves on our exit, not on the streams' end: all must have been written by then.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::buffer::USUAL;
use super::end::uninterrupted;
use super::flow::Flow;
use super::relay::Relay;
use crate::signals::{self, Received};
use crate::{Error, Result, sys};

/// More than a pty can hold: 8 KiB in flight (drivers/tty/pty.c) and the 4 KiB of the line discipline.
const PTY_HOLDS: usize = 64 * 1024;

/// How the end of a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything was written, as far as the caller still has a reader for it.
    Complete,
    /// A signal that would end us came while the caller was not reading.
    Stopped,
    /// The caller read nothing for as long as was allowed.
    Stalled,
}

impl Relay {
    /// Writes the rest to the caller, after the workload has ended, and restores the caller's terminal. Waits only for
    /// the caller, and no longer than `patience` without any byte taken; a terminating signal on `stop` ends the wait.
    ///
    /// # Errors
    /// As for [`Relay::progress`], after the other stream was dealt with.
    pub fn finish(mut self, patience: Duration, stop: &SignalFd) -> Result<Drained> {
        self.input = None;
        let terminal = self.pty.is_some();
        if let Some(pty) = self.pty.take() {
            // With the last slave gone the master answers EIO once everything has been read. (Its other copy is the
            // source of the output.) While background children hold one, EAGAIN is as final: a read of an empty
            // master first waits for what is in flight (drivers/tty/n_tty.c, n_tty_read).
            drop(pty.slave);
            drop(pty.master);
        }
        for (index, slot) in self.outputs.iter_mut().enumerate() {
            let Some(flow) = slot else { continue };
            // A master's FIONREAD does not count what is in flight.
            let held = flow.source().map(sys::pipe::unread);
            flow.want_only(match held {
                Some(Ok(count)) if !(terminal && index == 0) => count,
                _ => PTY_HOLDS,
            });
        }
        let mut result = Ok(());
        let mut since = Instant::now();
        loop {
            let mut moved = false;
            for index in 0..self.outputs.len() {
                match self.pump_output(index, USUAL) {
                    Ok(some) => moved |= some,
                    Err(error) => result = result.and(Err(error)),
                }
            }
            if self.is_idle() {
                self.readers.wait(stop)?;
                return result.map(|()| Drained::Complete);
            }
            if moved {
                since = Instant::now();
                continue;
            }
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                return result.map(|()| Drained::Stalled);
            }
            self.wait(left, stop)?;
            if stopped(stop)? {
                for index in 0..self.outputs.len() {
                    result = result.and(self.pump_output(index, USUAL).map(drop));
                }
                return result.map(|()| Drained::Stopped);
            }
        }
    }

    /// Waits until the caller takes more, a signal comes, or the time is over.
    fn wait(&self, left: Duration, stop: &SignalFd) -> Result<()> {
        let mut set = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        for sink in self.outputs.iter().flatten().filter_map(Flow::awaited_sink) {
            set.push(PollFd::new(sink.as_fd(), PollFlags::POLLOUT));
        }
        // Rounded up: a wait of no time would spin.
        let left = left.saturating_add(Duration::from_millis(1));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        uninterrupted(|| poll(&mut set, timeout))
            .map(drop)
            .map_err(|errno| Error::new("wait for the reader of the output").errno(errno))
    }
}

/// Whether a terminating signal has come; the others have nobody to go to any more.
pub(super) fn stopped(stop: &SignalFd) -> Result<bool> {
    while let Some(received) = signals::next(stop)? {
        if let Received::Forward { signal, .. } = received
            && signals::terminates(signal)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
