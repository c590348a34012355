//! Sets of namespaces (namespaces(7)).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde::{Serialize, Serializer};

use crate::error::errno_of;
use crate::sys::namespace;
use crate::sys::time::TIME;

/// A namespace of somebody else's, by the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// What it is: exactly one.
    pub kind: Namespaces,
    /// Where it is found.
    pub path: PathBuf,
}

impl Joined {
    /// Opens it.
    ///
    /// # Errors
    /// Those of open(2); EINVAL where it is another kind of namespace, or no namespace.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let file = File::open(&self.path).map_err(|error| errno_of(&error))?;
        if namespace::kind(&file) == Ok(self.kind.flags()) {
            Ok(file.into())
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// A set of namespaces, as the flags of `clone3` and `setns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(CloneFlags);

impl Namespaces {
    /// What every subcontainer has of its own; network and UTS stay the caller's.
    pub const SUBCONTAINER: Self = Self(
        CloneFlags::CLONE_NEWPID
            .union(CloneFlags::CLONE_NEWNS)
            .union(CloneFlags::CLONE_NEWIPC)
            .union(CloneFlags::CLONE_NEWCGROUP),
    );

    const NAMES: [(&'static str, CloneFlags); 8] = [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("mount", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("network", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("time", TIME),
    ];

    /// The same and a user namespace.
    #[must_use]
    pub const fn with_user(self) -> Self {
        Self(self.0.union(CloneFlags::CLONE_NEWUSER))
    }

    /// Whether a user namespace is among them.
    #[must_use]
    pub const fn has_user(self) -> bool {
        self.0.contains(CloneFlags::CLONE_NEWUSER)
    }

    /// Whether a mount namespace is among them.
    #[must_use]
    pub const fn has_mount(self) -> bool {
        self.0.contains(CloneFlags::CLONE_NEWNS)
    }

    /// Whether a PID namespace is among them.
    #[must_use]
    pub const fn has_pid(self) -> bool {
        self.0.contains(CloneFlags::CLONE_NEWPID)
    }

    /// Whether a time namespace is among them.
    #[must_use]
    pub const fn has_time(self) -> bool {
        self.0.contains(TIME)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0.union(other.0))
    }

    /// The flags of `clone3` and `setns`; a time namespace is made and joined in a way of its own, see [`crate::sys::time`].
    #[must_use]
    pub const fn flags(self) -> CloneFlags {
        self.0
    }

    /// Their names, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(_, flag)| self.0.contains(*flag))
            .map(|(name, _)| name)
    }

    /// The set with these names; none if a name is unknown.
    #[must_use]
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let flag = |wanted: &str| {
            Self::NAMES
                .into_iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, flag)| flag)
        };
        let flags: Option<Vec<CloneFlags>> = names.into_iter().map(flag).collect();
        Some(Self(flags?.into_iter().collect()))
    }
}

impl Serialize for Namespaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}
