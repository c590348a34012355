//! `clone3(2)`: a new process in new namespaces, together with its pidfd (Linux 5.3).
//!
//! Container engines let their seccomp filters answer ENOSYS to it, because a filter cannot look at flags that are in
//! memory; clone(2), whose flags are in a register, is what they let through instead.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::check;
use super::time::{self, TIME, Visit};

/// The kernel's `struct clone_args`, version 2 (88 bytes, Linux 5.7).
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
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// libc has it as a number that no c_int holds.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

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
/// beyond a process limit.
pub fn clone3(namespaces: CloneFlags) -> Result<Clone, Errno> {
    born(namespaces, None)
}

/// The same, into a cgroup of version 2 (CLONE_INTO_CGROUP, Linux 5.7). A cgroup namespace that is made by the same call
/// would have the caller's cgroup as its root and not this one.
///
/// # Errors
/// As [`clone3`]; ENOSYS where only clone(2) is to be had; EBUSY, EOPNOTSUPP, ENODEV where the cgroup takes no processes.
pub fn clone3_into_cgroup(namespaces: CloneFlags, cgroup: BorrowedFd<'_>) -> Result<Clone, Errno> {
    born(namespaces, Some(cgroup))
}

fn born(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Clone, Errno> {
    let mut raw_pidfd: RawFd = -1;
    let mut args = CloneArgs {
        // The flag bits of namespaces fit in 32 bits; nix keeps them in a c_int, CLONE_IO being the sign bit.
        flags: u64::from(namespaces.bits().cast_unsigned())
            | u64::from(libc::CLONE_PIDFD.cast_unsigned())
            | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
        pidfd: (&raw mut raw_pidfd).addr() as u64,
        // A sibling of the caller ends with the same signal as the caller, and clone3 insists that nothing is said.
        exit_signal: if namespaces.contains(CloneFlags::CLONE_PARENT) {
            0
        } else {
            u64::from(libc::SIGCHLD.cast_unsigned())
        },
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child gets its own copy of everything; `args` and the pidfd slot it points to
    // outlive the call, and the size passed is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let pid = match check(result) {
        Err(Errno::ENOSYS) if cgroup.is_none() => old_clone(namespaces, &raw mut raw_pidfd)?,
        other => other?,
    };
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

/// The same by `clone(2)`, which takes the flags and the signal in one word and stores the pidfd where its third
/// argument points to, on every architecture that is built for.
fn old_clone(namespaces: CloneFlags, pidfd: *mut RawFd) -> Result<libc::c_long, Errno> {
    let flags = namespaces.bits() | libc::CLONE_PIDFD | libc::SIGCHLD;
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM the child gets its own copy of everything and goes on upon its copy of this stack;
    // `pidfd` points to a slot of the caller's that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_clone, flags, none, pidfd, none, none) })
}

/// Whose child it is that [`clone_into`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The caller's.
    Caller,
    /// That of PID 1 in the PID namespace that it is born into: whoever else dies, PID 1 reaps it.
    Pid1,
}

/// What of [`clone_into`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Joining: those of setns(2), ESRCH where the other process has ended.
    Join(Errno),
    /// Joining the one with this index.
    JoinOne(usize, Errno),
    /// Making a time namespace.
    Time(Errno),
    /// Forking: those of clone3(2); ENOMEM or EAGAIN also where the PID namespace is ending (alloc_pid).
    Fork(Errno),
}

impl Refused {
    /// What the kernel answered.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::Join(errno) | Self::JoinOne(_, errno) | Self::Time(errno) | Self::Fork(errno) => {
                errno
            }
        }
    }
}

/// Forks a child into namespaces of another process, which the caller does not join: whatever fails, it is where it was.
///
/// A process that lives only for the length of this call joins them. The child becomes its sibling (CLONE_PARENT), or
/// the child of a second such process that is born inside: when that one ends, the kernel gives its child to the reaper
/// of its PID namespace. Returns the child's number, if it is the caller's, and its pidfd; `child` runs in the child.
///
/// # Errors
/// See [`Refused`].
pub fn clone_into(
    target: BorrowedFd<'_>,
    namespaces: CloneFlags,
    parent: Parent,
    child: &dyn Fn(),
) -> Result<(Option<Pid>, OwnedFd), Refused> {
    let visit = namespaces.contains(TIME).then(|| Visit::new(target));
    let _visit = visit.transpose().map_err(Refused::Join)?;
    let namespaces = namespaces - TIME;
    // Both are made here: what runs between shares our memory, but not our right to the allocator.
    let (mut outside, mut inside) = (Stack::new(), Stack::new());
    let mut made = Err(Refused::Fork(Errno::EAGAIN));
    let fork = |flags| fork(flags, child);
    let lived = briefly(&mut outside, &mut || {
        made = match (setns(target, namespaces), parent) {
            (Err(errno), _) => Err(Refused::Join(errno)),
            (Ok(()), Parent::Caller) => {
                fork(CloneFlags::CLONE_PARENT).map(|(pid, pidfd)| (Some(pid), pidfd))
            }
            (Ok(()), Parent::Pid1) => {
                let mut orphan = Err(Refused::Fork(Errno::EAGAIN));
                briefly(&mut inside, &mut || orphan = fork(CloneFlags::empty()))
                    .map_err(Refused::Fork)
                    .and(orphan)
                    .map(|(_, pidfd)| (None, pidfd))
            }
        };
    });
    lived.map_err(Refused::Fork).and(made)
}

