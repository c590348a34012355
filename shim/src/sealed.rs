//! Files that nobody can write to, for what init is and for what it is given: a memfd whose content is sealed
//! (memfd_create(2), F_ADD_SEALS).
//!
//! Whatever runs as `/proc/self/exe` before the workload is such a file, so a container that opens it for writing gets
//! ETXTBSY or EPERM, and never the host's binary.

use std::ffi::CStr;
use std::io::{Seek as _, Write as _};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Result, errno_of};

/// Not in nix yet (Linux 6.3): executable, whatever vm.memfd_noexec says by default.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// Not in nix yet (Linux 6.3): not executable.
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);

static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// init as an executable; close-on-exec.
pub(crate) fn init() -> Result<OwnedFd> {
    make(c"init", INIT, MFD_EXEC).map_err(|errno| failed("init", errno))
}

/// Data that init reads; close-on-exec.
pub(crate) fn data(name: &CStr, content: &[u8]) -> Result<OwnedFd> {
    make(name, content, MFD_NOEXEC_SEAL).map_err(|errno| failed(&name.to_string_lossy(), errno))
}

fn failed(name: &str, errno: Errno) -> Error {
    Error::sys("make a sealed file for", name, errno)
        .hint("memfd_create(2) must work; see /proc/sys/vm/memfd_noexec")
}

fn make(name: &CStr, content: &[u8], kind: MFdFlags) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, flags | kind) {
        // Before Linux 6.3 the flag is unknown and every memfd is executable.
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(content)
        .and_then(|()| file.rewind())
        .map_err(|error| errno_of(&error))?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_sealed_file_can_be_read_and_not_changed() {
        let file = std::fs::File::from(data(c"some", b"words").unwrap());
        assert_eq!(std::io::read_to_string(&file).unwrap(), "words");
        let errno = |result: std::io::Result<()>| result.map_err(|error| error.raw_os_error());
        let refused = Err(Some(Errno::EPERM as i32));
        assert_eq!(errno(file.write_all_at(b"W", 0)), refused);
        assert_eq!(errno(file.write_all_at(b"more", 5)), refused);
        assert_eq!(errno(file.set_len(1)), refused);
        let more = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE));
        assert_eq!(more, Err(Errno::EPERM));
    }
}
