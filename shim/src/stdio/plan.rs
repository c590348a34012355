//! Decides what the caller's three streams become for the workload. Looks at descriptors, changes nothing.
//!
//! | caller's stream | without a terminal | with one (stdin, stdout) | with one (stderr) |
//! |---|---|---|---|
//! | file, pipe, null, device | as it is | terminal | as it is, or terminal if forced |
//! | socket, directory, others | pipe | terminal | pipe, or terminal if forced |
//! | terminal | pipe | terminal | terminal |
//!
//! A socket becomes a pipe because `open("/dev/stdout")` of a socket answers ENXIO. A terminal of the caller is never
//! handed through: who holds it can push input into it (ioctl_tty(2), TIOCSTI). A directory would be a way out of the
//! root filesystem.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::unistd::isatty;
use serde::Serialize;

/// What a stream of the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// A regular file or a block device.
    File,
    /// A pipe or a FIFO.
    Pipe,
    /// `/dev/null`.
    Null,
    /// A character device that is no terminal.
    CharDevice,
    /// A socket of any family.
    Socket,
    /// A terminal.
    Terminal,
    /// Not open. The standard library opens `/dev/null` in its place before `main`.
    Closed,
    /// A directory or one of the kernel's anonymous inodes (eventfd, pidfd, …).
    Other,
}

/// The size of a terminal in characters and pixels (ioctl_tty(2), `struct winsize`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
    /// Width in pixels; 0 when unknown.
    pub xpixel: u16,
    /// Height in pixels; 0 when unknown.
    pub ypixel: u16,
}

impl From<WindowSize> for Winsize {
    fn from(size: WindowSize) -> Self {
        Self {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: size.xpixel,
            ws_ypixel: size.ypixel,
        }
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TerminalWish {
    /// A terminal on stdin and stdout whatever the caller's are (`--force-tty`).
    pub force: bool,
    /// stderr too is the terminal, when there is one (`--force-stderr-tty`).
    pub force_stderr: bool,
    /// Its size before the command starts (`--pty-size`); the caller's terminal decides otherwise.
    pub size: Option<WindowSize>,
}

/// A pty for the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TerminalPlan {
    /// The asked size; `None`: that of the caller's terminal, or 0 by 0 when it has none.
    pub size: Option<WindowSize>,
    /// stderr is the terminal too.
    pub stderr: bool,
    /// It is one of the container's own devpts, opened inside; otherwise the caller's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inside: bool,
}

/// What one stream becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamPlan {
    /// The caller's, handed through as it is.
    Inherit,
    /// A pipe of ours and a relay.
    Pipe,
    /// The slave of our pty and a relay.
    Terminal,
}

/// What stdin, stdout and stderr become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StdioPlan {
    /// The pty, when there is one.
    pub terminal: Option<TerminalPlan>,
    /// stdin, stdout, stderr.
    pub streams: [StreamPlan; 3],
    /// What of the caller's is handed through besides.
    #[serde(flatten)]
    pub preserved: Preserved,
}

/// Descriptors of the caller's besides its streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preserved {
    /// The descriptors, in order; they keep their numbers.
    #[serde(rename = "preserved", skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<RawFd>,
    /// Whether the variable LISTEN_PID of the workload is to become its own number (sd_listen_fds(3)).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tells_pid: bool,
}

impl Preserved {
    /// None.
    pub const NONE: Self = Self {
        descriptors: Vec::new(),
        tells_pid: false,
    };
}

/// What the calling process's descriptors 0, 1 and 2 are.
#[must_use]
pub fn kinds() -> [StreamKind; 3] {
    [
        kind(std::io::stdin().as_fd()),
        kind(std::io::stdout().as_fd()),
        kind(std::io::stderr().as_fd()),
    ]
}

/// What one descriptor is.
pub(super) fn kind(stream: BorrowedFd<'_>) -> StreamKind {
    let status = match fstat(stream) {
        Ok(status) => status,
        Err(Errno::EBADF) => return StreamKind::Closed,
        Err(_) => return StreamKind::Other,
    };
    match SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT) {
        SFlag::S_IFREG | SFlag::S_IFBLK => StreamKind::File,
        SFlag::S_IFIFO => StreamKind::Pipe,
        SFlag::S_IFSOCK => StreamKind::Socket,
        // The number of the null device is fixed (Documentation/admin-guide/devices.txt).
        SFlag::S_IFCHR if status.st_rdev == makedev(1, 3) => StreamKind::Null,
        SFlag::S_IFCHR if isatty(stream).unwrap_or(false) => StreamKind::Terminal,
        SFlag::S_IFCHR => StreamKind::CharDevice,
        _ => StreamKind::Other,
    }
}

