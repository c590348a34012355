//! Images that are one file, squashfs or EROFS: mounted read-only, attached nowhere.
//!
//! EROFS is mounted from the file itself where the kernel can (Linux 6.12); all else goes through a loop device, which
//! the kernel clears when the mount is gone. Nothing here looks into an image: what is in the file is the kernel's to
//! judge, and the kernel lets only root of the initial user namespace have it judged.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use shim::rootdir::fd_path;
use shim::sys::loopdev::LoopDevice;
use shim::sys::mount::{Filesystem, attr};
use shim::{Error, Result};

use super::overlay;
use crate::verity::{Digest, Recorded, Since, Wanted};

/// What filesystem the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Squashfs,
    Erofs,
}

impl Kind {
    /// Both, in the order in which they are looked for.
    pub(crate) const ALL: [Self; 2] = [Self::Squashfs, Self::Erofs];

    /// Its name, which is also the ending of its files in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }

    fn for_kernel(self) -> &'static CStr {
        match self {
            Self::Squashfs => c"squashfs",
            Self::Erofs => c"erofs",
        }
    }

    /// What an error calls the program that makes such files.
    fn maker(self) -> &'static str {
        match self {
            Self::Squashfs => "mksquashfs",
            Self::Erofs => "image build-erofs or mkfs.erofs",
        }
    }
}

/// Mounts the file that image `id` in the directory `images` is; nothing where it is none.
pub(super) fn find(images: &Path, id: &str, verity: Option<Wanted>) -> Result<Option<OwnedFd>> {
    for kind in Kind::ALL {
        let path = images.join(format!("{id}.{}", kind.name()));
        match File::open(&path) {
            Ok(backing) => {
                check_digest(images, id, verity, (&path, &backing))?;
                return mount(kind, &path, &backing).map(Some);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Error::io("open image", path.display(), &error)
                    .hint("needs root; check its mode"));
            }
        }
    }
    Ok(None)
}

/// Where the kernel checks what is read, asking it costs nothing and is always done. Reading the whole file is done for
/// who asks for it.
fn check_digest(
    images: &Path,
    id: &str,
    wanted: Option<Wanted>,
    (path, file): (&Path, &File),
) -> Result<()> {
    let error = || Error::new("check digest of").on(path.display());
    let expected = match (wanted, Recorded::read(images, id)?) {
        (Some(Wanted::Exactly(digest)), _) => digest,
        (Some(Wanted::Recorded), None) => {
            return Err(error()
                .because("it was imported without one")
                .hint("import it with --verity, or say which with --verity=sha256:HEX"));
        }
        (Some(Wanted::Recorded), Some(recorded)) => recorded.digest,
        (None, Some(recorded)) if recorded.since == Since::Kernel => recorded.digest,
        (None, _) => return Ok(()),
    };
    let measured = Digest::measured(file)
        .map_err(|errno| error().errno(errno).hint("check the disk it is on"))?;
    let found = match measured {
        Some(found) => found,
        None if wanted.is_some() => Digest::of(file).map_err(|failed| {
            Error::io("check digest of", path.display(), &failed).hint("check the disk it is on")
        })?,
        None => {
            return Err(error()
                .because("the kernel has checked it since the import, and does not any more")
                .hint("somebody has put another file there: import the image again"));
        }
    };
    if found == expected {
        Ok(())
    } else {
        Err(expected.differs(path.display(), found))
    }
}

/// Mounts `backing`, the open file at `path`. What holds the result holds all that was made for it.
pub(crate) fn mount(kind: Kind, path: &Path, backing: &File) -> Result<OwnedFd> {
    let is_file = backing.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err(Error::new("open image")
            .on(path.display())
            .because("it is no regular file")
            .hint(format!(
                "ID.{} is a file made by {}; a directory is called ID",
                kind.name(),
                kind.maker()
            )));
    }
    if overlay::in_user_namespace() {
        // Neither filesystem has FS_USERNS_MOUNT, and a container may not even open a loop device.
        return Err(refused(kind, path, (Errno::EPERM, None)));
    }
    if kind == Kind::Erofs {
        match mount_source(kind, &fd_path(backing.as_fd())) {
            // A kernel that wants a block device: before 6.12, built without it, or for a file that lies on an overlay.
            Err((Errno::ENOTBLK, _)) => {}
            other => return other.map_err(|refusal| refused(kind, path, refusal)),
        }
    }
    through_loop_device(kind, path, backing)
}

fn through_loop_device(kind: Kind, path: &Path, backing: &File) -> Result<OwnedFd> {
    let device = LoopDevice::read_only(backing).map_err(|errno| {
        let error = Error::sys("make loop device for", path.display(), errno)
            .flags("read-only,autoclear");
        match errno {
            Errno::ENOENT | Errno::EPERM | Errno::EACCES | Errno::ENXIO | Errno::ENODEV => error.hint(
                "needs root, /dev/loop-control and /dev/loop*; where a container has none, import the image as a directory",
            ),
            _ => error.hint("losetup --list shows who has them"),
        }
    })?;
    CString::new(device.path().as_os_str().as_bytes())
        .map_err(|_| (Errno::EINVAL, None))
        .and_then(|source| mount_source(kind, &source))
        .map_err(|refusal| refused(kind, path, refusal))
}

/// An errno, and the kernel's words for it.
type Refusal = (Errno, Option<String>);

/// Set-user-ID bits of the image stay (no NOSUID): the overlay above decides, and images need them. Devices are the
/// overlay's to offer as well; nobody sees this mount itself.
fn mount_source(kind: Kind, source: &CStr) -> Result<OwnedFd, Refusal> {
    let filesystem = Filesystem::open(kind.for_kernel()).map_err(|errno| (errno, None))?;
    filesystem
        .set(c"source", source)
        .and_then(|()| filesystem.set_flag(c"ro"))
        .and_then(|()| filesystem.mount(attr::RDONLY | attr::NODEV))
        .map_err(|errno| (errno, filesystem.explanation()))
}

fn refused(kind: Kind, path: &Path, (errno, explanation): Refusal) -> Error {
    let name = kind.name();
    let error = Error::sys(format!("mount {name}"), path.display(), errno).flags("ro,nodev");
    let error = match explanation {
        Some(text) if !text.is_empty() => error.because(text),
        _ => error,
    };
    match errno {
        Errno::ENODEV => error.hint(format!(
            "the kernel has no {name}: modprobe {name}, or import the image as a directory"
        )),
        Errno::EPERM => error.hint(
            "only root of the machine may mount it: without root, or in a user namespace, import the image as a directory",
        ),
        _ => error.hint(format!(
            "is the file a complete {name} image? import it again; dmesg has the kernel's reason"
        )),
    }
}
