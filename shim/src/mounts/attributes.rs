//! Attributes of mounts (mount_setattr(2)), as values.

use serde::{Serialize, Serializer};

use crate::sys::mount::attr;

/// A set of mount attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing can be changed.
    pub const READONLY: Self = Self(attr::RDONLY);
    /// Set-user-ID bits and file capabilities are ignored.
    pub const NOSUID: Self = Self(attr::NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(attr::NODEV);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(attr::NOEXEC);

    /// Access times of files are not kept.
    pub const NOATIME: Self = Self(attr::NOATIME);
    /// Access times are kept exactly.
    pub const STRICTATIME: Self = Self(attr::STRICTATIME);
    /// Access times of directories are not kept.
    pub const NODIRATIME: Self = Self(attr::NODIRATIME);
    /// Symlinks are not followed (Linux 5.14).
    pub const NOSYMFOLLOW: Self = Self(attr::NOSYMFOLLOW);
    /// All values of how access times are kept; none of them is relatime.
    pub const ATIME: Self = Self(attr::ATIME);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::READONLY, "ro"),
        (Self::NOSUID, "nosuid"),
        (Self::NODEV, "nodev"),
        (Self::NOEXEC, "noexec"),
        (Self::NOATIME, "noatime"),
        (Self::STRICTATIME, "strictatime"),
        (Self::NODIRATIME, "nodiratime"),
        (Self::NOSYMFOLLOW, "nosymfollow"),
    ];

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing can be written.
    #[must_use]
    pub const fn is_readonly(self) -> bool {
        self.0 & attr::RDONLY != 0
    }

    /// The bits of `mount_setattr(2)`.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of those that are in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(one, _)| self.0 & one.0 != 0)
            .map(|(_, name)| name)
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// A change of attributes of a mount and of all that is mounted below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recursive {
    /// These are set.
    pub set: Attributes,
    /// These are cleared before.
    pub clear: Attributes,
}

impl Recursive {
    /// Whether nothing changes.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty()
    }

    /// In words, as `rro` and `-rro`.
    pub(super) fn words(self) -> impl Iterator<Item = String> {
        let cleared = self.clear.names().map(|name| format!("-r{name}"));
        cleared.chain(self.set.names().map(|name| format!("r{name}")))
    }
}
