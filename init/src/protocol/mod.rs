//! How the shim tells init what to do, and how init answers.
//!
//! init is executed with `argv = [name, SPEC, WORKDIR, LABEL?, CANDIDATE…, ARGUMENT…]` and the command's whole environment: the
//! kernel has copied everything to init's stack, and init passes the very same pointers on to `execve`, so it needs no
//! memory of its own. SPEC is one line of decimal numbers ([`Spec`]). Answers are [`Record`]s of eight bytes on the
//! report descriptor.

mod record;
mod spec;

pub use record::{Record, Step, Word};
pub use spec::{ALL_CAPABILITIES, CapabilitySets, FILTER_MAX, Groups, Role, Spec, number};

/// Index in `argv` of the SPEC line.
pub const SPEC_ARGUMENT: usize = 1;
/// Index in `argv` of the working directory; the label, where there is one, and the candidates follow it.
pub const WORKDIR_ARGUMENT: usize = 2;
