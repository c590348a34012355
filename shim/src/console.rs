//! The terminal of a container's process, for the process whose working directory is the container's root: opened in the container's
//! own devpts, where its name is true inside, and by descriptor from there on. Allocates nothing.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::dev_t;
use nix::sys::stat::{Mode, fstat, makedev};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};

use crate::mounts::make_file;
use crate::rootdir::RootDir;
use crate::sys::mount::{attach, clone_tree};
use crate::sys::{socket, tty};

/// Opens one for this user, makes it the streams, and sends the other side to the client.
pub(crate) fn open(uid: u32, report: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = RootDir::here()?.open_plain(c"dev/pts/ptmx", flags, Mode::empty())?;
    // Whatever else is there is the container's doing.
    let number: dev_t = makedev(5, 2);
    if fstatfs(&master)?.filesystem_type() != DEVPTS_SUPER_MAGIC
        || fstat(&master)?.st_rdev != number
    {
        return Err(Errno::ENODEV);
    }
    tty::unlock(&master)?;
    let peer = tty::open_peer(&master)?;
    // Its group, `tty` as a rule, is what the devpts gives it.
    fchown(&peer, Some(Uid::from_raw(uid)), None)?;
    dup2_stdin(&peer)?;
    dup2_stdout(&peer)?;
    dup2_stderr(&peer)?;
    socket::send(report, &[1], Some(master.as_raw_fd()))
}

/// Binds it on /dev/console, which is made where nothing is yet.
pub(crate) fn show() -> Result<(), Errno> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let dev = RootDir::from(RootDir::here()?.open_plain(c"dev", directory, Mode::empty())?);
    match make_file(&dev, c"console") {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let place = dev.open_plain(c"console", OFlag::O_PATH, Mode::empty())?;
    attach(clone_tree(std::io::stdin(), false)?, place)
}
