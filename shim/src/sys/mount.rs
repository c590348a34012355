//! The mount API of Linux 5.2 and 5.12: detached trees, attributes and attachment by descriptor.
//!
//! Nothing here takes a path below a root filesystem: a mount is made detached and attached to a descriptor. None of
//! these calls allocates, so a forked child may use them.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::{check, check_fd};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_SET_FD: libc::c_uint = 5;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: libc::c_uint = 7;
const FSPICK_CLOEXEC: libc::c_uint = 0x1;
const FSPICK_EMPTY_PATH: libc::c_uint = 0x8;
/// Not in libc yet; the same number on every architecture (Linux 6.15).
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// Mount attribute bits of `mount_setattr(2)` and `fsmount(2)`.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// Reading a file is not noted in its access time.
    pub const NOATIME: u64 = 0x10;
    /// Each time it is.
    pub const STRICTATIME: u64 = 0x20;
    /// The two are values of one field (MOUNT_ATTR__ATIME).
    pub const ATIME: u64 = 0x70;
    /// Reading a directory is not noted.
    pub const NODIRATIME: u64 = 0x80;
    /// Symlinks are not followed (Linux 5.14).
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
    /// Ids are translated by the user namespace in `userns_fd`.
    pub const IDMAP: u64 = 0x0010_0000;
}

/// How mount events travel between copies of a mount (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Events go both ways within the peer group.
    Shared,
    /// Events arrive but are not sent.
    Slave,
    /// No events.
    Private,
    /// Likewise, and no copies either.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Private => libc::MS_PRIVATE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What [`set_attributes`] changes; the default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'fd> {
    /// Attribute bits to set (see [`attr`]).
    pub set: u64,
    /// Attribute bits to clear.
    pub clear: u64,
    /// Propagation to switch to.
    pub propagation: Option<Propagation>,
    /// User namespace whose id maps the mount shall apply.
    pub idmap: Option<BorrowedFd<'fd>>,
    /// Also everything mounted below.
    pub recursive: bool,
}

impl Change<'_> {
    fn to_raw(self) -> Result<MountAttr, Errno> {
        let mut raw = MountAttr {
            attr_set: self.set,
            // A field with values is cleared before it is set (mount_setattr(2)).
            attr_clr: if self.set & attr::ATIME == 0 {
                self.clear
            } else {
                self.clear | attr::ATIME
            },
            ..MountAttr::default()
        };
        if let Some(propagation) = self.propagation {
            raw.propagation = propagation.bits();
        }
        if let Some(userns) = self.idmap {
            raw.attr_set |= attr::IDMAP;
            raw.userns_fd = u64::try_from(userns.as_raw_fd()).map_err(|_| Errno::EBADF)?;
        }
        Ok(raw)
    }

    fn at_flags(self) -> libc::c_int {
        libc::AT_EMPTY_PATH
            | if self.recursive {
                libc::AT_RECURSIVE
            } else {
                0
            }
    }
}

/// `mount_setattr(2)` on the mount that `mount` is the root of (Linux 5.12).
///
/// # Errors
/// Those of the man page; EINVAL also where `mount` is not the root of a mount or the filesystem cannot be idmapped.
pub fn set_attributes(mount: impl AsFd, change: Change<'_>) -> Result<(), Errno> {
    let raw = change.to_raw()?;
    // SAFETY: the path is an empty C string and `raw` outlives the call, which gets its exact size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            change.at_flags(),
            &raw const raw,
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

/// The same for the mount at a path of the host itself (never below a root filesystem).
///
/// # Errors
/// As [`set_attributes`].
pub fn set_attributes_at(path: &CStr, change: Change<'_>) -> Result<(), Errno> {
    let raw = change.to_raw()?;
    // SAFETY: `path` is a C string and `raw` outlives the call, which gets its exact size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            change.at_flags(),
            &raw const raw,
            size_of::<MountAttr>(),
        )
    };
    check(result).map(drop)
}

fn clone_flags(recursive: bool) -> libc::c_uint {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_EMPTY_PATH | recursive).cast_unsigned()
}

/// `open_tree(2)` with OPEN_TREE_CLONE: a detached copy of the mount at `source`, with what is mounted below if
/// `recursive`. It goes away with its last descriptor unless it is attached.
///
/// # Errors
/// Those of the man page; EINVAL where a mount below is locked and `recursive` is not set.
pub fn clone_tree(source: impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    // SAFETY: the path is an empty C string; the call returns a new descriptor or an error.
    check_fd(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            source.as_fd().as_raw_fd(),
            c"".as_ptr(),
            clone_flags(recursive),
        )
    })
}

