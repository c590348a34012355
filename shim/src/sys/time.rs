//! Time namespaces (time_namespaces(7), Linux 5.6). They are entered in another way than all others: not by who asks for
//! one, but by what it forks next. To join one takes a process that shares its memory with nobody.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::write;

/// CLONE_NEWTIME, which nix does not name. For clone3(2) it would be the wrong word: the new namespace would be in use
/// at once, and its offsets could not be set any more.
pub const TIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// While it lives, the caller is in another time namespace, and so is what it forks.
#[derive(Debug)]
pub(super) struct Visit {
    own: OwnedFd,
}

impl Visit {
    /// Goes to that of a process, by its pidfd, or to that of a file.
    ///
    /// # Errors
    /// Those of setns(2): EPERM without CAP_SYS_ADMIN in the user namespace that it belongs to.
    pub(super) fn new(target: impl AsFd) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let own = open(c"/proc/self/ns/time", flags, Mode::empty())?;
        setns(target, TIME)?;
        Ok(Self { own })
    }
}

impl Drop for Visit {
    /// Fails for root of a user namespace, whose own time is not its to enter: its clocks stay shifted, which no wait of ours
    /// minds that begins later.
    fn drop(&mut self) {
        let _ = setns(&self.own, TIME);
    }
}

/// What the caller forks from now on is in a new one, whose clocks differ by these lines of `/proc/PID/timens_offsets`. For a
/// process that shares memory, too: it allocates nothing.
///
/// # Errors
/// EINVAL without CONFIG_TIME_NS; EPERM without CAP_SYS_ADMIN, or CAP_SYS_TIME for the offsets; ERANGE where a clock would
/// be before its beginning or after 146 years.
pub(super) fn make(offsets: &CStr) -> Result<(), Errno> {
    unshare(TIME)?;
    if offsets.is_empty() {
        return Ok(());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = open(c"/proc/self/timens_offsets", flags, Mode::empty())?;
    // The kernel takes all lines or none.
    write(file, offsets.to_bytes()).map(drop)
}
