//! `prlimit(2)`: limits of another process.

use std::ptr;

use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::unistd::Pid;

/// Raises how far a process may raise a limit; what holds for it now stays.
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE over the initial user namespace, and for open files beyond fs.nr_open.
pub fn raise_hard(pid: Pid, resource: Resource, hard: u64) -> Result<(), Errno> {
    let resource = resource as libc::__rlimit_resource_t;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: nothing is set, and what is told goes to a structure of ours that outlives the call.
    Errno::result(unsafe { libc::prlimit(pid.as_raw(), resource, ptr::null(), &raw mut limit) })?;
    limit.rlim_max = hard;
    // SAFETY: the structure outlives the call, and nothing is told.
    Errno::result(unsafe {
        libc::prlimit(pid.as_raw(), resource, &raw const limit, ptr::null_mut())
    })
    .map(drop)
}