/// Decides. There is a terminal when it is forced, or when both stdin and stdout of the caller are one.
#[must_use]
pub fn plan(kinds: [StreamKind; 3], wish: &TerminalWish) -> StdioPlan {
    let [stdin, stdout, stderr] = kinds;
    let both = stdin == StreamKind::Terminal && stdout == StreamKind::Terminal;
    if !(wish.force || both) {
        return StdioPlan {
            terminal: None,
            streams: kinds.map(without_terminal),
            preserved: Preserved::NONE,
        };
    }
    let joined = wish.force_stderr || stderr == StreamKind::Terminal;
    StdioPlan {
        terminal: Some(TerminalPlan {
            size: wish.size,
            stderr: joined,
            inside: false,
        }),
        preserved: Preserved::NONE,
        streams: [
            StreamPlan::Terminal,
            StreamPlan::Terminal,
            if joined {
                StreamPlan::Terminal
            } else {
                without_terminal(stderr)
            },
        ],
    }
}

fn without_terminal(kind: StreamKind) -> StreamPlan {
    match kind {
        StreamKind::File
        | StreamKind::Pipe
        | StreamKind::Null
        | StreamKind::CharDevice
        | StreamKind::Closed => StreamPlan::Inherit,
        StreamKind::Socket | StreamKind::Terminal | StreamKind::Other => StreamPlan::Pipe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StreamKind::{CharDevice, Closed, File, Null, Other, Pipe, Socket, Terminal};
    use std::os::fd::OwnedFd;

    const ALL: [StreamKind; 8] = [
        File, Pipe, Null, CharDevice, Socket, Terminal, Closed, Other,
    ];

    fn wish(force: bool, force_stderr: bool) -> TerminalWish {
        TerminalWish {
            force,
            force_stderr,
            size: None,
        }
    }

    #[test]
    fn without_a_terminal_only_safe_streams_are_handed_through() {
        let table = [
            (File, StreamPlan::Inherit),
            (Pipe, StreamPlan::Inherit),
            (Null, StreamPlan::Inherit),
            (CharDevice, StreamPlan::Inherit),
            (Closed, StreamPlan::Inherit),
            (Socket, StreamPlan::Pipe),
            (Terminal, StreamPlan::Pipe),
            (Other, StreamPlan::Pipe),
        ];
        for (kind, expected) in table {
            for position in 0..3 {
                let mut kinds = [Null; 3];
                kinds[position] = kind;
                let plan = plan(kinds, &wish(false, false));
                assert_eq!(plan.terminal, None);
                assert_eq!(plan.streams[position], expected, "{kind:?} at {position}");
            }
        }
    }

    #[test]
    fn a_terminal_needs_both_stdin_and_stdout_or_force() {
        for stdin in ALL {
            for stdout in ALL {
                let both = stdin == Terminal && stdout == Terminal;
                let kinds = [stdin, stdout, Null];
                assert_eq!(plan(kinds, &wish(false, true)).terminal.is_some(), both);
                assert!(plan(kinds, &wish(true, false)).terminal.is_some());
            }
        }
    }

    #[test]
    fn stderr_stays_apart_unless_it_is_a_terminal_or_forced() {
        for stderr in ALL {
            let apart = plan([Pipe, Pipe, stderr], &wish(true, false));
            let joined = stderr == Terminal;
            assert_eq!(apart.streams[2] == StreamPlan::Terminal, joined);
            assert_eq!(apart.terminal.unwrap().stderr, joined);
            let forced = plan([Pipe, Pipe, stderr], &wish(true, true));
            assert_eq!(forced.streams, [StreamPlan::Terminal; 3]);
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let zero = OwnedFd::from(std::fs::File::open("/dev/zero").unwrap());
        let file = OwnedFd::from(std::fs::File::open("/proc/self/exe").unwrap());
        let directory = OwnedFd::from(std::fs::File::open("/").unwrap());
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let pty = nix::pty::openpty(None, None).unwrap();
        assert_eq!(kind(null.as_fd()), Null);
        assert_eq!(kind(zero.as_fd()), CharDevice);
        assert_eq!(kind(file.as_fd()), File);
        assert_eq!(kind(directory.as_fd()), Other);
        assert_eq!(kind(reader.as_fd()), Pipe);
        assert_eq!(kind(writer.as_fd()), Pipe);
        assert_eq!(kind(socket.as_fd()), Socket);
        assert_eq!(kind(pty.slave.as_fd()), Terminal);
    }
}
