//! The only place with `unsafe` on the host side: one system call family per file, safe wrappers that return
//! `OwnedFd` and `Errno`.
#![allow(unsafe_code)]

pub use nix::errno::Errno;
