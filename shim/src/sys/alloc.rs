//! In debug builds: an allocator that ends a cloned process which allocates, frees or panics before it executes init.
//!
//! Such a process is a copy of one thread. Whoever held the allocator's lock at that moment does not exist in it, so an
//! allocation may wait for ever: once in very many runs. Here every allocation is the last thing that it does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::exit_now;
use crate::error::EXIT_OWN;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Memory of its own in each process: what the child sets here is not set in the parent.
static CLONED: AtomicBool = AtomicBool::new(false);

/// From now on nothing may be allocated in this process.
pub(super) fn forbid() {
    CLONED.store(true, Ordering::Relaxed);
}

/// The system's allocator, behind the question whether it may be used.
struct Watched;

impl Watched {
    fn check(&self) {
        const WORDS: &[u8] = b"start-container: a cloned process has allocated or freed memory\n";
        if CLONED.load(Ordering::Relaxed) {
            // SAFETY: the pointer and the length are those of a constant.
            unsafe { libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len()) };
            exit_now(i32::from(EXIT_OWN))
        }
    }
}

// SAFETY: everything is passed to the system's allocator as it is, or the process ends.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.check();
        // SAFETY: the caller keeps what `GlobalAlloc` asks for, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.check();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.check();
        // SAFETY: as above; the block is one of the system's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.check();
        // SAFETY: as above; the block is one of the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::io::Read as _;

    use nix::sched::CloneFlags;
    use nix::unistd::dup2_stderr;

    use super::*;
    use crate::ended::Ended;
    use crate::sys::clone::{Clone, clone3};
    use crate::sys::pidfd;

    /// How a cloned process ends that does this, and what it says.
    fn cloned(act: impl FnOnce()) -> (Ended, String) {
        let (mut said, stderr) = std::io::pipe().unwrap();
        match clone3(CloneFlags::empty()).unwrap() {
            Clone::Child => {
                let _ = dup2_stderr(&stderr);
                act();
                exit_now(0)
            }
            Clone::Parent { pidfd, .. } => {
                drop(stderr);
                let mut text = String::new();
                said.read_to_string(&mut text).unwrap();
                (pidfd::wait(&pidfd).unwrap(), text)
            }
        }
    }

    #[test]
    fn a_cloned_process_that_uses_the_allocator_is_ended() {
        let mut grown = vec![0u8; 8];
        let freed = Box::new(0u8);
        let told = (
            Ended::Exited(i32::from(EXIT_OWN)),
            "start-container: a cloned process has allocated or freed memory\n".to_owned(),
        );
        assert_eq!(cloned(|| drop(black_box(vec![1u8]))), told);
        assert_eq!(cloned(|| drop(black_box(vec![0u8; 9]))), told);
        assert_eq!(cloned(|| black_box(&mut grown).reserve_exact(99)), told);
        assert_eq!(cloned(|| drop(black_box(freed))), told);
    }

    #[test]
    fn one_that_only_makes_system_calls_is_not() {
        let quiet = (Ended::Exited(0), String::new());
        assert_eq!(cloned(|| assert!(black_box(true))), quiet);
    }
}
