//! Applies a plan: namespaces, mounts, setns, pty and stdio relay, signals, exit status.
//!
//! Everything here happens on the host side of a container. What to do is decided in `runtime` and arrives as a
//! value; what happens inside, after the last `execve` of ours, is `init`'s.

pub mod error;
pub mod idmap;
pub mod rootdir;
pub mod sys;

pub use error::{Error, Result};
pub use rootdir::RootDir;
