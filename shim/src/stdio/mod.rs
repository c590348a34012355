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
mod relay;
#[cfg(test)]
mod tests;

pub use finish::Drained;
pub use open::{Stdio, open};
pub use plan::{
    StdioPlan, StreamKind, StreamPlan, TerminalPlan, TerminalWish, WindowSize, kinds, plan,
};
pub use relay::Relay;