/// `open_tree_attr(2)`: the same, with attributes applied to the copy before anybody can see it. The only way to give
/// an idmapped mount another idmap (Linux 6.15; ENOSYS before).
///
/// # Errors
/// As [`clone_tree`] and [`set_attributes`].
pub fn clone_tree_with(source: impl AsFd, change: Change<'_>) -> Result<OwnedFd, Errno> {
    let raw = change.to_raw()?;
    // SAFETY: the path is an empty C string, `raw` outlives the call, which gets its exact size and returns a new
    // descriptor or an error.
    check_fd(unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            source.as_fd().as_raw_fd(),
            c"".as_ptr(),
            clone_flags(change.recursive),
            &raw const raw,
            size_of::<MountAttr>(),
        )
    })
}

/// `move_mount(2)`: attaches a detached mount on top of the file or directory `target`.
///
/// # Errors
/// Those of the man page; ENOTDIR where one is a directory and the other is not.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    // SAFETY: both paths are empty C strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    check(result).map(drop)
}

/// A filesystem that is being configured: `fsopen(2)`.
#[derive(Debug)]
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Starts configuring a filesystem of type `name`.
    ///
    /// # Errors
    /// Those of the man page; ENODEV where the kernel does not know the type, EPERM without CAP_SYS_ADMIN.
    pub fn open(name: &CStr) -> Result<Self, Errno> {
        // SAFETY: `name` is a C string; the call returns a new descriptor or an error.
        check_fd(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
            .map(Self)
    }

    /// Starts changing the options of the one that is mounted at `place`, the root of the mount: fspick(2).
    ///
    /// # Errors
    /// EINVAL where it is not the root of a mount; EPERM for a filesystem of another user namespace.
    pub fn again(place: impl AsFd) -> Result<Self, Errno> {
        // SAFETY: the path is an empty C string; the call returns a new descriptor or an error.
        check_fd(unsafe {
            libc::syscall(
                libc::SYS_fspick,
                place.as_fd().as_raw_fd(),
                c"".as_ptr(),
                FSPICK_CLOEXEC | FSPICK_EMPTY_PATH,
            )
        })
        .map(Self)
    }

    /// Applies what has been set since [`Self::again`].
    ///
    /// # Errors
    /// Those of fsconfig(2), which are the filesystem's own.
    pub fn reconfigure(&self) -> Result<(), Errno> {
        self.config(FSCONFIG_CMD_RECONFIGURE, ptr::null(), ptr::null(), 0)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: *const libc::c_char,
        value: *const libc::c_char,
        aux: libc::c_int,
    ) -> Result<(), Errno> {
        // SAFETY: `key` and `value` are null or point to C strings that the callers below hold across the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key,
                value,
                aux,
            )
        };
        check(result).map(drop)
    }

    /// Sets an option that has a value.
    ///
    /// # Errors
    /// EINVAL for an unknown option or a bad value; others as the filesystem has them. See [`Filesystem::explanation`].
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)
    }

    /// Sets an option whose value is an open file or directory (overlay layers: Linux 6.13).
    ///
    /// # Errors
    /// As [`Filesystem::set`]; EINVAL also where the option does not take a descriptor.
    pub fn set_fd(&self, key: &CStr, fd: impl AsFd) -> Result<(), Errno> {
        self.config(
            FSCONFIG_SET_FD,
            key.as_ptr(),
            ptr::null(),
            fd.as_fd().as_raw_fd(),
        )
    }

    /// Sets an option that has none.
    ///
    /// # Errors
    /// As [`Filesystem::set`].
    pub fn set_flag(&self, key: &CStr) -> Result<(), Errno> {
        self.config(FSCONFIG_SET_FLAG, key.as_ptr(), ptr::null(), 0)
    }

    /// Makes the filesystem and returns a detached mount of it with the given attribute bits (see [`attr`]).
    ///
    /// # Errors
    /// Those of fsconfig(2) and fsmount(2), which are the filesystem's own.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd, Errno> {
        self.config(FSCONFIG_CMD_CREATE, ptr::null(), ptr::null(), 0)?;
        // SAFETY: the call takes no pointers and returns a new descriptor or an error.
        check_fd(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            )
        })
    }

    /// What the kernel has to say about the last failure (`e overlay: …`), if anything. Allocates.
    #[must_use]
    pub fn explanation(&self) -> Option<String> {
        let mut buffer = [0; 512];
        let length = nix::unistd::read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..length)?);
        Some(
            text.trim_start_matches(['e', 'w', 'i', ' '])
                .trim_end()
                .to_owned(),
        )
    }
}
