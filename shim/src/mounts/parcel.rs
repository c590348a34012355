//! Detached mounts on their way from the client to the process that attaches them, in a socket.
//!
//! A descriptor that is in a socket is open nowhere, so any number of mounts needs only a few of either process's
//! RLIMIT_NOFILE; and if both are killed, the kernel drops the mounts with the socket.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::Unpacking;
use crate::sys::socket::{PASSED_MAX, send_all};

/// What is being packed: closed, it becomes a [`Parcel`].
pub(super) struct Packing {
    sender: OwnedFd,
    receiver: OwnedFd,
    batch: Vec<OwnedFd>,
}

impl Packing {
    pub(super) fn start() -> Result<Self, Errno> {
        // Not blocking: a parcel that is too large for the socket is an error, and an empty one is too.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (sender, receiver) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok(Self {
            sender,
            receiver,
            batch: Vec::with_capacity(PASSED_MAX),
        })
    }

    pub(super) fn add(&mut self, mount: OwnedFd) -> Result<(), Errno> {
        self.batch.push(mount);
        if self.batch.len() == PASSED_MAX {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Errno> {
        let raw: Vec<RawFd> = self.batch.iter().map(|mount| mount.as_raw_fd()).collect();
        send_all(&self.sender, &[1], &raw)?;
        self.batch.clear();
        Ok(())
    }

    pub(super) fn close(mut self) -> Result<Parcel, Errno> {
        if !self.batch.is_empty() {
            self.send()?;
        }
        Ok(Parcel(self.receiver))
    }
}

/// Detached mounts, in the order of the plan.
#[derive(Debug)]
pub(crate) struct Parcel(OwnedFd);

impl Parcel {
    /// Begins to take them out. Allocates nothing.
    pub(crate) fn unpack(&self) -> Unpacking<'_> {
        Unpacking::begin(self.0.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::sys::stat::fstat;

    use super::*;

    #[test]
    fn what_is_packed_comes_out_in_order() {
        for count in [0, 1, PASSED_MAX - 1, PASSED_MAX, PASSED_MAX + 1, 300] {
            let mut packing = Packing::start().unwrap();
            let mut inodes = Vec::new();
            for _ in 0..count {
                let (reader, _) = nix::unistd::pipe().unwrap();
                inodes.push(fstat(reader.as_fd()).unwrap().st_ino);
                packing.add(reader).unwrap();
            }
            let parcel = packing.close().unwrap();
            let mut unpacking = parcel.unpack();
            for inode in inodes {
                assert_eq!(fstat(unpacking.next().unwrap()).unwrap().st_ino, inode);
            }
            assert!(unpacking.next().is_err());
        }
    }
}
