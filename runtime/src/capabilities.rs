//! Capabilities by name and as the kernel's bit masks (capabilities(7)): lists as users write them, and the sets that
//! engines agree on. Pure; asks neither the kernel nor the process for anything.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};
use std::str::FromStr as _;

use caps::Capability;
use serde::{Serialize, Serializer};

use crate::suggest::{Wrong, nearest, shown};

/// The highest number that the kernel's two words can hold.
const HIGHEST: u8 = 63;

/// A set of capabilities: bit N is capability N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(u64);

impl Set {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// What Docker, podman, containerd and CRI-O leave a container's root by default; the kernel's order.
    pub const USUAL: Self = Self(
        1 << Capability::CAP_CHOWN as u64
            | 1 << Capability::CAP_DAC_OVERRIDE as u64
            | 1 << Capability::CAP_FOWNER as u64
            | 1 << Capability::CAP_FSETID as u64
            | 1 << Capability::CAP_KILL as u64
            | 1 << Capability::CAP_SETGID as u64
            | 1 << Capability::CAP_SETUID as u64
            | 1 << Capability::CAP_SETPCAP as u64
            | 1 << Capability::CAP_NET_BIND_SERVICE as u64
            | 1 << Capability::CAP_NET_RAW as u64
            | 1 << Capability::CAP_SYS_CHROOT as u64
            | 1 << Capability::CAP_MKNOD as u64
            | 1 << Capability::CAP_AUDIT_WRITE as u64
            | 1 << Capability::CAP_SETFCAP as u64,
    );

    /// To make device nodes: the kernel asks for it over the machine, so only who has the host's ids has a use for it.
    pub const MKNOD: Self = Self(1 << Capability::CAP_MKNOD as u64);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As the kernel has it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Every capability of a kernel whose last one has this number (`/proc/sys/kernel/cap_last_cap`).
    #[must_use]
    pub fn up_to(last: u8) -> Self {
        Self(u64::MAX >> (HIGHEST - last.min(HIGHEST)))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, in the kernel's order: `CAP_CHOWN`, or `41` for one that is newer than this program.
    pub fn names(self) -> impl Iterator<Item = String> {
        let known: Vec<Capability> = caps::all().into_iter().collect();
        (0..=HIGHEST)
            .filter(move |number| self.0 & 1 << number != 0)
            .map(
                move |number| match known.iter().find(|one| one.index() == number) {
                    Some(one) => one.to_string(),
                    None => number.to_string(),
                },
            )
    }
}

impl BitOr for Set {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Set {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Set {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// Capabilities as a user lists them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct List {
    /// `ALL` is among them: whatever the kernel has.
    pub all: bool,
    /// Those that were named.
    pub named: Set,
}

impl List {
    /// One name, with or without `CAP_`, in any case; or `ALL`.
    ///
    /// # Errors
    /// Names what is no capability, and the nearest one that is.
    pub fn parse_one(text: &str) -> Result<Self, Wrong> {
        let name = text.to_ascii_uppercase();
        if name == "ALL" {
            return Ok(Self {
                all: true,
                named: Set::EMPTY,
            });
        }
        let bare = name.strip_prefix("CAP_").unwrap_or(&name);
        match Capability::from_str(&format!("CAP_{bare}")) {
            Ok(found) => Ok(Self {
                all: false,
                named: Set(found.bitmask()),
            }),
            Err(_) => Err(unknown(text, bare)),
        }
    }

    /// Names with commas between them.
    ///
    /// # Errors
    /// As [`Self::parse_one`].
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        text.split(',').try_fold(
            Self::default(),
            |list, one| Ok(list | Self::parse_one(one)?),
        )
    }

    /// What it means on a kernel that has `all`.
    #[must_use]
    pub fn resolve(self, all: Set) -> Set {
        if self.all {
            all | self.named
        } else {
            self.named
        }
    }

    /// Whether nothing is listed.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl BitOr for List {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self {
            all: self.all || other.all,
            named: self.named | other.named,
        }
    }
}

/// What shall become of a set of capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    /// Exactly these, whatever was there.
    pub exact: Option<List>,
    /// These too.
    pub add: List,
    /// Without these.
    pub drop: List,
}

impl Request {
    /// Why it cannot be met whatever the set, if so.
    ///
    /// # Errors
    /// The reason, and what to do instead.
    pub fn check(&self) -> Result<(), Wrong> {
        const SIDE: &str = "add it or drop it, not both";
        let both = self.add.named & self.drop.named;
        if self.exact.is_some() && !(self.add.is_empty() && self.drop.is_empty()) {
            return Err(Wrong::new(
                "the exact set and changes to it exclude each other",
                "give the whole set, or only what is added and dropped",
            ));
        }
        if self.add.all && self.drop.all {
            return Err(Wrong::new("ALL is both added and dropped", SIDE));
        }
        if !both.is_empty() {
            return Err(Wrong::new(
                format!("{both} is both added and dropped"),
                SIDE,
            ));
        }
        Ok(())
    }

    /// The set that `before` becomes on a kernel that has `all`: ALL first, then the names, so that dropping ALL and
    /// adding one leaves that one, and adding ALL and dropping one leaves all others.
    #[must_use]
    pub fn apply(&self, before: Set, all: Set) -> Set {
        let start = match self.exact {
            Some(exact) => exact.resolve(all),
            None if self.drop.all => Set::EMPTY,
            None if self.add.all => all,
            None => before,
        };
        (start | self.add.named) - self.drop.named
    }

    /// What is asked for by name, to have.
    #[must_use]
    pub fn wanted(&self) -> Set {
        self.exact.unwrap_or_default().named | self.add.named
    }
}

fn unknown(text: &str, bare: &str) -> Wrong {
    let known: Vec<String> = caps::all()
        .into_iter()
        .map(|one| one.to_string().to_ascii_lowercase())
        .collect();
    let names = known.iter().filter_map(|name| name.strip_prefix("cap_"));
    let hint = match nearest(bare, names.chain(["all"])) {
        Some(name) => format!("did you mean {}?", name.to_ascii_uppercase()),
        None => "give names of capabilities(7) such as NET_ADMIN, or ALL".to_owned(),
    };
    if text.is_empty() {
        Wrong::new("a name is empty", hint)
    } else {
        Wrong::new(format!("{} is no capability", shown(text.as_ref())), hint)
    }
}

#[cfg(test)]
mod tests;
