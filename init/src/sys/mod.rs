//! init's own system calls: no libc. Numbers and the one assembly block per architecture are in the files beside.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod arch;
#[cfg(target_arch = "riscv64")]
#[path = "riscv64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;

mod capabilities;

use arch::{nr, syscall};

pub(crate) use capabilities::{limit_bounding_set, limit_capabilities, set_capabilities};

/// Result of a system call: the value, or the errno.
pub(crate) type Result<T> = core::result::Result<T, i32>;

/// Interrupted: tried again wherever it can occur.
pub(crate) const EINTR: i32 = 4;
/// No child left.
pub(crate) const ECHILD: i32 = 10;
/// Not permitted.
pub(crate) const EPERM: i32 = 1;
/// Invalid argument.
pub(crate) const EINVAL: i32 = 22;
/// No such file or directory.
pub(crate) const ENOENT: i32 = 2;

/// A C string that the kernel put on our stack, or a constant.
pub(crate) type CStr = *const u8;
/// A null-terminated array of them.
pub(crate) type Vector = *const CStr;

/// One system call; unused arguments are zero.
fn call(number: usize, arguments: [usize; 5]) -> Result<usize> {
    // SAFETY: each wrapper below passes numbers, or pointers to memory that it holds or got from the kernel for the
    // life of the process, as the call's man page asks.
    let value = unsafe { syscall(number, arguments) };
    let errno = value.wrapping_neg();
    if (1..4096).contains(&errno) {
        Err(i32::try_from(errno).unwrap_or(i32::MAX))
    } else {
        Ok(value)
    }
}

/// A signed number in a register.
fn register(number: i32) -> usize {
    (number as isize).cast_unsigned()
}

/// A number from a register that fits by the call's contract.
fn small(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(-1)
}

pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = call(nr::EXIT_GROUP, [register(code), 0, 0, 0, 0]);
    }
}

/// fork(2): the child's number, or 0 in the child.
pub(crate) fn fork() -> Result<i32> {
    const SIGCHLD: usize = 17;
    call(nr::CLONE, [SIGCHLD, 0, 0, 0, 0]).map(small)
}

pub(crate) fn setsid() -> Result<()> {
    call(nr::SETSID, [0; 5]).map(drop)
}

pub(crate) fn make_controlling_terminal(fd: i32) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    call(nr::IOCTL, [register(fd), TIOCSCTTY, 0, 0, 0]).map(drop)
}

pub(crate) fn dup_to(from: i32, to: i32) -> Result<()> {
    call(nr::DUP3, [register(from), register(to), 0, 0, 0]).map(drop)
}

pub(crate) fn close(fd: i32) {
    let _ = call(nr::CLOSE, [register(fd), 0, 0, 0, 0]);
}

/// Marks all descriptors from `first` to `last` close-on-exec (close_range(2), flag since Linux 5.11).
pub(crate) fn close_on_exec(first: u32, last: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    call(
        nr::CLOSE_RANGE,
        [first as usize, last as usize, CLOSE_RANGE_CLOEXEC, 0, 0],
    )
    .map(drop)
}

/// Closes all descriptors from 3 on.
pub(crate) fn close_from_3() -> Result<()> {
    call(nr::CLOSE_RANGE, [3, u32::MAX as usize, 0, 0, 0]).map(drop)
}

pub(crate) fn umask(mask: u32) {
    let _ = call(nr::UMASK, [mask as usize, 0, 0, 0, 0]);
}

pub(crate) fn setgroups(groups: &[u32]) -> Result<()> {
    call(
        nr::SETGROUPS,
        [groups.len(), groups.as_ptr().addr(), 0, 0, 0],
    )
    .map(drop)
}

pub(crate) fn setresgid(gid: u32) -> Result<()> {
    call(
        nr::SETRESGID,
        [gid as usize, gid as usize, gid as usize, 0, 0],
    )
    .map(drop)
}

pub(crate) fn setresuid(uid: u32) -> Result<()> {
    call(
        nr::SETRESUID,
        [uid as usize, uid as usize, uid as usize, 0, 0],
    )
    .map(drop)
}

pub(crate) fn chdir(path: CStr) -> Result<()> {
    call(nr::CHDIR, [path.addr(), 0, 0, 0, 0]).map(drop)
}

