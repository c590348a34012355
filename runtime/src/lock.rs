//! Locks of files and directories (flock(2)), waited for until a deadline.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a lock is waited for. Who holds one that is waited for does so for a few system calls, or an import long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How often a lock that is taken is looked at again.
const INTERVAL: Duration = Duration::from_millis(5);

/// Takes the lock of `file`; false where somebody else has it all the time until `deadline`.
pub(crate) fn take(
    file: &File,
    lock: fn(&File) -> Result<(), TryLockError>,
    deadline: Duration,
) -> io::Result<bool> {
    let end = Instant::now() + deadline;
    loop {
        match lock(file) {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(INTERVAL),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether the file that is open still has this name: who waited for its lock may hold one of what is no longer there.
pub(crate) fn is_still(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_has_an_end() {
        let path = std::env::temp_dir().join(format!("lock-{}", std::process::id()));
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap()
        };
        let (held, other) = (open(), open());
        let soon = Duration::from_millis(20);
        assert!(take(&held, File::try_lock_shared, soon).unwrap());
        assert!(take(&other, File::try_lock_shared, soon).unwrap());
        assert!(!take(&other, File::try_lock, soon).unwrap());
        drop(held);
        // A child that another test has just forked holds it until it executes something.
        assert!(take(&other, File::try_lock, DEADLINE).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
