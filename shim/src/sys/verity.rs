//! fs-verity (Documentation/filesystems/fsverity.rst): the kernel keeps a hash tree of a file, and checks against it
//! whatever is read. A file with it cannot be written to any more.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// `_IOW('f', 133, struct fsverity_enable_arg)`
const FS_IOC_ENABLE_VERITY: u64 = 0x4080_6685;
/// `_IOWR('f', 134, struct fsverity_digest)`
const FS_IOC_MEASURE_VERITY: u64 = 0xC004_6686;
const SHA256: u16 = 1;
const BLOCK_SIZE: u32 = 4096;

/// The kernel's `struct fsverity_enable_arg`.
#[repr(C)]
struct EnableArg {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// The kernel's `struct fsverity_digest`, with room for a SHA-256.
#[repr(C)]
struct Digest {
    algorithm: u16,
    size: u16,
    digest: [u8; 32],
}

/// Turns it on: SHA-256, blocks of 4096 bytes, no salt. Reads the whole file.
///
/// # Errors
/// ENOTTY or EOPNOTSUPP where the kernel or the filesystem has none, ETXTBSY while somebody has the file open for
/// writing, EEXIST where it is on already.
pub fn enable(file: impl AsFd) -> Result<(), Errno> {
    let arg = EnableArg {
        version: 1,
        hash_algorithm: u32::from(SHA256),
        block_size: BLOCK_SIZE,
        salt_size: 0,
        salt_ptr: 0,
        sig_size: 0,
        reserved1: 0,
        sig_ptr: 0,
        reserved2: [0; 11],
    };
    // SAFETY: `arg` has the layout the ioctl reads, points to nothing, and outlives the call. The request's number has
    // 32 bits; libc's type for it is wider or narrower than that from one C library to the next.
    let result = unsafe {
        libc::ioctl(
            file.as_fd().as_raw_fd(),
            FS_IOC_ENABLE_VERITY as libc::Ioctl,
            &raw const arg,
        )
    };
    Errno::result(result).map(drop)
}

/// The digest that the kernel holds the file to.
///
/// # Errors
/// ENODATA where it is not on, ENOTTY or EOPNOTSUPP where the kernel or the filesystem has none, EOVERFLOW where it is
/// not SHA-256.
pub fn measure(file: impl AsFd) -> Result<[u8; 32], Errno> {
    let mut digest = Digest {
        algorithm: 0,
        size: 32,
        digest: [0; 32],
    };
    // SAFETY: `digest` has the layout the ioctl reads and writes, with as many bytes at its end as `size` says.
    let result = unsafe {
        libc::ioctl(
            file.as_fd().as_raw_fd(),
            FS_IOC_MEASURE_VERITY as libc::Ioctl,
            &raw mut digest,
        )
    };
    Errno::result(result)?;
    if digest.algorithm == SHA256 {
        Ok(digest.digest)
    } else {
        Err(Errno::EOVERFLOW)
    }
}
