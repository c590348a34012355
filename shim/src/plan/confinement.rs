//! What a container is kept from: capabilities, system calls, and parts of its own tree.

use std::ffi::{CStr, CString};
use std::fmt;

use init::protocol;
use serde::{Deserialize, Serialize, Serializer};

use super::printed::{lossy, lossy_list};
use crate::step::Step;

/// What processes in the container may do: PID 1 and every command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// The most that any of them may have; none leaves it as it is. Inheritable ones are cleared in any case.
    pub capabilities: Option<Capabilities>,
    /// The sets that the command itself begins with, where they are not simply as many of those as its user gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sets: Option<CapabilitySets>,
    /// Whether `execve` may never give more than the process has; otherwise that is as the caller has it.
    pub no_new_privileges: bool,
    /// Which system calls they may make.
    pub seccomp: Option<Seccomp>,
    /// What the host's security module takes the command for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
}

/// A label that a command has from its execution on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Whose it is.
    pub module: SecurityModule,
    /// What is written to the file `exec` of that module in `/proc/PID/attr`.
    #[serde(serialize_with = "lossy")]
    pub text: CString,
}

/// A security module whose labels are given by whoever starts a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityModule {
    /// apparmor(7).
    AppArmor,
    /// selinux(8).
    Selinux,
}

/// A set of capabilities: bit N is capability N of capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub u64);

/// What a command has just before it is executed; the kernel makes of that what it has then (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CapabilitySets {
    /// What counts.
    pub effective: Capabilities,
    /// What it may make effective.
    pub permitted: Capabilities,
    /// What a program may keep that says so itself.
    pub inheritable: Capabilities,
    /// What every program keeps.
    pub ambient: Capabilities,
}

impl From<CapabilitySets> for protocol::CapabilitySets {
    fn from(sets: CapabilitySets) -> Self {
        Self {
            effective: sets.effective.0,
            permitted: sets.permitted.0,
            inheritable: sets.inheritable.0,
            ambient: sets.ambient.0,
        }
    }
}

/// A compiled seccomp filter.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Seccomp {
    /// Where it comes from: `default`, or a file.
    pub name: String,
    /// The kernel's `struct sock_filter`, one after the other, in native byte order.
    #[serde(serialize_with = "length")]
    pub program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_* of seccomp(2).
    pub flags: u32,
}

impl Seccomp {
    /// The length of one instruction, in bytes.
    pub const INSTRUCTION: usize = 8;
    /// The flag of a filter that asks somebody about calls.
    pub const NEW_LISTENER: u32 = protocol::Spec::NEW_LISTENER;

    /// Whether it asks somebody.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.flags & Self::NEW_LISTENER != 0
    }
}

impl fmt::Debug for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instructions = self.program.len() / Self::INSTRUCTION;
        write!(f, "{} ({instructions} instructions)", self.name)
    }
}

/// What of the container's own tree is out of its reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Views {
    /// Files that read as empty and directories that are empty. Absolute; what is not there is passed over.
    #[serde(serialize_with = "lossy_list")]
    pub masked: Vec<CString>,
    /// Files and directories that cannot be written to, likewise.
    #[serde(serialize_with = "lossy_list")]
    pub readonly: Vec<CString>,
    /// Whether device nodes of the root filesystem are out of order, but for those that every program may expect. An
    /// image may bring a node of the host's disk, and no device cgroup is in its way.
    pub closed_devices: bool,
    /// Whether the filesystem that is mounted on /dev is read-only once all has been made in it; mounts below it are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly_dev: bool,
    /// Whether the root filesystem itself is read-only inside; mounts below it are not.
    pub readonly_root: bool,
}

impl Views {
    /// Whether the container sees a procfs that differs from the host's view of it.
    #[must_use]
    pub fn cover(&self) -> bool {
        !self.masked.is_empty() || !self.readonly.is_empty()
    }

    /// The path that a step is about.
    pub(crate) fn path(&self, step: Step) -> Option<&CStr> {
        match step {
            Step::Mask(index) => self.masked.get(index),
            Step::ProtectPath(index) => self.readonly.get(index),
            _ => None,
        }
        .map(CString::as_c_str)
    }
}

fn length<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} bytes", bytes.len()))
}
