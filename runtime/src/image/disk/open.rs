//! Opens what is below a directory and never anything outside it, however long the path is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::Mode;
use shim::open_below;

/// The longest path that the kernel takes at once (PATH_MAX less the NUL).
pub(in crate::image) const PATH_MAX: usize = 4095;

/// Opens a path below `root` that has no link in it, however long it is.
pub(in crate::image) fn open_plain(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let mut from: Option<OwnedFd> = None;
    let mut rest = if path.is_empty() { &b"."[..] } else { path };
    loop {
        let start = from.as_ref().map_or(root, AsFd::as_fd);
        if rest.len() <= PATH_MAX {
            return resolve_in(start, rest, flags, resolve);
        }
        let cut = rest[..PATH_MAX].iter().rposition(|byte| *byte == b'/');
        let (first, other) = rest.split_at(cut.ok_or(Errno::ENAMETOOLONG)?);
        from = Some(resolve_in(
            start,
            first,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            resolve,
        )?);
        rest = &other[1..];
    }
}

/// Opens what is there; makes nothing.
pub(in crate::image) fn resolve_in(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    open_below(root, path, flags, Mode::empty(), resolve)
}
