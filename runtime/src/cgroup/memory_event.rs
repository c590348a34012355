//! Hears that the memory of a cgroup was used up.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::read;
use shim::rootdir::fd_path;
use shim::{Error, Result};

use super::group::{Group, Member};
use super::hierarchies::Version;

/// Readable when something has happened to the memory of a cgroup.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    event: OwnedFd,
    /// Where the event says only that something has changed: how often a process had been ended before.
    count: Option<u64>,
}

impl AsFd for OutOfMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl OutOfMemory {
    /// Begins; none where the memory is not watched over.
    ///
    /// # Errors
    /// Those of inotify(7), eventfd(2) and the kernel's files.
    pub(crate) fn watch(group: &Group) -> Result<Option<Self>> {
        let Some(member) = group.of("memory") else {
            return Ok(None);
        };
        let count = group.out_of_memory().unwrap_or(0);
        let (event, count) = match member.place.version {
            Version::One => (by_eventfd(member), None),
            Version::Two => (by_inotify(member), Some(count)),
        };
        match event {
            Ok(event) => Ok(Some(Self { event, count })),
            Err(errno) => Err(Error::sys("watch the memory of", group, errno)),
        }
    }

    /// To be called when it is readable: whether that was it.
    pub(crate) fn has_happened(&mut self, group: &Group) -> bool {
        let told = read(&self.event, &mut [0; 4096]).is_ok();
        match (group.out_of_memory(), &mut self.count) {
            // It is gone, which makes the descriptor readable, too.
            (None, _) => false,
            // The kernel tells it before it ends a process, so to compare how many it has ended would be too early.
            (Some(_), None) => told,
            (Some(count), Some(before)) => std::mem::replace(before, count) < count,
        }
    }
}

/// Documentation/admin-guide/cgroup-v1/memory.rst, 10.
fn by_eventfd(member: &Member) -> Result<OwnedFd, Errno> {
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = member.dir.file("memory.oom_control", OFlag::O_RDONLY)?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    member.dir.write("cgroup.event_control", &line)?;
    Ok(event.into())
}

/// Every change of memory.events is a modification.
fn by_inotify(member: &Member) -> Result<OwnedFd, Errno> {
    let events = member.dir.file("memory.events", OFlag::O_PATH)?;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    watch.add_watch(fd_path(events.as_fd()).as_c_str(), AddWatchFlags::IN_MODIFY)?;
    Ok(watch.into())
}
