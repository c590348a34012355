//! One end of a flow: reads and writes that never block, whatever the descriptor is.
//!
//! A descriptor of the caller shares its open file description with other processes: O_NONBLOCK set on it would appear
//! in the caller's shell. So sockets are asked per call (MSG_DONTWAIT), pipes and terminals are opened once more
//! through `/proc/self/fd` (proc_pid_fd(5)), and what cannot be opened again is polled before every call. Files are
//! never opened again: that would lose their offset and O_APPEND.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::{Mode, fstat, makedev};
use nix::unistd::{read, write};

use super::plan::{StreamKind, kind};

/// What a blocking write to a pipe that polls writable takes without waiting (pipe(7)).
const PIPE_BUF: usize = 4096;

/// How a descriptor is kept from blocking us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its open file description is ours alone and has O_NONBLOCK.
    NonBlocking,
    /// MSG_DONTWAIT.
    Socket,
    /// Polled before every call.
    Polled,
    /// Reading and writing it never waits for anybody: a file, `/dev/null`.
    Immediate,
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    fd: OwnedFd,
    way: Way,
    /// EIO means that it was hung up, and not that a disk is broken.
    terminal: bool,
}

impl End {
    /// An end that we made ourselves and that has O_NONBLOCK already.
    pub(super) fn ours(fd: OwnedFd) -> Self {
        Self {
            fd,
            way: Way::NonBlocking,
            terminal: false,
        }
    }

    /// A stream of the caller that we read from.
    pub(super) fn caller_source(fd: OwnedFd) -> Self {
        Self::caller(fd, OFlag::O_RDONLY)
    }

    /// A stream of the caller that we write to.
    pub(super) fn caller_sink(fd: OwnedFd) -> Self {
        Self::caller(fd, OFlag::O_WRONLY)
    }

    fn caller(fd: OwnedFd, access: OFlag) -> Self {
        let kind = kind(fd.as_fd());
        let terminal = kind == StreamKind::Terminal;
        let way = match kind {
            StreamKind::Socket => Way::Socket,
            StreamKind::File | StreamKind::Null | StreamKind::Closed => Way::Immediate,
            StreamKind::CharDevice | StreamKind::Other => Way::Polled,
            StreamKind::Pipe | StreamKind::Terminal => match open_again(&fd, access) {
                Some(again) => {
                    return Self {
                        terminal,
                        ..Self::ours(again)
                    };
                }
                None => Way::Polled,
            },
        };
        Self { fd, way, terminal }
    }

    /// Whether this is a terminal of the caller's.
    pub(super) fn is_callers_terminal(&self) -> bool {
        self.terminal
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// EAGAIN when there is nothing now; others mean that nothing will come any more.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.ready(PollFlags::POLLIN)?;
        uninterrupted(|| match self.way {
            Way::Socket => recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT),
            Way::NonBlocking | Way::Polled | Way::Immediate => read(&self.fd, buffer),
        })
    }

    /// Writes what goes; never raises SIGPIPE on sockets (on pipes it is the caller's business to ignore it).
    ///
    /// # Errors
    /// EAGAIN when nothing goes now; EPIPE, ECONNRESET when nobody reads any more; ENOSPC and others of a file.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.ready(PollFlags::POLLOUT)?;
        let some = match self.way {
            Way::Polled => bytes.get(..PIPE_BUF).unwrap_or(bytes),
            Way::NonBlocking | Way::Socket | Way::Immediate => bytes,
        };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        uninterrupted(|| match self.way {
            Way::Socket => send(self.fd.as_raw_fd(), some, flags),
            Way::NonBlocking | Way::Polled | Way::Immediate => write(&self.fd, some),
        })
        .map_err(|errno| match errno {
            Errno::EIO if self.terminal => Errno::EPIPE,
            other => other,
        })
    }

    /// EAGAIN unless the descriptor needs no asking or answers that it is ready.
    fn ready(&self, events: PollFlags) -> Result<(), Errno> {
        if self.way != Way::Polled {
            return Ok(());
        }
        let mut set = [PollFd::new(self.fd.as_fd(), events)];
        match uninterrupted(|| poll(&mut set, PollTimeout::ZERO))? {
            0 => Err(Errno::EAGAIN),
            _ => Ok(()),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The same pipe or terminal with an open file description of our own. Root may always; others may not when the
/// terminal belongs to somebody else (after `su`).
fn open_again(fd: &OwnedFd, access: OFlag) -> Option<OwnedFd> {
    // Opening the multiplexer again would make another pty.
    if fstat(fd).ok()?.st_rdev == makedev(5, 2) {
        return None;
    }
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    nix::fcntl::open(path.as_str(), flags, Mode::empty()).ok()
}

/// Sets O_NONBLOCK on a descriptor that we made ourselves.
pub(super) fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Repeats a call for as long as signals interrupt it.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;

    fn flags(fd: &impl AsFd) -> OFlag {
        OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
    }

    #[test]
    fn the_callers_pipe_stays_blocking_and_we_do_not_block() {
        let (reader, writer) = pipe().unwrap();
        let source = End::caller_source(reader.try_clone().unwrap());
        let sink = End::caller_sink(writer.try_clone().unwrap());
        assert_eq!(source.read(&mut [0; 8]), Err(Errno::EAGAIN));
        while sink.write(&[0; 1 << 16]).is_ok() {}
        assert_eq!(sink.write(b"x"), Err(Errno::EAGAIN));
        assert!(!flags(&reader).contains(OFlag::O_NONBLOCK));
        assert!(!flags(&writer).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again_is_polled() {
        let (reader, writer) = pipe().unwrap();
        let polled = |fd| End {
            fd,
            way: Way::Polled,
            terminal: false,
        };
        let (source, sink) = (polled(reader), polled(writer));
        assert_eq!(source.read(&mut [0; 8]), Err(Errno::EAGAIN));
        while sink.write(&[0; 1 << 16]).is_ok() {}
        assert_eq!(sink.write(b"x"), Err(Errno::EAGAIN));
        drop(sink);
        let mut total = 0;
        loop {
            match source.read(&mut [0; 4096]).unwrap() {
                0 => break,
                count => total += count,
            }
        }
        assert_eq!(total, 1 << 16);
    }

    #[test]
    fn a_file_keeps_its_offset() {
        use std::io::{Read, Seek, SeekFrom, Write};
        let path = std::env::temp_dir().join(format!("relay-offset-{}", std::process::id()));
        let mut file = std::fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"before ").unwrap();
        let sink = End::caller_sink(OwnedFd::from(file.try_clone().unwrap()));
        assert_eq!(sink.write(b"after"), Ok(5));
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after");
    }

    #[test]
    fn the_multiplexer_is_not_opened_again() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = End::caller_source(pty.slave);
        assert_eq!(slave.way, Way::NonBlocking);
        assert_eq!(End::caller_source(pty.master).way, Way::Polled);
    }
}