/// Whether the working directory can be reached from the root: the kernel answers "(unreachable)/…" otherwise.
pub(crate) fn cwd_is_reachable() -> Result<bool> {
    const PATH_MAX: usize = 4096;
    let mut buffer = [0u8; PATH_MAX];
    call(nr::GETCWD, [buffer.as_mut_ptr().addr(), PATH_MAX, 0, 0, 0])?;
    Ok(buffer[0] == b'/')
}

/// Returns only when it fails.
pub(crate) fn execve(path: CStr, arguments: Vector, environment: Vector) -> i32 {
    call(
        nr::EXECVE,
        [path.addr(), arguments.addr(), environment.addr(), 0, 0],
    )
    .err()
    .unwrap_or(0)
}

/// Whether a path is something that the process may execute.
pub(crate) fn may_execute(path: CStr) -> Result<()> {
    const AT_FDCWD: i32 = -100;
    const AT_EACCESS: usize = 0x200;
    const X_OK: usize = 1;
    let words = [register(AT_FDCWD), path.addr(), X_OK, AT_EACCESS, 0];
    match call(nr::FACCESSAT, words) {
        // It looks at the real ids alone, and so at no capability of a user that is not root (access(2)).
        Err(crate::policy::EACCES) => call(nr::FACCESSAT2, words)
            .map(drop)
            .map_err(|_| crate::policy::EACCES),
        other => other.map(drop),
    }
}

pub(crate) fn prctl(option: usize, value: usize) -> Result<()> {
    call(nr::PRCTL, [option, value, 0, 0, 0]).map(drop)
}

/// seccomp(2) with SECCOMP_SET_MODE_FILTER: the descriptor of the listener, if the flags ask for one, or 0.
pub(crate) fn set_filter(program: &[u64], flags: u32) -> Result<usize> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    /// The kernel's `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u64,
    }
    let program = Program {
        length: u16::try_from(program.len()).unwrap_or(u16::MAX),
        instructions: program.as_ptr(),
    };
    call(
        nr::SECCOMP,
        [
            SECCOMP_SET_MODE_FILTER,
            flags as usize,
            (&raw const program).addr(),
            0,
            0,
        ],
    )
}

/// Sets a signal's disposition to its default.
pub(crate) fn default_disposition(signal: i32) {
    // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, empty mask.
    let action = [0usize; 4];
    let _ = call(
        nr::RT_SIGACTION,
        [register(signal), action.as_ptr().addr(), 0, 8, 0],
    );
}

/// Replaces the signal mask.
pub(crate) fn set_signal_mask(mask: u64) -> Result<()> {
    const SIG_SETMASK: usize = 2;
    call(
        nr::RT_SIGPROCMASK,
        [SIG_SETMASK, (&raw const mask).addr(), 0, 8, 0],
    )
    .map(drop)
}

/// Waits for one of the blocked signals and returns its number.
pub(crate) fn wait_for_signal() -> i32 {
    let mask = u64::MAX;
    loop {
        if let Ok(number) = call(nr::RT_SIGTIMEDWAIT, [(&raw const mask).addr(), 0, 0, 8, 0]) {
            return small(number);
        }
    }
}

/// A descriptor that delivers all blocked signals.
pub(crate) fn signalfd() -> Result<i32> {
    const SFD_CLOEXEC_NONBLOCK: usize = 0o2_000_000 | 0o4_000;
    let mask = u64::MAX;
    call(
        nr::SIGNALFD4,
        [
            register(-1),
            (&raw const mask).addr(),
            8,
            SFD_CLOEXEC_NONBLOCK,
            0,
        ],
    )
    .map(small)
}

pub(crate) fn kill(pid: i32, signal: i32) {
    let _ = call(nr::KILL, [register(pid), register(signal), 0, 0, 0]);
}

/// wait4(2) for any child: its number and status; 0 for the number when `poll` is set and none has ended.
pub(crate) fn wait_any(poll: bool) -> Result<(i32, u32)> {
    let mut status = 0u32;
    loop {
        match call(
            nr::WAIT4,
            [
                register(-1),
                (&raw mut status).addr(),
                usize::from(poll),
                0,
                0,
            ],
        ) {
            Err(EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(pid) => return Ok((small(pid), status)),
        }
    }
}

/// read(2), tried again when interrupted.
pub(crate) fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match call(
            nr::READ,
            [register(fd), buffer.as_mut_ptr().addr(), buffer.len(), 0, 0],
        ) {
            Err(EINTR) => {}
            other => return other,
        }
    }
}

