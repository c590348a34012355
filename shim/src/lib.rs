//! Applies a plan: namespaces, mounts, setns, pty and stdio relay, signals, exit status.
//!
//! Everything here happens on the host side of a container. What to do is decided in `runtime` and arrives as a
//! value; what happens inside, after the last `execve` of ours, is `init`'s.

pub mod ended;
pub mod error;
pub mod pipe_wrap;
pub mod rootdir;
pub mod signals;
pub mod stdio;
pub mod sys;

pub use ended::Ended;
pub use error::{Error, Result};
pub use rootdir::RootDir;