/// A namespace and what it is.
pub type Joined = (CloneFlags, OwnedFd);

/// Forks a child into namespaces that others have, and into new ones; as [`clone_into`], the caller stays where it is.
///
/// A user namespace comes after those that the caller may join by itself, and before those that only its root may. With
/// `offsets`, as in `/proc/PID/timens_offsets`, it gets a new time namespace.
///
/// # Errors
/// See [`Refused`].
pub fn clone_beside(
    joined: &[Joined],
    namespaces: CloneFlags,
    offsets: Option<&CStr>,
    child: &dyn Fn(),
) -> Result<(Pid, OwnedFd), Refused> {
    let mut times = joined.iter().enumerate();
    let time = times.find(|(_, (kind, _))| *kind == TIME);
    let visit = time
        .map(|(index, (_, file))| Visit::new(file).map_err(|errno| Refused::JoinOne(index, errno)));
    let _visit = visit.transpose()?;
    let mut stack = Stack::new();
    let mut made = Err(Refused::Fork(Errno::EAGAIN));
    let lived = briefly(&mut stack, &mut || {
        let time = |()| offsets.map_or(Ok(()), time::make).map_err(Refused::Time);
        made = enter(joined)
            .and_then(time)
            .and_then(|()| fork(namespaces | CloneFlags::CLONE_PARENT, child));
    });
    lived.map_err(Refused::Fork).and(made)
}

fn enter(joined: &[Joined]) -> Result<(), Refused> {
    let is_user = |kind: CloneFlags| kind == CloneFlags::CLONE_NEWUSER;
    let has_user = joined.iter().any(|(kind, _)| is_user(*kind));
    let join = |user: bool, again: bool| {
        for (index, (kind, file)) in joined.iter().enumerate() {
            // The caller is in that time already, and so are we.
            if is_user(*kind) != user || *kind == TIME {
                continue;
            }
            match setns(file, *kind) {
                Ok(()) => {}
                Err(Errno::EPERM) if has_user && !user && !again => {}
                Err(errno) => return Err(Refused::JoinOne(index, errno)),
            }
        }
        Ok(())
    };
    join(false, false)?;
    if has_user {
        join(true, false)?;
        // To join once more what has been joined already changes nothing.
        join(false, true)?;
    }
    Ok(())
}

fn fork(flags: CloneFlags, child: &dyn Fn()) -> Result<(Pid, OwnedFd), Refused> {
    match clone3(flags) {
        Ok(Clone::Child) => {
            child();
            // It does not return; if it did, there would be no stack to return to.
            super::process::exit_now(libc::EXIT_FAILURE)
        }
        Ok(Clone::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Err(errno) => Err(Refused::Fork(errno)),
    }
}

/// The stack of a process that shares our memory: a few calls and, in the copy of whom it forks, all that that one does, which
/// may follow symlinks of a hostile image with several paths of 4 KiB for each. Only what is used of it becomes memory.
struct Stack(Vec<u128>);

impl Stack {
    const BYTES: usize = 1024 * 1024;

    fn new() -> Self {
        Self(vec![0; Self::BYTES / size_of::<u128>()])
    }
}

/// Runs `act` where it may join namespaces that the caller does not: what it opens is the caller's. It may not allocate.
///
/// # Errors
/// Those of clone(2).
pub(crate) fn visit<T>(act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let (mut act, mut made) = (Some(act), Err(Errno::EAGAIN));
    briefly(&mut Stack::new(), &mut || {
        if let Some(act) = act.take() {
            made = act();
        }
    })?;
    made
}

/// Runs `act` in a process of its own that has ended when this returns. The caller sleeps until then (CLONE_VFORK);
/// memory and descriptors are one (CLONE_VM, CLONE_FILES), so what `act` stores and opens is the caller's, but
/// namespaces, ids and the working directory are its own.
fn briefly(stack: &mut Stack, act: &mut dyn FnMut()) -> Result<(), Errno> {
    extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `briefly` passes a pointer to its own `act` and does not touch it while this process lives.
        let act = unsafe { &mut *argument.cast::<&mut dyn FnMut()>() };
        act();
        0
    }
    let mut act = act;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    let top = stack.0.as_mut_ptr_range().end;
    // SAFETY: `top` is the 16-byte aligned end of a stack that nobody else uses, and stack and argument outlive the
    // process, because the caller does not run before it has ended.
    let pid = unsafe { libc::clone(run, top.cast(), flags, (&raw mut act).cast()) };
    let pid = Errno::result(pid)?;
    loop {
        // SAFETY: a null status is allowed, and the number is that of our own unreaped child.
        match Errno::result(unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) }) {
            Err(Errno::EINTR) => {}
            _ => return Ok(()),
        }
    }
}
