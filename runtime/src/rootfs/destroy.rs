//! `subcontainer destroy-fs`: takes a root filesystem down, in whatever state a killed create, a killed launch or a
//! reboot has left it, and nothing but it.
//!
//! Invariant 3: what a client bound below it (`mount --rbind /dev`) is in the host's peer groups, so unmounting
//! propagates to the originals. The tree is made private first. Copies of it in other mount namespaces, which then
//! hear nothing any more, go when the mount point is removed: rmdir(2) detaches what is mounted on it elsewhere
//! (`detach_mounts`, Linux 3.18).

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use shim::sys::mount::{Change, Propagation, set_attributes};
use shim::sys::statx::place;
use shim::{Error, Result, RootDir};

use super::journal::{self, State};
use super::{Places, open_if_there, overlay, ranges, remove, unmount_at};
use crate::config::Dirs;

/// How long a `run` may take to remove its files.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// How many mounts may be stacked on one place.
const MAX_STACKED: usize = 4096;

/// Takes down root filesystem `guid` (a name without `/`, as already checked). A name that nobody knows is no failure.
///
/// `stop_leader` is called before anything is changed, with the path of the root filesystem; it ends what runs in it.
///
/// # Errors
/// A directory that create-fs did not make; a create-fs of the same name that is still running; something mounted in
/// the writable layer; whatever the kernel refuses. It can be called again after each of them.
pub fn destroy(
    dirs: &Dirs,
    guid: &str,
    stop_leader: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let places = Places::new(dirs, guid);
    match journal::state(&places)? {
        State::Busy { complete: true } => {
            stop_leader(&places.rootfs)?;
            wait_until_gone(&places)
        }
        State::Busy { complete: false } => Err(Error::new("destroy root filesystem")
            .on(guid)
            .because("it is being created or removed at this moment")
            .hint("try again when that has ended")),
        State::HalfMade(journal) => {
            stop_leader(&places.rootfs)?;
            take_down(&places)?;
            journal.forget()
        }
        State::Complete => {
            stop_leader(&places.rootfs)?;
            take_down(&places)?;
            journal::forget(&places)
        }
        // Records end with the boot, the writable layer does not.
        State::Unknown if std::fs::symlink_metadata(&places.data).is_ok() => {
            stop_leader(&places.rootfs)?;
            take_down(&places)
        }
        State::Unknown => destroy_unrecorded(&places, stop_leader),
    }
}

/// Waits for who takes it away when its container has ended, and does it instead of one that is killed meanwhile.
fn wait_until_gone(places: &Places) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match journal::state(places)? {
            State::Busy { .. } => std::thread::sleep(PAUSE),
            State::HalfMade(journal) => {
                take_down(places)?;
                return journal.forget();
            }
            State::Complete | State::Unknown => return Ok(()),
        }
    }
    Err(Error::new("destroy root filesystem")
        .on(&places.guid)
        .because("its container has ended, and the `run` that it belongs to does not remove it")
        .hint("it may be stopped, or its disk may hang: see its state with ps"))
}

/// No record and no writable layer: only what cannot be anybody's data is removed, an empty directory or an overlay
/// (whose upper we cannot know, and leave).
fn destroy_unrecorded(
    places: &Places,
    stop_leader: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let failed = |errno| Error::sys("open root filesystem", places.rootfs.display(), errno);
    let Some(parent) = open_if_there(&places.subcontainers).map_err(failed)? else {
        return Ok(());
    };
    let root = match open_directory(&parent, &places.guid) {
        Ok(root) => root,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno @ (Errno::ELOOP | Errno::ENOTDIR)) => {
            return Err(failed(errno)
                .because("it is no directory")
                .hint("create-fs did not make it; remove it by hand"));
        }
        Err(errno) => return Err(failed(errno).hint("needs root; check --base")),
    };
    let is_mount = place(&root).map_err(failed)?.is_mount_root;
    let is_overlay = fstatfs(&root).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    let is_empty =
        std::fs::read_dir(&places.rootfs).is_ok_and(|mut entries| entries.next().is_none());
    let may_go = is_empty || (is_mount && is_overlay);
    if !may_go {
        return Err(Error::new("destroy root filesystem")
            .on(places.rootfs.display())
            .because("create-fs did not make it: it has no record")
            .hint("remove it by hand; or check --state and --data"));
    }
    drop(root);
    stop_leader(&places.rootfs)?;
    take_down(places)
}

/// Mounts, mount point, writable layer, ids. Whatever of it does not exist is done already.
pub(super) fn take_down(places: &Places) -> Result<()> {
    let open = |path: &Path| {
        open_if_there(path).map_err(|errno| {
            Error::sys("open directory", path.display(), errno).hint("needs root; check its mode")
        })
    };
    if let Some(parent) = open(&places.subcontainers)? {
        unmount_all(&parent, &places.guid, &places.rootfs)?;
        remove_mount_point(&parent, places)?;
    }
    if let Some(data) = open(&places.data)? {
        for stage in overlay::STAGES {
            unmount_all(&data, stage, &places.data.join(stage))?;
        }
    }
    remove::tree(&places.containers, &places.guid)?;
    // Not before the last file and mount that had them.
    ranges::release(places)
}

fn open_directory(parent: &RootDir, name: &str) -> Result<RootDir, Errno> {
    parent
        .open_plain(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
        .map(RootDir::from)
}

/// Detaches every mount that is stacked on `name`, topmost first, each with what is mounted below it.
fn unmount_all(parent: &RootDir, name: &str, shown: &Path) -> Result<()> {
    let failed = |errno: Errno| {
        Error::sys("unmount", shown.display(), errno).flags("private,recursive,detach")
    };
    for _ in 0..MAX_STACKED {
        let top = match open_directory(parent, name) {
            Ok(top) => top,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => {
                return Err(failed(errno).hint("it must be a directory; remove it by hand"));
            }
        };
        if !place(&top).map_err(failed)?.is_mount_root {
            return Ok(());
        }
        let private = Change {
            propagation: Some(Propagation::Private),
            recursive: true,
            ..Change::default()
        };
        set_attributes(&top, private).map_err(|errno| {
            failed(errno).hint("needs CAP_SYS_ADMIN over the mount namespace it is in")
        })?;
        unmount_at(&top).map_err(|errno| {
            failed(errno).hint(match errno {
                Errno::EINVAL => {
                    "it belongs to a more privileged mount namespace; destroy it there"
                }
                _ => "needs CAP_SYS_ADMIN and /proc",
            })
        })?;
    }
    Err(failed(Errno::EBUSY)
        .because("somebody keeps mounting there")
        .hint("stop who does, then try again"))
}

fn remove_mount_point(parent: &RootDir, places: &Places) -> Result<()> {
    match unlinkat(parent, places.guid.as_str(), UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => {
            let error = Error::sys("remove mount point", places.rootfs.display(), errno);
            Err(match errno {
                Errno::ENOTEMPTY | Errno::EEXIST => error.hint(
                    "somebody wrote there while nothing was mounted; move it away, then try again",
                ),
                Errno::EBUSY => error.hint("somebody mounted there again; try again"),
                _ => error.hint("needs root; check --base"),
            })
        }
    }
}
