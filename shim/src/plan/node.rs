//! Device nodes and FIFOs that a container gets besides the usual ones.

use std::fmt;

use nix::sys::stat::SFlag;
use serde::Serialize;

use crate::mounts::Target;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A pipe with a name.
    Fifo,
}

impl NodeKind {
    pub(crate) fn flag(self) -> SFlag {
        match self {
            Self::Block => SFlag::S_IFBLK,
            Self::Char => SFlag::S_IFCHR,
            Self::Fifo => SFlag::S_IFIFO,
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Where, inside.
    pub path: Target,
    /// What.
    pub kind: NodeKind,
    /// The number of its driver.
    pub major: u64,
    /// Its number there.
    pub minor: u64,
    /// Permissions.
    pub mode: u32,
    /// Its owner, inside.
    pub uid: u32,
    /// Its group, inside.
    pub gid: u32,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            kind,
            major,
            minor,
            mode,
            ..
        } = self;
        write!(f, "{path}, {kind:?}, {major}:{minor}, {mode:03o}")
    }
}
