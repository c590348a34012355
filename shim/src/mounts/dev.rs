//! A /dev of the container's own: the nodes that every program may expect and no other, a devpts, and /dev/shm.
//!
//! The nodes are binds of the host's, because mknod(2) of a device needs the initial user namespace. The client opens
//! them and believes only what fstat(2) says of the opened file; the child puts everything together. The binds are
//! read-only: that does not keep anybody from writing to a device, but from changing the mode or the owner of the
//! host's file.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::libc::dev_t;
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mkdirat, umask};
use nix::unistd::symlinkat;

use super::Unpacking;
use crate::rootdir::RootDir;
use crate::sys::mount::{Change, Filesystem, attach, attr, clone_tree, set_attributes};

/// A node and its numbers (Documentation/admin-guide/devices.txt).
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: &'static CStr,
    pub(super) major: u64,
    pub(super) minor: u64,
}

impl Node {
    /// Opens it in a /dev; none if something else is there, or nothing.
    pub(crate) fn open(&self, dev: &RootDir) -> Result<Option<OwnedFd>, Errno> {
        let file = match dev.open_plain(self.name, OFlag::O_PATH, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&file)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let number: dev_t = makedev(self.major, self.minor);
        Ok((kind == SFlag::S_IFCHR && stat.st_rdev == number).then_some(file))
    }

    /// The host's as a detached mount.
    pub(crate) fn take(&self) -> Result<Option<OwnedFd>, Errno> {
        let dev = RootDir::open(std::path::Path::new("/dev"))?;
        let Some(file) = self.open(&dev)? else {
            return Ok(None);
        };
        let node = clone_tree(&file, false)?;
        let readonly = Change {
            set: attr::RDONLY | attr::NOSUID | attr::NOEXEC,
            ..Change::default()
        };
        set_attributes(&node, readonly)?;
        Ok(Some(node))
    }
}

const fn node(name: &'static CStr, major: u64, minor: u64) -> Node {
    Node { name, major, minor }
}

/// What every program may expect; the null device is the first.
pub(crate) const NODES: [Node; 6] = [
    node(c"null", 1, 3),
    node(c"zero", 1, 5),
    node(c"full", 1, 7),
    node(c"random", 1, 8),
    node(c"urandom", 1, 9),
    node(c"tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// The group `tty` of every distribution, which grantpt(3) and wall(1) expect.
const TTY_GROUP: &CStr = c"5";

/// The host's nodes as detached mounts, in the order in which [`attach_all`] takes them.
pub(super) fn nodes() -> impl Iterator<Item = Result<OwnedFd, Errno>> {
    NODES.iter().map(|node| node.take()?.ok_or(Errno::ENODEV))
}

/// Puts it together on `place`. Allocates nothing.
pub(super) fn attach_all(place: &OwnedFd, nodes: &mut Unpacking<'_>) -> Result<(), Errno> {
    let filesystem = Filesystem::open(c"tmpfs")?;
    filesystem.set(c"mode", c"755")?;
    // Room for small files and sockets; nobody's place to store anything.
    filesystem.set(c"size", c"64m")?;
    let dev = RootDir::from(filesystem.mount(attr::NOSUID | attr::NOEXEC)?);
    let mask = umask(Mode::empty());
    let filled = fill(&dev);
    umask(mask);
    filled?;

    // Before Linux 6.15 nothing can be attached to what is detached itself.
    attach(&dev, place)?;
    for node in &NODES {
        let place = dev.open_plain(node.name, OFlag::O_PATH, Mode::empty())?;
        attach(nodes.next()?, place)?;
    }
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    attach(devpts()?, dev.open_plain(c"pts", directory, Mode::empty())?)?;
    let shm = Filesystem::open(c"tmpfs")?;
    shm.set(c"mode", c"1777")?;
    attach(
        shm.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?,
        dev.open_plain(c"shm", directory, Mode::empty())?,
    )
}

/// Puts nodes and links into the /dev of `root`, whatever is mounted there. A node is a bind of the host's, on an empty
/// file where nothing is yet; links that are there already stay.
pub(crate) fn populate(root: &RootDir, nodes: &[Option<OwnedFd>]) -> Result<(), Errno> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mask = umask(Mode::empty());
    let filled = match mkdirat(root, c"dev", Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => root.open_plain(c"dev", directory, Mode::empty()),
        Err(errno) => Err(errno),
    }
    .and_then(|dev| {
        let dev = RootDir::from(dev);
        links(&dev, true)?;
        for node in &NODES {
            allow_existing(make_file(&dev, node.name))?;
        }
        Ok(dev)
    });
    umask(mask);
    let dev = filled?;
    for (node, taken) in NODES.iter().zip(nodes) {
        let taken = taken.as_ref().ok_or(Errno::ENODEV)?;
        attach(
            taken,
            dev.open_plain(node.name, OFlag::O_PATH, Mode::empty())?,
        )?;
    }
    Ok(())
}

fn allow_existing(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

fn links(dev: &RootDir, existing: bool) -> Result<(), Errno> {
    for (name, text) in LINKS {
        let made = symlinkat(text, dev, name);
        if existing {
            allow_existing(made)?;
        } else {
            made?;
        }
    }
    Ok(())
}

/// An empty file that something is mounted on.
pub(crate) fn make_file(dev: &RootDir, name: &CStr) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(dev, name, flags, Mode::from_bits_truncate(0o666)).map(drop)
}

fn fill(dev: &RootDir) -> Result<(), Errno> {
    for name in [c"pts", c"shm"] {
        mkdirat(dev, name, Mode::from_bits_truncate(0o755))?;
    }
    links(dev, false)?;
    NODES.iter().try_for_each(|node| make_file(dev, node.name))
}

/// Every mount of it is an instance of its own (Linux 4.7).
fn devpts() -> Result<OwnedFd, Errno> {
    let with = |group: Option<&CStr>| {
        let filesystem = Filesystem::open(c"devpts")?;
        filesystem.set(c"ptmxmode", c"0666")?;
        filesystem.set(c"mode", c"0620")?;
        if let Some(group) = group {
            filesystem.set(c"gid", group)?;
        }
        filesystem.mount(attr::NOSUID | attr::NOEXEC)
    };
    match with(Some(TTY_GROUP)) {
        // The container's user namespace has no such group.
        Err(Errno::EINVAL) => with(None),
        made => made,
    }
}
