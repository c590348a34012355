//! What the caller's three streams become for the workload, and the relay between the two.
//!
//! ```text
//! kinds() -> plan() -> open() -> (fork) -> into_relay() -> interest()/progress() … -> finish()
//! looks     decides   pipes, pty           raw mode       bytes                    the rest, mode restored
//! ```
//!
//! Streams that are files, pipes or devices are handed through and cost nothing here. Never changed: owner, mode and
//! O_NONBLOCK of anything of the caller's.

mod buffer;
mod end;
mod finish;
mod flow;
mod open;
mod plan;
mod raw_mode;
mod read_out;
mod relay;
#[cfg(test)]
mod tests;

pub use finish::Drained;
pub use open::{Stdio, open};
pub use plan::{
    Preserved, StdioPlan, StreamKind, StreamPlan, TerminalPlan, TerminalWish, WindowSize, kinds,
    plan,
};
pub use relay::Relay;

/// As [`open`], for streams made by a test in place of this process's own.
#[cfg(test)]
pub(crate) fn open_given(
    plan: &StdioPlan,
    streams: [std::os::fd::OwnedFd; 3],
) -> crate::Result<Stdio> {
    let owner = (
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    );
    open::open_for(plan, owner, open::Caller::given(streams.map(Some)))
}
