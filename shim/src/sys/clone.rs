//! `clone3(2)`: a new process in new namespaces, together with its pidfd (Linux 5.3).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::check;

/// The kernel's `struct clone_args`, version 0 (64 bytes), which every kernel with `clone3` knows.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// What `clone3` returns, once in each process.
#[derive(Debug)]
pub enum Clone {
    /// In the new process.
    Child,
    /// In the caller: the child's number in the caller's PID namespace and its pidfd (close-on-exec).
    Parent {
        /// The child's process id as the caller sees it.
        pid: Pid,
        /// Refers to the child for good, whatever happens to the number.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces. Memory is copied (no CLONE_VM), so the child runs on, on a copy of the caller's stack.
///
/// The child must leave by `execve` or `_exit` and must not allocate or lock before that; a debug build ends it if it does.
///
/// # Errors
/// Those of clone3(2): EPERM without the privilege for a namespace, ENOSPC or EUSERS beyond a namespace limit, EAGAIN
/// beyond a process limit, ENOSYS where a seccomp filter hides the call.
pub fn clone3(namespaces: CloneFlags) -> Result<Clone, Errno> {
    let mut raw_pidfd: RawFd = -1;
    let mut args = CloneArgs {
        // The flag bits fit in 32 bits; nix keeps them in a c_int, CLONE_IO being the sign bit.
        flags: u64::from(namespaces.bits().cast_unsigned())
            | u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut raw_pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child gets its own copy of everything; `args` and the pidfd slot it points to
    // outlive the call, and the size passed is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let pid = check(result)?;
    if pid == 0 {
        #[cfg(debug_assertions)]
        super::alloc::forbid();
        return Ok(Clone::Child);
    }
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor in the slot before it returned to the parent.
    let pidfd = unsafe { OwnedFd::from_raw_fd(raw_pidfd) };
    Ok(Clone::Parent {
        pid: Pid::from_raw(pid),
        pidfd,
    })
}

/// What the process between [`orphan`] and its child is given, in memory that both share.
struct Between<'a> {
    child: &'a dyn Fn(),
    made: Result<OwnedFd, Errno>,
}

/// Its stack: one call of `clone3` and, in the child's copy, all that the child does.
const STACK: usize = 256 * 1024;

/// Forks a child that belongs to PID 1 of the PID namespace which the caller's children are born in (setns(2),
/// CLONE_NEWPID), and not to the caller: whoever dies first, PID 1 reaps it.
///
/// A process that lives only for the length of this call makes it and ends, and the kernel gives an orphan to the
/// reaper of its dead parent's namespace. Returns the child's pidfd; `child` runs in the child.
///
/// # Errors
/// Those of clone(2) and clone3(2).
pub fn orphan(child: &dyn Fn()) -> Result<OwnedFd, Errno> {
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let mut between = Between {
        child,
        made: Err(Errno::EAGAIN),
    };
    // The caller sleeps until the process has ended (CLONE_VFORK), memory and descriptors are one (CLONE_VM,
    // CLONE_FILES), so what it stores in `between` and the pidfd that it makes are the caller's.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: `top` is the 16-byte aligned end of a stack that nobody else uses, and stack and argument outlive the
    // process, because the caller does not run before it has ended.
    let pid = unsafe { libc::clone(make_orphan, top.cast(), flags, (&raw mut between).cast()) };
    let pid = Errno::result(pid)?;
    loop {
        // SAFETY: a null status is allowed, and the number is that of our own unreaped child.
        match Errno::result(unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) }) {
            Err(Errno::EINTR) => {}
            _ => return between.made,
        }
    }
}

extern "C" fn make_orphan(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `orphan` passes a pointer to its own `Between` and does not touch it while this process lives.
    let between = unsafe { &mut *argument.cast::<Between<'_>>() };
    between.made = match clone3(CloneFlags::empty()) {
        Ok(Clone::Child) => {
            (between.child)();
            // It does not return; if it did, there would be no stack to return to.
            super::process::exit_now(libc::EXIT_FAILURE)
        }
        Ok(Clone::Parent { pidfd, .. }) => Ok(pidfd),
        Err(errno) => Err(errno),
    };
    0
}
