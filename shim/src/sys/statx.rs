//! `statx(2)` for the two questions that `stat` cannot answer: which mount, and is it the root of one (Linux 5.8).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// libc has it not for musl.
const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;

/// Where a descriptor stands in the mount tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The mount's id, by [`place`] as in `/proc/self/mountinfo`; reused after unmounting.
    pub mount_id: u64,
    /// Whether the descriptor is the root of that mount.
    pub is_mount_root: bool,
    /// Inode number.
    pub inode: u64,
    /// Device, major and minor.
    pub device: (u32, u32),
}

/// Asks for the place of an open file or directory (O_PATH will do).
///
/// # Errors
/// Those of statx(2).
pub fn place(fd: impl AsFd) -> Result<Place, Errno> {
    ask(fd, libc::STATX_INO | libc::STATX_MNT_ID)
}

/// The same with an id that no other mount has had or gets, if the kernel has those (Linux 6.8); else that of [`place`].
///
/// # Errors
/// Those of statx(2).
pub fn lasting_place(fd: impl AsFd) -> Result<Place, Errno> {
    ask(
        fd,
        libc::STATX_INO | libc::STATX_MNT_ID | STATX_MNT_ID_UNIQUE,
    )
}

fn ask(fd: impl AsFd, mask: libc::c_uint) -> Result<Place, Errno> {
    let mut buffer = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path is an empty C string and the buffer has the size of `struct statx`.
    let result = unsafe {
        libc::statx(
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            mask,
            buffer.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    // SAFETY: statx succeeded and has filled the whole buffer.
    let statx = unsafe { buffer.assume_init() };
    let mount_root = u64::from(libc::STATX_ATTR_MOUNT_ROOT.cast_unsigned());
    Ok(Place {
        mount_id: statx.stx_mnt_id,
        is_mount_root: statx.stx_attributes & mount_root != 0,
        inode: statx.stx_ino,
        device: (statx.stx_dev_major, statx.stx_dev_minor),
    })
}
