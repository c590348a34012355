//! Has the disk write while there is still something to unpack, so that little is left to wait for at the end.
//!
//! The kernel leaves what is written in memory until much more of it is there than most images have. Its own way to be
//! asked, syncfs(2), waits; so a thread of its own waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use shim::Result;

/// After how many bytes the disk is asked again. Less makes the journal commit more often, which holds up who writes.
const PIECE: u64 = 192 << 20;

/// Is told of everything that is written.
pub(in crate::image) struct Flusher {
    /// Bytes since the disk was asked.
    written: AtomicU64,
    next: Mutex<Next>,
    told: Condvar,
}

/// What the thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Wait,
    Write,
    End,
}

/// Does `work`, and then has everything on disk: `sync` waits until what was written so far is there. Where it need not
/// be `durable`, nobody waits for anything.
///
/// # Errors
/// Those of `work`, and those of `sync`.
pub(in crate::image) fn to_disk<T>(
    durable: bool,
    sync: impl Fn() -> Result<()> + Sync,
    work: impl FnOnce(&Flusher) -> Result<T>,
) -> Result<T> {
    let flusher = Flusher {
        written: AtomicU64::new(0),
        next: Mutex::new(Next::Wait),
        told: Condvar::new(),
    };
    if !durable {
        return work(&flusher);
    }
    let done = std::thread::scope(|scope| {
        let early = scope.spawn(|| flusher.write_early(&sync));
        let done = work(&flusher);
        flusher.tell(Next::End);
        // The kernel tells of a failure once: it must not be lost.
        done.and_then(|done| match early.join() {
            Ok(written) => written.map(|()| done),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    sync()?;
    Ok(done)
}

impl Flusher {
    /// So many bytes were written.
    pub(in crate::image) fn wrote(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before < PIECE && before + bytes >= PIECE {
            self.tell(Next::Write);
        }
    }

    fn tell(&self, next: Next) {
        *self.next() = next;
        self.told.notify_one();
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_early(&self, sync: impl Fn() -> Result<()>) -> Result<()> {
        loop {
            let mut next = self.next();
            while *next == Next::Wait {
                next = self.told.wait(next).unwrap_or_else(PoisonError::into_inner);
            }
            if *next == Next::End {
                return Ok(());
            }
            *next = Next::Wait;
            drop(next);
            self.written.store(0, Ordering::Relaxed);
            sync()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Writes so many pieces, and waits for as many calls as were asked for on the way.
    fn calls(durable: bool, pieces: usize) -> usize {
        let calls = AtomicUsize::new(0);
        let sync = || {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let done = to_disk(durable, sync, |flusher| {
            for piece in 1..=pieces {
                flusher.wrote(PIECE / 2);
                flusher.wrote(PIECE / 2);
                while durable && calls.load(Ordering::Relaxed) < piece {
                    std::thread::yield_now();
                }
            }
            Ok(pieces)
        });
        assert_eq!(done.unwrap(), pieces);
        calls.into_inner()
    }

    #[test]
    fn the_disk_is_asked_after_each_piece_and_at_the_end() {
        assert_eq!(calls(true, 0), 1);
        assert_eq!(calls(true, 3), 4);
        assert_eq!(calls(false, 3), 0);
    }

    #[test]
    fn a_failure_on_the_way_is_one_at_the_end() {
        let asked = AtomicUsize::new(0);
        let sync = || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err(shim::Error::new("write to disk")),
            _ => Ok(()),
        };
        let done = to_disk(true, sync, |flusher| {
            flusher.wrote(PIECE);
            while asked.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            Ok(())
        });
        assert!(done.is_err());
    }
}
