//! The root of a container that has no mount namespace of its own: what is written down of it, and the ways back to it.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use shim::plan::{Joined, Launch, Namespaces};
use shim::shared_root::{self, Ids, SharedRoot as Copy};
use shim::{Error, Result};

use crate::host;
use crate::process::Rootfs;

/// A mount below which all is that the container mounts. It stays when the container ends, until that is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SharedRoot {
    /// What it is known by, in this boot.
    ids: Ids,
    /// The mount namespace that it is in, if not the one of whoever made the container.
    namespace: Option<Namespace>,
}

/// A mount namespace of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Namespace {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SharedRoot {
    /// The mount that the container of this plan is going to attach, if it has no mount namespace of its own.
    ///
    /// # Errors
    /// The mounts of its root filesystem cannot be copied; the namespace that it joins is gone.
    pub(super) fn make(plan: &Launch, rootfs: &Rootfs) -> Result<Option<(Self, Copy)>> {
        if plan.shared_root.is_none() {
            return Ok(None);
        }
        let failed = |errno| Error::sys("take the mounts over into", plan.rootfs.display(), errno);
        let namespace = plan.joined.iter().find(|one| one.kind.has_mount());
        let namespace = namespace.map(Namespace::of).transpose().map_err(failed)?;
        let copy = Copy::new(&rootfs.dir).map_err(failed)?;
        let ids = copy.ids().map_err(failed)?;
        Ok(Some((Self { ids, namespace }, copy)))
    }

    /// What PID 1 has as its root directory.
    ///
    /// # Errors
    /// It is another one by now.
    pub(super) fn of(&self, pid: i32) -> Result<OwnedFd> {
        let path = format!("/proc/{pid}/root");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = open(path.as_str(), flags, Mode::empty());
        let root = opened.map_err(|errno| Error::sys("open", &path, errno))?;
        match shared_root::is_root_of(&root, self.ids.lasting[0]) {
            Ok(true) => Ok(root),
            Ok(false) => Err(Error::new("enter")
                .on(path)
                .because("it is not the container's root")
                .hint("PID 1 has changed its root directory, which a mount namespace would not let it do to others")),
            Err(errno) => Err(Error::sys("enter", path, errno)),
        }
    }

    /// Unmounts it, with all that is below. A namespace that is gone has taken it along.
    ///
    /// # Errors
    /// Something else is mounted over it; EPERM.
    pub(super) fn remove(&self, rootfs: &Path) -> Result<()> {
        let failed = |errno| Error::sys("unmount", rootfs.display(), errno);
        let path =
            CString::new(rootfs.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
        let Some(namespace) = &self.namespace else {
            let removed = shared_root::remove(&path, &self.ids, None).map_err(failed)?;
            let mut mounts = host::mounts().into_iter().flatten();
            // By its number alone it might be somebody else's by now.
            let is_covered = mounts.any(|one| {
                let listed = u64::try_from(one.mnt_id);
                listed.is_ok_and(|id| self.ids.listed.contains(&id)) && one.mount_point == rootfs
            });
            return match removed || !is_covered {
                true => Ok(()),
                false => {
                    Err(failed(Errno::EBUSY)
                        .hint("something else is mounted there: that goes first"))
                }
            };
        };
        match namespace.open() {
            Some(file) => shared_root::remove(&path, &self.ids, Some(file.as_fd()))
                .map(drop)
                .map_err(failed),
            None => Ok(()),
        }
    }
}

impl Namespace {
    fn of(joined: &Joined) -> std::result::Result<Self, Errno> {
        let found = std::fs::metadata(&joined.path).map_err(|_| Errno::ENOENT)?;
        Ok(Self {
            path: joined.path.clone(),
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// The namespace, if it is still to be found where it was.
    fn open(&self) -> Option<OwnedFd> {
        let kind = Namespaces::from_names(["mount"])?;
        let path = self.path.clone();
        let file = std::fs::File::from(Joined { kind, path }.open().ok()?);
        let found = file.metadata().ok()?;
        ((found.dev(), found.ino()) == (self.device, self.inode)).then(|| file.into())
    }
}
