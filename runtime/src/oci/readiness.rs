//! `NOTIFY_SOCKET` (sd_notify(3)): a service of systemd's says that it is ready, and in a container it reaches systemd's socket
//! through us.
//!
//! `create` makes a directory, which the container sees read-only; whoever starts the container listens in there, waits for
//! `READY=1`, and says it to systemd. Nothing else of what the container says is passed on, its `MAINPID=` least of all.
//! Nobody stays for it, and the directory goes with the container.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use shim::mounts::{Attributes, Content, Mount, Target};
use shim::sys::mount::Propagation;
use shim::sys::socket;
use shim::{Error, Result, RootDir};

use super::config::wrong;
use super::state::{Container, NOTIFY};

const VARIABLE: &str = "NOTIFY_SOCKET";
/// Where the directory is inside, when systemd's own socket has no path.
const ELSEWHERE: &str = "/run/notify";
/// The socket's name in it.
const SOCKET: &str = "notify";
/// How long systemd may take to hear of what we have said, in milliseconds.
const BARRIER_MS: u16 = 5000;

/// Adds what a container gets that can say that it is ready, if somebody waits to hear it: a mount and a variable. `dir` is the
/// container's. Where its environment has the variable, an engine sees to it.
///
/// # Errors
/// The socket's path is one that nothing can be mounted at.
pub(super) fn add(
    dir: &Path,
    environment: &mut Vec<CString>,
    mounts: &mut Vec<Mount>,
) -> Result<bool> {
    let Some(host) = env::var_os(VARIABLE).filter(|host| !host.is_empty()) else {
        return Ok(false);
    };
    let prefix = format!("{VARIABLE}=");
    if environment
        .iter()
        .any(|line| line.as_bytes().starts_with(prefix.as_bytes()))
    {
        return Ok(false);
    }
    let inside = match host.as_bytes().first() {
        Some(b'/') => Path::new(&host),
        _ => Path::new(ELSEWHERE),
    };
    let target = Target::outside_proc(inside).map_err(|why| wrong(VARIABLE, why))?;
    let line = [
        prefix.as_bytes(),
        inside.join(SOCKET).as_os_str().as_bytes(),
    ]
    .concat();
    environment.extend(CString::new(line));
    let attributes = Attributes::READONLY
        .with(Attributes::NOSUID)
        .with(Attributes::NODEV)
        .with(Attributes::NOEXEC);
    let content = Content::Bind {
        source: dir.join(NOTIFY),
        file: false,
        recursive: false,
        propagation: Propagation::Private,
        idmap: Vec::new(),
    };
    mounts.push(Mount {
        make_target: true,
        follow: true,
        ..Mount::new(target, content, attributes)
    });
    Ok(true)
}

/// Makes the directory that is mounted: whatever id a process inside has, it may enter. On the host nobody comes so far.
///
/// # Errors
/// Those of mkdir(2).
pub(super) fn make(container: &Container) -> Result<()> {
    let path = container.path(NOTIFY);
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
        .map_err(|error| Error::io("make", path.display(), &error))
}

/// Who listens to a container, and whom it tells.
#[derive(Debug)]
pub(super) struct Readiness {
    listens: UnixDatagram,
    /// NOTIFY_SOCKET, and the socket that is connected to it, if somebody listens there.
    name: OsString,
    host: io::Result<UnixDatagram>,
}

impl Readiness {
    /// Listens, where the container can say something and somebody waits to hear it; before the container is started.
    ///
    /// # Errors
    /// Those of bind(2).
    pub(super) fn listen(container: &Container) -> Result<Option<Self>> {
        let path = container.path(NOTIFY);
        let Some(host) = env::var_os(VARIABLE).filter(|host| !host.is_empty()) else {
            return Ok(None);
        };
        if !path.is_dir() {
            return Ok(None);
        }
        let bound = || {
            let dir = RootDir::open(&path)?;
            // The path of a state directory may be longer than an address can be.
            let place = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
            let socket = UnixDatagram::bind(place.join(SOCKET))?;
            fs::set_permissions(place.join(SOCKET), Permissions::from_mode(0o777))?;
            Ok(socket)
        };
        let listens = bound().map_err(|error: io::Error| {
            Error::io("listen at", path.join(SOCKET).display(), &error)
        })?;
        Ok(Some(Self {
            listens,
            host: connect(&host),
            name: host,
        }))
    }

    /// Waits until the container is ready, and says so; or until it has ended. `main` is the number that systemd is to take
    /// for the service's from now on, because we are about to end.
    ///
    /// # Errors
    /// Nobody listens at NOTIFY_SOCKET, so nothing is waited for; those of the sockets.
    pub(super) fn pass_on(&self, init: &OwnedFd, main: Option<i32>) -> Result<()> {
        let failed = |errno: Errno| Error::sys("pass on", "READY=1", errno).flags(VARIABLE);
        let host = self.host.as_ref().map_err(|error| {
            Error::io("connect to", self.name.display(), error)
                .flags(VARIABLE)
                .hint("systemd listens there; unset the variable if it does not")
        })?;
        loop {
            let mut set = [
                PollFd::new(self.listens.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut set, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(failed)?,
            };
            let said = set[0].any() == Some(true);
            if !said {
                return Ok(());
            }
            // A longer one is cut off; descriptors that come with it are closed by that.
            let mut bytes = [0; 4096];
            let Ok(length) = self.listens.recv(&mut bytes) else {
                continue;
            };
            let text = bytes.get(..length).unwrap_or_default();
            if text
                .split(|&byte| byte == b'\n')
                .any(|line| line == b"READY=1")
            {
                break;
            }
        }
        let Some(main) = main else {
            return socket::send(host, b"READY=1", None).map_err(failed);
        };
        let text = format!("READY=1\nMAINPID={main}");
        socket::send(host, text.as_bytes(), None).map_err(failed)?;
        await_heard(host).map_err(failed)
    }
}

/// systemd finds the service of whom it hears by the process, which must live until then (sd_notify_barrier(3)). One that
/// does not know of it closes its end, too.
fn await_heard(host: &UnixDatagram) -> Result<(), Errno> {
    let (heard, barrier) = pipe2(OFlag::O_CLOEXEC)?;
    socket::send(host, b"BARRIER=1", Some(barrier.as_raw_fd()))?;
    drop(barrier);
    let mut set = [PollFd::new(heard.as_fd(), PollFlags::empty())];
    poll(&mut set, PollTimeout::from(BARRIER_MS)).map(drop)
}

fn connect(host: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match host.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(host)?,
    }
    Ok(socket)
}
