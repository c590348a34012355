//! What a process does to itself around `execve`: prctl(2), descriptors, execveat(2). Nothing here allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;

use super::check;

/// An argument or environment vector as the kernel wants it: pointers, then null. Built before the fork.
#[derive(Debug)]
pub struct Vector<'s> {
    pointers: Vec<*const libc::c_char>,
    strings: std::marker::PhantomData<&'s CStr>,
}

impl<'s> Vector<'s> {
    /// Points to `strings`, which live longer than the vector.
    pub fn new(strings: impl IntoIterator<Item = &'s CStr>) -> Self {
        let pointers = strings
            .into_iter()
            .map(CStr::as_ptr)
            .chain([std::ptr::null()])
            .collect();
        Self {
            pointers,
            strings: std::marker::PhantomData,
        }
    }
}

/// `execveat(2)` of an open file: `AT_EMPTY_PATH`, so no path is looked up. Returns only on failure.
pub fn execute(file: impl AsFd, arguments: &Vector<'_>, environment: &Vector<'_>) -> Errno {
    // SAFETY: the path is an empty C string; both vectors end with null and their strings outlive them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    check(result).err().unwrap_or(Errno::ENOEXEC)
}

/// `execve(2)` by path. Returns only on failure.
pub fn execute_path(path: &CStr, arguments: &Vector<'_>, environment: &Vector<'_>) -> Errno {
    // SAFETY: `path` is a C string; both vectors end with null and their strings outlive them.
    let result = unsafe {
        libc::execve(
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    };
    Errno::result(result).err().unwrap_or(Errno::ENOEXEC)
}

/// Sends `signal` to the caller when its parent thread ends: PR_SET_PDEATHSIG.
///
/// # Errors
/// EINVAL for a number that is no signal.
pub fn die_with_parent(signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: this prctl takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }).map(drop)
}

/// Makes `/proc/PID` of the caller root's and the caller untraceable for its equals: PR_SET_DUMPABLE 0.
///
/// # Errors
/// None is documented for 0.
pub fn hide_from_tracers() -> Result<(), Errno> {
    // SAFETY: this prctl takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// Exchanges the session keyring that the caller has inherited for a new and empty one (session-keyring(7)).
///
/// # Errors
/// ENOSYS in a kernel without keys, EPERM or the like where a filter keeps everybody from them, EDQUOT where the user has as
/// many as it may have (200, and root of the machine a million).
pub fn leave_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel reads no name through a null pointer.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    Errno::result(joined).map(drop)
}

/// Sets the NIS domain name of the UTS namespace (setdomainname(2)).
///
/// # Errors
/// EPERM, and EINVAL for a name of more than 64 bytes.
pub fn set_domain_name(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the pointer is to as many bytes as the length says.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Sets the execution domain of the caller (personality(2)). `execve` keeps it.
///
/// # Errors
/// None is documented.
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: the call takes a number only.
    Errno::result(unsafe { libc::personality(libc::c_ulong::from(domain)) }).map(drop)
}

/// Says from which nodes the caller gets its memory (set_mempolicy(2)): a mode of MPOL_* with its flags, and a bit for each
/// node. `execve` keeps it.
///
/// # Errors
/// EINVAL for a mode or nodes that the kernel, or the cpuset of the caller, does not have; ENOSYS without CONFIG_NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one off before it counts, also of none: so there must be no list then.
    let (list, bits) = match nodes.len() {
        0 => (std::ptr::null(), 0),
        words => (nodes.as_ptr(), words * 64 + 1),
    };
    // SAFETY: the kernel reads no more bits than it is told, of which the slice has as many.
    let set = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, list, bits) };
    check(set).map(drop)
}

/// Makes a descriptor of the caller's, close-on-exec, refer to what another one refers to. Allocates nothing.
///
/// # Errors
/// EBADF: it is none that a process can have.
pub fn put(from: impl AsFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: the callers pass the number of a descriptor that they have made to be replaced.
    let result = unsafe { libc::dup3(from.as_fd().as_raw_fd(), to, libc::O_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// Lets a descriptor survive the next `execve`.
///
/// # Errors
/// EBADF.
pub fn keep_across_exec(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: F_SETFD takes a number; a stale descriptor gives EBADF.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// Whether a descriptor is open since before the program was executed: all that we open is close-on-exec.
#[must_use]
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes a number; one that is not open gives EBADF.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

/// Marks all descriptors but the standard streams close-on-exec (close_range(2), CLOSE_RANGE_CLOEXEC, Linux 5.11):
/// also those that the caller has left open for us.
///
/// # Errors
/// None is documented for this range.
pub fn close_all_on_exec() -> Result<(), Errno> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes numbers only, and closes nothing now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(result).map(drop)
}

/// Closes a descriptor that a forked child has a copy of and no owner for.
pub fn close(fd: RawFd) {
    // SAFETY: the callers are in a forked child and pass a number whose owner is the parent's memory, not theirs.
    unsafe { libc::close(fd) };
}

/// Closes all descriptors but two. For a forked child, whose copies have no owner.
pub fn close_all_but(mut kept: [RawFd; 2]) {
    kept.sort_unstable();
    let [first, second] = kept.map(RawFd::cast_unsigned);
    let between = (first.saturating_add(1), second.saturating_sub(1));
    let above = (second.saturating_add(1), libc::c_uint::MAX);
    // Nothing lies below 0; an empty range is EINVAL.
    let below = first.checked_sub(1).map(|last| (0, last));
    for (from, to) in [Some(between), Some(above), below].into_iter().flatten() {
        // SAFETY: the callers are in a forked child, and the owners of these numbers are in the parent's memory.
        unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    }
}

/// Ends the calling process at once, without running destructors or exit functions.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Raises a signal, given by number so that real-time signals can be raised too, with its default disposition and not
/// blocked. Returns where that does not end the process: a signal whose default is something else, or no signal at all.
pub fn die_of(signal: libc::c_int) {
    // SAFETY: SIG_DFL installs no code of ours; a number that is no signal gives EINVAL.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to a whole `sigset_t`, which the call fills.
    unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
    // SAFETY: the set has been initialised; a number that is no signal gives EINVAL.
    unsafe { libc::sigaddset(mask.as_mut_ptr(), signal) };
    // SAFETY: the set is initialised, and a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, mask.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: the call takes a number only.
    unsafe { libc::raise(signal) };
}
