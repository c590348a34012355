//! `linux.resources.devices`: which devices may be opened and made. Version 1 takes the rules one by one; with version 2
//! they become a program that the kernel asks.
//!
//! The list is one of what is allowed: what no rule is about is denied, and the nodes that every container has are
//! allowed at its end, as runc and crun have it.

use std::os::fd::AsFd as _;

use nix::errno::Errno;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use shim::sys::bpf;
use shim::{Error, Result};

use super::filter;
use super::group::Group;
use super::hierarchies::Version;
use super::place::Places;
use super::settings::lacking;

const FIELD: &str = "linux.resources.devices";

/// Which kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// What may be done with it: the bits of the kernel's `struct bpf_cgroup_dev_ctx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(pub(super) u32);

impl Access {
    pub(super) const MKNOD: u32 = 1;
    pub(super) const READ: u32 = 2;
    pub(super) const WRITE: u32 = 4;
    pub(super) const ALL: Self = Self(7);

    fn parse(text: &str) -> Option<Self> {
        let bit = |letter| match letter {
            'm' => Some(Self::MKNOD),
            'r' => Some(Self::READ),
            'w' => Some(Self::WRITE),
            _ => None,
        };
        if text.is_empty() {
            return Some(Self::ALL);
        }
        let bits = text
            .chars()
            .try_fold(0, |bits, letter| Some(bits | bit(letter)?));
        bits.map(Self)
    }

    fn letters(self) -> String {
        let all = [('r', Self::READ), ('w', Self::WRITE), ('m', Self::MKNOD)];
        let held = all.into_iter().filter(|(_, bit)| self.0 & bit != 0);
        held.map(|(letter, _)| letter).collect()
    }
}

/// One rule. The last that is about a device, and about what is to be done with it, counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    /// None stands for both, and likewise for any number.
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: Access,
}

impl Rule {
    const DENY_ALL: Self = Self {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        access: Access::ALL,
    };

    const fn allowed(major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        Self {
            allow: true,
            kind: Some(Kind::Char),
            major,
            minor,
            access,
        }
    }

    fn is_about_all(self) -> bool {
        let Self { allow, .. } = self;
        self == Self {
            allow,
            ..Self::DENY_ALL
        }
    }

    fn read(given: &LinuxDeviceCgroup, index: usize) -> Result<Self> {
        let wrong =
            |part: &str, why: &'static str| lacking(&format!("devices[{index}].{part}"), why);
        let kind = match given.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(Kind::Block),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Char),
            Some(LinuxDeviceType::P) => return Err(wrong("type", "a pipe is no device")),
        };
        // -1 is how engines write any.
        let number = |part: &str, value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value)
                .map(Some)
                .map_err(|_| wrong(part, "it is no number of a device")),
        };
        let access = given.access().as_deref().unwrap_or_default();
        Ok(Self {
            allow: given.allow(),
            kind,
            major: number("major", given.major())?,
            minor: number("minor", given.minor())?,
            access: Access::parse(access)
                .ok_or_else(|| wrong("access", "it is made of the letters r, w and m"))?,
        })
    }

    /// Its lines for devices.allow and devices.deny. There `a` is about everything, whatever follows.
    fn lines(self) -> Vec<String> {
        if self.is_about_all() {
            return vec!["a".to_owned()];
        }
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |one| one.to_string());
        let kinds = match self.kind {
            Some(Kind::Block) => &["b"][..],
            Some(Kind::Char) => &["c"],
            None => &["b", "c"],
        };
        let (major, minor) = (number(self.major), number(self.minor));
        let letters = self.access.letters();
        let line = |kind| format!("{kind} {major}:{minor} {letters}");
        kinds.iter().map(line).collect()
    }
}

/// The nodes that every container has (1:3 null, 5 zero, 7 full, 8 random, 9 urandom, 5:0 tty, 5:2 ptmx, 136 its
/// terminals); and a node can be made of any device, which is not to open it.
const USUAL: [Rule; 10] = [
    Rule::allowed(None, None, Access(Access::MKNOD)),
    Rule {
        kind: Some(Kind::Block),
        ..Rule::allowed(None, None, Access(Access::MKNOD))
    },
    Rule::allowed(Some(1), Some(3), Access::ALL),
    Rule::allowed(Some(1), Some(5), Access::ALL),
    Rule::allowed(Some(1), Some(7), Access::ALL),
    Rule::allowed(Some(1), Some(8), Access::ALL),
    Rule::allowed(Some(1), Some(9), Access::ALL),
    Rule::allowed(Some(5), Some(0), Access::ALL),
    Rule::allowed(Some(5), Some(2), Access::ALL),
    Rule::allowed(Some(136), None, Access::ALL),
];

/// All rules of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    list: Vec<Rule>,
    version: Version,
}

