//! What to do where the disk is the reason for a failure, and not the archive.

use nix::errno::Errno;
use shim::Error;

/// Adds what to do about a failure that the place being written to, not the archive, is the reason for.
pub(in crate::image) fn disk_hint(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => error.hint("no space or no inodes are left below the base directory; free some or choose another with --base"),
        Errno::EROFS => error.hint("the base directory is on a read-only filesystem; choose another with --base"),
        Errno::EACCES | Errno::EPERM => error.hint("run as root, or as a user who may write below the base directory"),
        Errno::ENAMETOOLONG => error.hint("the archive has a name longer than Linux allows (255 bytes, 4095 for a path)"),
        Errno::EFBIG => error.hint("the archive has a file larger than the filesystem of the base directory allows"),
        Errno::EIO => error.hint("the disk reported an error; see the kernel log"),
        _ => error.or_hint("the image was not imported; nothing of it is left"),
    }
}
