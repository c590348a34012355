//! The only place with `unsafe` on the host side: one system call family per file, safe wrappers that return
//! `OwnedFd` and `Errno`.
//!
//! Calls that run in a forked child allocate nothing; their docs say so, and debug builds hold them to it.
#![allow(unsafe_code)]

#[cfg(debug_assertions)]
mod alloc;
pub mod bpf;
pub mod clone;
pub mod limit;
pub mod loopdev;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod pidfd;
pub mod pipe;
pub mod process;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod statx;
pub mod time;
pub mod tree;
pub mod tty;
pub mod verity;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub use nix::errno::Errno;

/// Turns the result of `libc::syscall` into an errno or the value.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    Errno::result(result)
}

/// Turns the result of `libc::syscall` into an errno or the descriptor that the kernel just made for us.
fn check_fd(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let raw = RawFd::try_from(check(result)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the callers pass the result of a system call that returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
