//! What is written down about a container, and whether it still holds: who PID 1 is, by start time and boot id.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shim::Result;
use shim::net_device::Lent;

use super::intel_rdt::Groups;
use super::shared_root::SharedRoot;
use crate::cgroup::{Group, Places};
use crate::identity::{Identity, boot_id};

/// What is written down about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    boot_id: String,
    /// PID 1, once there is one.
    pub(super) init: Option<Identity>,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    /// The namespaces of its own, by the names of the plan.
    pub(super) namespaces: Vec<String>,
    /// Whether its PID namespace is its own: then the kernel ends all processes with the first one.
    pub(super) own_pids: bool,
    /// Whether the configuration has hooks.
    #[serde(default)]
    pub(super) hooks: bool,
    /// Its root, where it has no mount namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_root: Option<SharedRoot>,
    /// Whether it has the session keyring of whoever made it; its commands have that of whoever calls exec.
    #[serde(default)]
    pub(super) keeps_keyring: bool,
    /// What the program is called in messages.
    pub(super) program: String,
    /// When it was made, as RFC 3339 has it.
    pub(super) created: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// Its cgroups, of this boot.
    pub(super) cgroups: Places,
    /// Its groups of resctrl, of this boot.
    #[serde(default)]
    pub(super) intel_rdt: Groups,
    /// Where its network namespace is found, if that is somebody else's.
    #[serde(default)]
    pub(super) network: Option<PathBuf>,
    /// The network interfaces that it gets, until it has been made.
    #[serde(default)]
    pub(super) lent: Vec<Lent>,
}

impl Record {
    /// That of a container without PID 1.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(super) fn new(bundle: PathBuf, rootfs: PathBuf, created: String) -> Result<Self> {
        Ok(Self {
            boot_id: boot_id()?,
            init: None,
            bundle,
            rootfs,
            namespaces: Vec::new(),
            own_pids: true,
            hooks: false,
            shared_root: None,
            keeps_keyring: false,
            program: String::new(),
            created,
            annotations: BTreeMap::new(),
            cgroups: Places::default(),
            intel_rdt: Groups::default(),
            network: None,
            lent: Vec::new(),
        })
    }

    /// Its cgroups, as far as they are there.
    pub(super) fn group(&self) -> Option<Group> {
        let group = self.of_this_boot().then(|| Group::open(&self.cgroups));
        group.filter(|group| !group.is_empty())
    }

    /// Whether its processes stand still.
    pub(super) fn is_paused(&self) -> bool {
        self.group().is_some_and(|group| group.is_frozen())
    }

    /// Whether it was written since the machine was started.
    pub(super) fn of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot_id| self.boot_id == boot_id)
    }

    /// The root that commands enter, where it has no mount namespace of its own; `pid` is PID 1.
    ///
    /// # Errors
    /// As [`SharedRoot::of`].
    pub(super) fn root_of(&self, pid: Option<i32>) -> Result<Option<OwnedFd>> {
        let root = self.shared_root.as_ref();
        root.map(|root| root.of(pid.unwrap_or(0))).transpose()
    }

    /// PID 1, if it lives.
    pub(super) fn live(&self, boot_id: &str) -> Option<OwnedFd> {
        self.init.filter(|_| self.boot_id == boot_id)?.open()
    }
}
