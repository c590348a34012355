//! init as an executable that nobody can write to: an embedded ELF in a sealed memfd (memfd_create(2), F_ADD_SEALS).
//!
//! Whatever runs as `/proc/self/exe` before the workload is this file, so a container that opens it for writing gets
//! ETXTBSY or EPERM, and never the host's binary.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Result};

/// Not in nix yet (Linux 6.3): executable, whatever vm.memfd_noexec says by default.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Makes the sealed file; close-on-exec.
pub(crate) fn init() -> Result<OwnedFd> {
    make().map_err(|errno| {
        Error::sys("make a sealed file for", "init", errno)
            .hint("memfd_create(2) must work; see /proc/sys/vm/memfd_noexec")
    })
}

fn make() -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(c"init", flags | MFD_EXEC) {
        // Before Linux 6.3 the flag is unknown and every memfd is executable.
        Err(Errno::EINVAL) => memfd_create(c"init", flags)?,
        other => other?,
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(INIT)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
