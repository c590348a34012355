//! One direction of the relay: a source, a buffer, a sink.
//!
//! It moves what can be moved now and never waits. Whoever owns a flow drops it when it is over, which closes its sink. It
//! knows nothing of terminals, except that a background process may not read its own.

use nix::errno::Errno;

use super::buffer::{Buffer, USUAL};
use super::end::End;
use super::raw_mode::is_behind;

/// How often one call goes round, so that a flood in one direction does not starve the others.
const ROUNDS: usize = 16;

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    source: Option<End>,
    sink: End,
    bytes: Buffer,
    /// When set, only so many bytes are still wanted, and an empty source is a finished one.
    wanted: Option<usize>,
    /// The source is our controlling terminal and we are in its background.
    paused: bool,
    last: Option<u8>,
}

impl Flow {
    /// Nothing has been moved yet.
    pub(super) fn new(source: End, sink: End) -> Self {
        Self {
            source: Some(source),
            sink,
            bytes: Buffer::default(),
            wanted: None,
            paused: false,
            last: None,
        }
    }

    /// Where to wait for input: nowhere while the buffer holds `limit` bytes or more.
    pub(super) fn awaited_source(&self, limit: usize) -> Option<&End> {
        let wanted = !self.paused && self.bytes.len() < limit;
        self.source.as_ref().filter(|_| wanted)
    }

    /// Where to wait for room: nowhere while nothing is to be written, or poll would return at once for ever.
    pub(super) fn awaited_sink(&self) -> Option<&End> {
        Some(&self.sink).filter(|_| !self.bytes.is_empty())
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

    /// Whether the source is not read until [`Flow::resume`].
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Goes on with a paused source if it may be read again.
    pub(super) fn resume(&mut self) {
        self.paused = self.paused && self.source.as_ref().is_some_and(in_background);
    }

    /// The source, for questions about it.
    pub(super) fn source(&self) -> Option<&End> {
        self.source.as_ref()
    }

    /// Reads and writes until both would wait, the buffer is full, or it is the turn of others; says whether anything
    /// moved.
    ///
    /// # Errors
    /// That of the sink. The flow is over then: whoever writes to its source learns it from the kernel.
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
            let waiting = self.bytes.waiting();
            match self.sink.write(waiting) {
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
                    self.bytes.clear();
                    return Err(errno);
                }
            }
        }
        Ok(moved)
    }
}

/// Whether another process group has the caller's terminal: reading then fails with EIO because SIGTTIN is blocked
/// (termios(3)). Of a pty master the kernel answers for the slave, so only the caller's terminals are asked.
fn in_background(source: &End) -> bool {
    source.is_callers_terminal() && is_behind(source)
}

#[cfg(test)]
mod tests {
    use super::super::end::set_nonblocking;
    use super::*;
    use nix::unistd::{pipe, read, write};
    use std::os::fd::OwnedFd;

    struct Rig {
        input: OwnedFd,
        flow: Flow,
        output: OwnedFd,
    }

    fn rig() -> Rig {
        let (source, input) = pipe().unwrap();
        let (output, sink) = pipe().unwrap();
        for end in [&source, &sink, &output] {
            set_nonblocking(end).unwrap();
        }
        let flow = Flow::new(End::ours(source), End::ours(sink));
        Rig {
            input,
            flow,
            output,
        }
    }

    fn taken(output: &OwnedFd) -> Vec<u8> {
        let mut bytes = [0; 64];
        let count = read(output, &mut bytes).unwrap();
        bytes[..count].to_vec()
    }

    #[test]
    fn only_what_is_wanted_is_read_of_a_source_that_is_never_empty() {
        let Rig {
            input,
            mut flow,
            output,
        } = rig();
        write(&input, b"before").unwrap();
        flow.want_only(6);
        write(&input, b"after").unwrap();
        flow.pump(USUAL).unwrap();
        assert!(flow.is_over());
        assert_eq!(taken(&output), b"before");
        drop(flow);
        // The sink is closed with it, so this is the end and not EAGAIN.
        assert_eq!(taken(&output), b"");
    }

    #[test]
    fn an_empty_source_is_waited_for_unless_it_is_finished() {
        let Rig {
            input,
            mut flow,
            output,
        } = rig();
        assert_eq!(flow.pump(USUAL), Ok(false));
        assert!(!flow.is_over() && flow.awaited_source(USUAL).is_some());
        flow.want_only(100);
        assert_eq!(flow.pump(USUAL), Ok(false));
        assert!(flow.is_over());
        drop((input, output));
    }

    #[test]
    fn a_closed_sink_closes_the_source_too() {
        let Rig {
            input,
            mut flow,
            output,
        } = rig();
        drop(output);
        write(&input, b"x").unwrap();
        assert_eq!(flow.pump(USUAL), Err(Errno::EPIPE));
        assert_eq!(write(&input, b"x"), Err(Errno::EPIPE));
    }

    #[test]
    fn nothing_is_waited_for_without_need() {
        let Rig {
            input,
            mut flow,
            output,
        } = rig();
        assert!(flow.awaited_sink().is_none());
        // More than the sink takes and the buffer holds: only the sink is waited for.
        set_nonblocking(&input).unwrap();
        while write(&input, &[0; 4096]).is_ok() || flow.pump(USUAL) == Ok(true) {}
        assert!(flow.awaited_sink().is_some());
        assert!(flow.awaited_source(USUAL).is_none());
        drop(output);
    }
}
