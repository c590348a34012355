//! Applies a plan: namespaces, mounts, setns, pty and stdio relay, signals, exit status.
//!
//! Everything here happens on the host side of a container. What to do is decided in `runtime` and arrives as a
//! value; what happens inside, after the last `execve` of ours, is `init`'s.

// What runs between clone3 and execve; .clippy.toml lists what it must not use. A debug build ends it if it allocates.
mod below;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod child;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod console;
pub mod ended;
pub mod error;
pub mod exec;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod guard;
pub mod held;
pub mod hook;
pub mod idmap;
pub mod launch;
pub mod mounts;
pub mod net_device;
pub mod own_userns;
pub mod pipe_wrap;
mod pipes;
pub mod plan;
pub mod procfs;
pub mod rootdir;
mod sealed;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
pub mod shared_root;
pub mod signals;
mod spawn;
pub mod stdio;
pub mod step;
mod supervise;
pub mod surroundings;
pub mod sys;
mod userns;
#[cfg_attr(
    not(test),
    deny(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types
    )
)]
mod views;

pub use below::open_below;
pub use ended::Ended;
pub use error::{Error, Result};
pub use rootdir::RootDir;