impl Rules {
    /// Reads them.
    ///
    /// # Errors
    /// One of them is wrong; the host has nothing that could apply them.
    pub(super) fn read(given: &[LinuxDeviceCgroup], places: &Places) -> Result<Self> {
        let version = match (places.of("devices"), places.second()) {
            (Some(_), _) => Version::One,
            (None, Some(_)) => Version::Two,
            (None, None) => {
                let why = "this host has neither the controller devices nor cgroups of version 2";
                return Err(lacking("devices", why));
            }
        };
        let mut list = vec![Rule::DENY_ALL];
        for (index, rule) in given.iter().enumerate() {
            list.push(Rule::read(rule, index)?);
        }
        if version == Version::One {
            sayable(&list)?;
        }
        list.extend(USUAL);
        // What comes before a rule about everything does not count.
        let from = list.iter().rposition(|rule| rule.is_about_all());
        list.drain(..from.unwrap_or_default());
        Ok(Self { list, version })
    }

    /// Makes them hold.
    ///
    /// # Errors
    /// Those of the kernel: EPERM where the cgroup above allows less.
    pub(super) fn apply(&self, group: &Group) -> Result<()> {
        let failed = |errno| {
            Error::sys("limit", FIELD, errno)
                .hint("the cgroup above must allow what is allowed here; version 2 takes CAP_BPF or CAP_SYS_ADMIN")
        };
        match self.version {
            Version::One => self.tell(group),
            Version::Two => {
                let member = group.second().ok_or(Errno::ENODEV).map_err(failed)?;
                let program = bpf::load(&filter::program(&self.list)).map_err(failed)?;
                bpf::attach(&program, member.dir.as_fd()).map_err(failed)
            }
        }
    }

    fn tell(&self, group: &Group) -> Result<()> {
        for rule in &self.list {
            let file = if rule.allow {
                "devices.allow"
            } else {
                "devices.deny"
            };
            for line in rule.lines() {
                let member = group.of("devices").ok_or(Errno::ENODEV);
                let told = member.and_then(|member| member.dir.write(file, &line));
                told.map_err(|errno| {
                    Error::sys("limit", FIELD, errno)
                        .flags(format!("{file}: {line}"))
                        .hint("the cgroup above must allow what is allowed here")
                })?;
            }
        }
        Ok(())
    }
}

/// Version 1 knows all or nothing, and exceptions to it. An exception can be taken back as a whole and not in part.
fn sayable(list: &[Rule]) -> Result<()> {
    let meet =
        |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    let from = list.iter().rposition(|rule| rule.is_about_all());
    let Some((first, rest)) = list
        .get(from.unwrap_or_default()..)
        .and_then(<[_]>::split_first)
    else {
        return Ok(());
    };
    for (at, rule) in rest.iter().enumerate() {
        let exceptions = rest.get(..at).unwrap_or_default().iter();
        let in_part = |exception: &&Rule| {
            let same_kind =
                exception.kind.is_none() || rule.kind.is_none() || exception.kind == rule.kind;
            let same = exception.major == rule.major && exception.minor == rule.minor;
            same_kind
                && exception.allow != first.allow
                && meet(exception.major, rule.major)
                && meet(exception.minor, rule.minor)
                && exception.access.0 & rule.access.0 != 0
                && !same
        };
        if rule.allow == first.allow && exceptions.filter(in_part).count() > 0 {
            let why = "cgroups of version 1 cannot take a part of another rule back";
            return Err(lacking("devices", why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_cannot_say_is_refused() {
        let null = Rule::allowed(Some(1), Some(3), Access::ALL);
        let any = Rule::allowed(None, None, Access::ALL);
        let not = |rule: Rule| Rule {
            allow: false,
            ..rule
        };
        assert!(sayable(&[Rule::DENY_ALL, null, not(null), any]).is_ok());
        assert!(sayable(&[Rule::DENY_ALL, any, not(null)]).is_err());
        let all = Rule {
            allow: true,
            ..Rule::DENY_ALL
        };
        assert!(sayable(&[all, not(null)]).is_ok());
        assert!(sayable(&[all, not(any), null]).is_err());
        assert!(sayable(&[all, not(any), Rule::DENY_ALL, null]).is_ok());
    }

    #[test]
    fn a_rule_is_told_in_the_words_of_version_1() {
        let rule = Rule {
            access: Access(Access::READ | Access::WRITE),
            minor: Some(7),
            ..Rule::DENY_ALL
        };
        assert_eq!(rule.lines(), ["b *:7 rw", "c *:7 rw"]);
        assert_eq!(Rule::DENY_ALL.lines(), ["a"]);
        assert_eq!(USUAL[1].lines(), ["b *:* m"]);
        assert_eq!(Access::parse("rx"), None);
        assert_eq!(Access::parse(""), Some(Access::ALL));
    }
}
