//! What a container gets mounted in one call: `--mount`, `--share`, `--resolv-conf`, and `subcontainer mount` later on.
//!
//! `spec` and `fields` read the words, `plan` looks at the host and at the root filesystem and decides; `shim::mounts`
//! does it.

mod fields;
pub mod list;
mod peers;
mod plan;
mod resolv_conf;
mod spec;
pub mod verbs;

use std::path::PathBuf;

pub use plan::{Surroundings, plan, plan_one};
pub use resolv_conf::{RESOLV_CONF, read as read_resolv_conf};
pub use spec::{MountSpec, Share, parse, parse_share};

/// What the command line and the configuration ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountArgs {
    /// `--mount`, in order.
    pub mounts: Vec<MountSpec>,
    /// `--share`, each once.
    pub share: Vec<Share>,
    /// `--resolv-conf`; none leaves the container's as it is.
    pub resolv_conf: Option<PathBuf>,
}