/// Reads whole words until the end of a file, or of the room: how many there were.
pub(crate) fn read_words(fd: i32, words: &mut [core::mem::MaybeUninit<u64>]) -> Result<usize> {
    let mut length = 0;
    loop {
        let room = size_of_val(words) - length;
        let place = words.as_mut_ptr().addr() + length;
        match call(nr::READ, [register(fd), place, room, 0, 0]) {
            Err(EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(length / size_of::<u64>()),
            Ok(count) => length += count,
        }
    }
}

pub(crate) fn write(fd: i32, bytes: &[u8]) {
    while call(
        nr::WRITE,
        [register(fd), bytes.as_ptr().addr(), bytes.len(), 0, 0],
    ) == Err(EINTR)
    {}
}

/// One entry of ppoll(2).
#[repr(C)]
pub(crate) struct PollFd {
    pub(crate) fd: i32,
    pub(crate) events: i16,
    pub(crate) revents: i16,
}

pub(crate) const POLLIN: i16 = 1;
pub(crate) const POLLHUP: i16 = 0x10;
pub(crate) const POLLERR: i16 = 8;

/// Waits until one of `set` is ready, or with `now` only looks. Negative descriptors are passed over.
pub(crate) fn poll(set: &mut [PollFd], now: bool) {
    let zero = [0usize; 2];
    let timeout = if now { zero.as_ptr().addr() } else { 0 };
    while call(
        nr::PPOLL,
        [set.as_mut_ptr().addr(), set.len(), timeout, 0, 0],
    ) == Err(EINTR)
    {}
}

/// Our own number, in our own PID namespace.
pub(crate) fn own_pid() -> u32 {
    call(nr::GETPID, [0; 5]).map_or(0, |pid| u32::try_from(pid).unwrap_or(0))
}

/// Our own number as a procfs has it, which may be of a PID namespace around ours: where its `self` leads to.
pub(crate) fn own_number(procfs: i32) -> Option<i32> {
    let mut number = [0u8; 16];
    let length = call(
        nr::READLINKAT,
        [
            register(procfs),
            c"self".as_ptr().addr(),
            number.as_mut_ptr().addr(),
            number.len(),
            0,
        ],
    );
    crate::protocol::number(number.get(..length.ok()?)?)
}

/// Sends a signal to the process of a pidfd, or of a directory of procfs.
pub(crate) fn pidfd_send_signal(process: i32, signal: i32) {
    // It fails only if the process has ended, which is what is wanted.
    let _ = call(
        nr::PIDFD_SEND_SIGNAL,
        [register(process), register(signal), 0, 0, 0],
    );
}

/// Opens a path relative to a directory, read-only and close-on-exec.
pub(crate) fn open_at(dir: i32, path: &[u8; 32]) -> Result<i32> {
    const O_CLOEXEC_NOFOLLOW: usize = 0o2_000_000 | arch::O_NOFOLLOW;
    call(
        nr::OPENAT,
        [
            register(dir),
            path.as_ptr().addr(),
            O_CLOEXEC_NOFOLLOW,
            0,
            0,
        ],
    )
    .map(small)
}

/// Writes the file `exec` of a directory in one go, as procfs wants it.
pub(crate) fn write_label(dir: i32, label: CStr) -> Result<()> {
    const O_WRONLY_CLOEXEC_NOFOLLOW: usize = 1 | 0o2_000_000 | arch::O_NOFOLLOW;
    let name = c"exec".as_ptr().addr();
    let file = call(
        nr::OPENAT,
        [register(dir), name, O_WRONLY_CLOEXEC_NOFOLLOW, 0, 0],
    )?;
    let written = call(nr::WRITE, [file, label.addr(), crate::length(label), 0, 0]);
    close(small(file));
    written.map(drop)
}

/// getdents64(2).
pub(crate) fn read_directory(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    call(
        nr::GETDENTS64,
        [register(fd), buffer.as_mut_ptr().addr(), buffer.len(), 0, 0],
    )
}

/// Back to the first directory entry.
pub(crate) fn rewind(fd: i32) {
    let _ = call(nr::LSEEK, [register(fd), 0, 0, 0, 0]);
}
