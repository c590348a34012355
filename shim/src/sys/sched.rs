//! How the kernel shares processors and disks out among processes: sched_setattr(2), sched_setaffinity(2), ioprio_set(2).

use std::mem::size_of_val;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// More words of 64 processors than any kernel is built for.
const MASK_MAX: usize = 1024;

/// The kernel's `struct sched_attr` (Linux 5.3).
#[repr(C)]
struct Given {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    clamp: [u32; 2],
}

/// Policy and priority of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// -20 to 19, of SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99, of SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, of SCHED_DEADLINE.
    pub runtime: u64,
    /// Likewise.
    pub deadline: u64,
    /// Likewise.
    pub period: u64,
}

/// Sets them.
///
/// # Errors
/// EINVAL for values that do not fit together; EPERM without CAP_SYS_NICE, or where the processor time of the process' cgroup
/// or the processors of its cpuset do not allow it; EBUSY where others have been promised the time.
pub fn set_attributes(pid: Pid, attributes: Attributes) -> Result<(), Errno> {
    let Attributes {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
    } = attributes;
    let given = Given {
        size: u32::try_from(size_of::<Given>()).map_err(|_| Errno::EOVERFLOW)?,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        clamp: [0; 2],
    };
    // SAFETY: the kernel reads as many bytes as the structure says that it has, and it outlives the call.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, pid.as_raw(), &raw const given, 0) };
    check(set).map(drop)
}

/// Sets the disk priority of a process: class and level in one number, as ioprio_set(2) has it.
///
/// # Errors
/// EPERM for the real-time class without CAP_SYS_NICE or CAP_SYS_ADMIN; EINVAL for what is none.
pub fn set_io_priority(pid: Pid, priority: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: the call takes numbers only.
    let set = unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            pid.as_raw(),
            libc::c_int::from(priority),
        )
    };
    check(set).map(drop)
}

/// Lets a process run on these processors, as far as its cpuset has them: bit N of the whole is processor N.
///
/// # Errors
/// EINVAL where its cpuset has none of them.
pub fn set_affinity(pid: Pid, mask: &[u64]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many bytes as the length says, of which the slice has as many.
    let set = unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid.as_raw(),
            size_of_val(mask),
            mask.as_ptr(),
        )
    };
    check(set).map(drop)
}

/// Lets a process run on all processors that its cpuset has, or will have.
///
/// # Errors
/// ESRCH.
pub fn reset_affinity(pid: Pid) -> Result<(), Errno> {
    set_affinity(pid, &[u64::MAX; MASK_MAX])
}

/// The processors that a process may run on.
///
/// # Errors
/// ESRCH.
pub fn affinity(pid: Pid) -> Result<Vec<u64>, Errno> {
    let mut mask = vec![0u64; MASK_MAX];
    // SAFETY: the kernel writes at most as many bytes as the length says, of which the vector has as many.
    let length = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            pid.as_raw(),
            size_of_val(mask.as_slice()),
            mask.as_mut_ptr(),
        )
    };
    let bytes = usize::try_from(check(length)?).map_err(|_| Errno::EOVERFLOW)?;
    mask.truncate(bytes.div_ceil(size_of::<u64>()));
    Ok(mask)
}
