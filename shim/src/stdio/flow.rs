//! One direction of the relay: a source, a buffer, a sink.
//!
//! It moves what can be moved now and never waits. It knows nothing of terminals, except that a background process may
//! not read its own.

use nix::errno::Errno;
use nix::unistd::{getpgrp, tcgetpgrp};

use super::buffer::{Buffer, USUAL};
use super::end::End;

/// How often one call goes round, so that a flood in one direction does not starve the others.
const ROUNDS: usize = 16;

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    source: Option<End>,
    sink: Option<End>,
    bytes: Buffer,
    /// When set, only so many bytes are still wanted, and an empty source is a finished one.
    wanted: Option<usize>,
    /// The source is our controlling terminal and we are in its background.
    paused: bool,
    /// The sink stays open after the source's end (a pty: its end of file is a character).
    keep_sink: bool,
    last: Option<u8>,
}

impl Flow {
    /// A flow whose sink is closed once everything from the source has been written to it.
    pub(super) fn new(source: End, sink: End) -> Self {
        Self {
            source: Some(source),
            sink: Some(sink),
            bytes: Buffer::default(),
            wanted: None,
            paused: false,
            keep_sink: false,
            last: None,
        }
    }

    /// The same with a sink that stays open.
    pub(super) fn keeping_sink(mut self) -> Self {
        self.keep_sink = true;
        self
    }

    /// Where to wait for input: nowhere while the buffer holds `limit` bytes or more.
    pub(super) fn awaited_source(&self, limit: usize) -> Option<&End> {
        let wanted = !self.paused && self.bytes.len() < limit;
        self.source.as_ref().filter(|_| wanted)
    }

    /// Where to wait for room: nowhere while nothing is to be written, or poll would return at once for ever.
    pub(super) fn awaited_sink(&self) -> Option<&End> {
        self.sink.as_ref().filter(|_| !self.bytes.is_empty())
    }

    /// Whether bytes wait that the sink did not take.
    pub(super) fn is_stuck(&self) -> bool {
        self.awaited_sink().is_some()
    }

    /// Whether nothing will ever be moved again.
    pub(super) fn is_over(&self) -> bool {
        self.source.is_none() && self.bytes.is_empty()
    }

    /// The last byte that went into the sink.
    pub(super) fn last(&self) -> Option<u8> {
        self.last
    }

    /// Adds bytes of our own behind what waits.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.push(bytes);
    }

    /// From now on only `count` bytes are wanted, and none when the source is empty.
    pub(super) fn want_only(&mut self, count: usize) {
        self.wanted = Some(count);
        self.paused = false;
    }

    /// Tries a paused source again.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// The source, for questions about it.
    pub(super) fn source(&self) -> Option<&End> {
        self.source.as_ref()
    }

    /// Reads and writes until both would wait, the buffer is full, or it is the turn of others; says whether anything
    /// moved.
    ///
    /// # Errors
    /// That of the sink. The flow is closed then: whoever writes to its source learns it from the kernel.
    pub(super) fn pump(&mut self, limit: usize) -> Result<bool, Errno> {
        let mut moved = false;
        for _ in 0..ROUNDS {
            let read = self.fill(limit);
            let written = self.drain()?;
            if !(read || written) {
                break;
            }
            moved = true;
        }
        if self.is_over() && !self.keep_sink {
            self.sink = None;
        }
        Ok(moved)
    }

    fn fill(&mut self, limit: usize) -> bool {
        let Some(source) = self.source.as_ref().filter(|_| !self.paused) else {
            return false;
        };
        let wanted = self.wanted.unwrap_or(usize::MAX);
        if wanted == 0 {
            self.source = None;
            return false;
        }
        let room = self.bytes.room(limit);
        let ask = room.len().min(wanted);
        let Some(room) = room.get_mut(..ask).filter(|room| !room.is_empty()) else {
            return false;
        };
        match source.read(room) {
            Ok(count @ 1..) => {
                self.bytes.filled(count);
                self.wanted = self.wanted.map(|wanted| wanted - count);
                return true;
            }
            Err(Errno::EAGAIN) if self.wanted.is_none() => {}
            Err(Errno::EIO) if in_background(source) => self.paused = true,
            // The end: a pty says EIO, a socket may say ECONNRESET, an empty source that is finished EAGAIN.
            Ok(_) | Err(_) => self.source = None,
        }
        false
    }

    fn drain(&mut self) -> Result<bool, Errno> {
        let mut moved = false;
        while !self.bytes.is_empty() {
            let Some(sink) = &self.sink else {
                self.bytes.clear();
                break;
            };
            let waiting = self.bytes.waiting();
            match sink.write(waiting) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => {
                    self.last = waiting.get(count - 1).copied();
                    self.bytes.gone(count);
                    moved = true;
                    // A slow reader takes little at a time: do not fall behind on the source for it.
                    if self.bytes.len() > USUAL {
                        continue;
                    }
                }
                Err(errno) => {
                    self.source = None;
                    self.sink = None;
                    self.bytes.clear();
                    return Err(errno);
                }
            }
        }
        Ok(moved)
    }
}

/// Whether this is our controlling terminal and another process group has it: reading then fails with EIO because
/// SIGTTIN is blocked (termios(3)); ENOTTY: not ours, no job control.
pub(super) fn in_background(terminal: &End) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != getpgrp())
}
