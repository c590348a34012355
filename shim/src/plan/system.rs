//! What a container sets of its own system: names, sysctls, its loopback, devices, limits.

use std::ffi::CString;
use std::fmt;

use nix::sys::resource::Resource;
use serde::{Serialize, Serializer};

use super::node::Node;
use super::printed::lossy;
use crate::mounts::Target;

/// What is set before the root filesystem is entered, and the devices in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// Its host name; needs a UTS namespace of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Its NIS domain name, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_name: Option<String>,
    /// Whether the loopback of its own network namespace is brought up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub loopback: bool,
    /// Interfaces of the caller's network namespace that its own gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// By how much the clocks of its own time namespace differ, as the lines of `/proc/PID/timens_offsets`.
    #[serde(serialize_with = "lossy", skip_serializing_if = "is_empty")]
    pub time_offsets: CString,
    /// Written before the root filesystem is entered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
    /// Whether /dev gets the nodes and links that every program may expect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub devices: bool,
    /// The command's working directory, which is made if it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<Target>,
    /// Nodes besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
}

/// A network interface that leaves the caller for the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetDevice {
    /// What it is called.
    pub name: String,
    /// What it is called inside; for `%d` in it the kernel finds a number.
    pub inside: String,
}

/// A file below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sysctl {
    /// Its path relative to a procfs: `sys/net/ipv4/ip_forward`.
    #[serde(serialize_with = "lossy")]
    pub path: CString,
    /// What is written to it.
    pub value: String,
}

/// A limit of getrlimit(2). RLIM_INFINITY is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Of what.
    #[serde(serialize_with = "name")]
    pub resource: Resource,
    /// What holds.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}, {}", self.resource, self.soft, self.hard)
    }
}

/// From which nodes memory comes (set_mempolicy(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// The words for it.
    pub name: String,
    /// MPOL_* with MPOL_F_*.
    #[serde(skip)]
    pub mode: u32,
    /// A bit for each node.
    #[serde(skip)]
    pub nodes: Vec<u64>,
}

fn is_empty(text: &CString) -> bool {
    text.is_empty()
}

fn name<S: Serializer>(resource: &Resource, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{resource:?}"))
}
