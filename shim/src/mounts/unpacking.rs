//! Takes detached mounts out of a [`super::Parcel`], for the process that attaches them. Allocates nothing: a child that
//! has been cloned uses it.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::socket::{PASSED_MAX, receive_all};

/// What has been taken out so far.
pub(crate) struct Unpacking<'p> {
    parcel: BorrowedFd<'p>,
    batch: [Option<OwnedFd>; PASSED_MAX],
    next: usize,
}

impl<'p> Unpacking<'p> {
    pub(super) fn begin(parcel: BorrowedFd<'p>) -> Self {
        Self {
            parcel,
            batch: [const { None }; PASSED_MAX],
            next: PASSED_MAX,
        }
    }

    /// The next mount.
    ///
    /// # Errors
    /// EAGAIN where there is none: the steps and the parcel do not belong together.
    pub(super) fn next(&mut self) -> Result<OwnedFd, Errno> {
        if self.next == PASSED_MAX {
            (_, self.batch) = receive_all(self.parcel, &mut [0])?;
            self.next = 0;
        }
        let mount = self.batch.get_mut(self.next).and_then(Option::take);
        self.next += 1;
        // Descriptors beyond RLIMIT_NOFILE are left out by the kernel without a word (unix(7)).
        mount.ok_or(Errno::EMFILE)
    }
}
