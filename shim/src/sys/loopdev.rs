//! Loop devices (loop(4)): a file becomes a block device for as long as somebody has it open.
//!
//! Only read-only, self-clearing devices are made here: nothing has to be given back by hand.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::errno::Errno;

use crate::error::errno_of;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// How often a device that was free may turn out to be taken by somebody else before we give up.
const ATTEMPTS: usize = 64;

/// The kernel's `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The kernel's `struct loop_config` (Linux 5.8).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

impl LoopConfig {
    fn read_only(fd: u32) -> Self {
        Self {
            fd,
            block_size: 0,
            info: LoopInfo {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
                file_name: [0; 64],
                crypt_name: [0; 64],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        }
    }
}

/// A configured loop device. It is cleared by the kernel when this and whatever mounts it are gone (LO_FLAGS_AUTOCLEAR).
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Makes `backing` readable as a block device.
    ///
    /// # Errors
    /// ENOENT without `/dev/loop-control` or the device's node, EPERM or EACCES without the privilege (a container),
    /// EBUSY when others keep taking the device that was free.
    pub fn read_only(backing: impl AsFd) -> Result<Self, Errno> {
        let open = |path: &PathBuf| {
            OpenOptions::new()
                .read(true)
                .open(path)
                .map_err(|error| errno_of(&error))
        };
        let control = open(&PathBuf::from("/dev/loop-control"))?;
        let backing = u32::try_from(backing.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
        let config = LoopConfig::read_only(backing);
        for _ in 0..ATTEMPTS {
            // SAFETY: this ioctl takes no argument and returns a number.
            let number =
                Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path)?;
            // SAFETY: `config` has the layout the ioctl reads and outlives the call.
            let result =
                unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
            match Errno::result(result) {
                Ok(_) => {
                    return Ok(Self {
                        path,
                        _open: device,
                    });
                }
                // Between the two calls somebody else has configured it.
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EBUSY)
    }

    /// The path of the device node.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}
