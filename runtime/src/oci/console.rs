//! `--console-socket`: where an engine waits for the terminal of a process.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use shim::{Error, Result, RootDir};

use super::config::wrong;

/// The longest name in a `struct sockaddr_un`, without its ending null (unix(7)).
const NAME_MAX: usize = 107;

/// Connects, where there is a terminal. `stays` says that the caller relays what is not sent anywhere.
///
/// # Errors
/// A terminal that nobody would have, or a socket without a terminal; nobody listens.
pub(super) fn connect(
    socket: Option<&Path>,
    terminal: bool,
    stays: bool,
) -> Result<Option<UnixStream>> {
    match socket {
        None if terminal && !stays => Err(wrong(
            "process.terminal",
            "nobody would have the other side of the terminal",
        )
        .hint("give --console-socket, or stay in the foreground")),
        None => Ok(None),
        Some(_) if !terminal => Err(Error::new("read option")
            .on("--console-socket")
            .because("process.terminal is not set")
            .hint("set it, or leave the option out")),
        Some(path) => open(path, "--console-socket").map(Some),
    }
}

/// Connects to a socket of the caller's, which an option or a field names.
///
/// # Errors
/// Nobody listens there.
pub(super) fn open(path: &Path, name: &str) -> Result<UnixStream> {
    let failed = |error: &std::io::Error| {
        Error::io("connect to", path.display(), error)
            .flags(name.to_owned())
            .hint("somebody must listen there")
    };
    let connected = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if path.as_os_str().len() > NAME_MAX => {
            let parent = RootDir::open(parent)
                .map_err(|errno| Error::sys("open", parent.display(), errno))?;
            let number = std::os::fd::AsFd::as_fd(&parent).as_raw_fd();
            UnixStream::connect(Path::new(&format!("/proc/self/fd/{number}")).join(name))
        }
        _ => UnixStream::connect(path),
    };
    connected.map_err(|error| failed(&error))
}
