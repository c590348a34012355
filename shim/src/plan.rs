//! What shall happen, as a value: decided by `runtime`, printed by `--dry-run`, applied by [`crate::launch`] and
//! [`crate::exec`]. A plan owns every string and number that the steps need; making one changes nothing.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize, Serializer};

use crate::mounts::Mount;
use crate::stdio::StdioPlan;
use crate::step::Step;

/// One line of an id map, as in `/proc/PID/uid_map` (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the user namespace.
    pub inside: u32,
    /// First id in the caller's user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// Every id onto itself: the last one, (uid_t)-1, is no id.
    pub const IDENTITY: Self = Self {
        inside: 0,
        outside: 0,
        count: u32::MAX,
    };

    /// A line of `/proc/PID/uid_map` or `gid_map`; none for any other text.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let numbers: Vec<u32> = line
            .split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        match numbers.as_slice() {
            &[inside, outside, count] => Some(Self {
                inside,
                outside,
                count,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for IdRange {
    /// As a line of the kernel's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// The maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of user ids.
    pub users: Vec<IdRange>,
    /// Of group ids.
    pub groups: Vec<IdRange>,
}

impl IdMaps {
    /// What a user and a group of the container are outside of it; none where one of them is not mapped.
    #[must_use]
    pub fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let find = |map: &[IdRange], id: u32| {
            map.iter().find_map(|line| {
                let offset = id.checked_sub(line.inside)?;
                (offset < line.count).then(|| line.outside.checked_add(offset))?
            })
        };
        Some((find(&self.users, uid)?, find(&self.groups, gid)?))
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

    const NAMES: [(&'static str, CloneFlags); 7] = [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("mount", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("network", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
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

    /// The flags of `clone3` and `setns`.
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

/// The user's program: what to execute, as whom, where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its argument vector; the first is its name.
    #[serde(serialize_with = "lossy_list")]
    pub arguments: Vec<CString>,
    /// Paths to try, in order: the command joined with each entry of PATH, or the command alone if it has a slash.
    #[serde(serialize_with = "lossy_list")]
    pub candidates: Vec<CString>,
    /// The whole environment, `NAME=VALUE`. Not printed by `--dry-run` beyond the names: values may be secrets.
    #[serde(serialize_with = "names_only")]
    pub environment: Vec<CString>,
    /// Working directory, inside.
    #[serde(serialize_with = "lossy")]
    pub workdir: CString,
    /// User id, inside.
    pub uid: u32,
    /// Group id, inside.
    pub gid: u32,
    /// Supplementary groups: exactly these, whatever the caller has.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
}

/// What PID 1 of the container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Our init without a command.
    Idle,
    /// The command itself.
    Command(Process),
    /// Our init as the parent of the command.
    Init(Process),
}

impl Program {
    /// The command, if there is one.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        match self {
            Self::Idle => None,
            Self::Command(process) | Self::Init(process) => Some(process),
        }
    }
}

/// What processes in the container may do: PID 1 and every command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// The most that any of them may have; none leaves it as it is. Inheritable ones are cleared in any case.
    pub capabilities: Option<Capabilities>,
    /// Whether `execve` may never give more than the process has; otherwise that is as the caller has it.
    pub no_new_privileges: bool,
    /// Which system calls they may make.
    pub seccomp: Option<Seccomp>,
}

/// A set of capabilities: bit N is capability N of capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub u64);

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

/// A container to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Launch {
    /// The root filesystem: absolute, free of symlinks. For messages; it is opened before, and once.
    pub rootfs: PathBuf,
    /// Whether it must first be bound onto itself, being no mount point.
    pub bind_rootfs: bool,
    /// The container's own namespaces.
    pub namespaces: Namespaces,
    /// Maps of its user namespace, where it has one of its own.
    pub id_maps: Option<IdMaps>,
    /// The profile that the two below come from, for people.
    pub profile: String,
    /// What it may do.
    pub privileges: Privileges,
    /// What it may not see or change.
    pub views: Views,
    /// False where the caller's user namespace forbids setgroups(2): then all processes keep the caller's groups.
    pub set_groups: bool,
    /// What becomes its /etc/resolv.conf, if not the image's own.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<Vec<u8>>,
    /// What it gets mounted, parents before children.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What PID 1 is.
    pub program: Program,
    /// What becomes of the caller's streams.
    pub stdio: StdioPlan,
}

/// A command to be run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exec {
    /// The root filesystem, for messages.
    pub rootfs: PathBuf,
    /// Which of the leader's namespaces to join: those that are not the caller's anyway. Empty in a dry run without a
    /// leader.
    pub namespaces: Namespaces,
    /// What the container's processes may do.
    pub privileges: Privileges,
    /// The command.
    pub process: Process,
    /// As in [`Launch`].
    pub set_groups: bool,
    /// What becomes of the caller's streams.
    pub stdio: StdioPlan,
}

/// Either kind of plan, for what they have in common: steps, and the words for a step that failed.
#[derive(Debug, Clone, Copy)]
pub enum Plan<'p> {
    /// `subcontainer launch`.
    Launch(&'p Launch),
    /// `subcontainer exec`.
    Exec(&'p Exec),
}

impl<'p> Plan<'p> {
    /// Whether supplementary groups are set.
    #[must_use]
    pub fn set_groups(self) -> bool {
        match self {
            Self::Launch(plan) => plan.set_groups,
            Self::Exec(plan) => plan.set_groups,
        }
    }

    /// The root filesystem's path.
    #[must_use]
    pub fn rootfs(self) -> &'p std::path::Path {
        match self {
            Self::Launch(plan) => &plan.rootfs,
            Self::Exec(plan) => &plan.rootfs,
        }
    }

    /// The command, if there is one.
    #[must_use]
    pub fn process(self) -> Option<&'p Process> {
        match self {
            Self::Launch(plan) => plan.program.process(),
            Self::Exec(plan) => Some(&plan.process),
        }
    }

    /// What its processes may do.
    #[must_use]
    pub fn privileges(self) -> &'p Privileges {
        match self {
            Self::Launch(plan) => &plan.privileges,
            Self::Exec(plan) => &plan.privileges,
        }
    }

    /// The namespaces to create or to join.
    #[must_use]
    pub fn namespaces(self) -> Namespaces {
        match self {
            Self::Launch(plan) => plan.namespaces,
            Self::Exec(plan) => plan.namespaces,
        }
    }

    /// The namespaces that the process is born into, new with it.
    pub(crate) fn new_namespaces(self) -> CloneFlags {
        match self {
            Self::Launch(plan) => plan.namespaces.flags(),
            Self::Exec(_) => CloneFlags::empty(),
        }
    }

    /// What becomes of the streams.
    #[must_use]
    pub fn stdio(self) -> &'p StdioPlan {
        match self {
            Self::Launch(plan) => &plan.stdio,
            Self::Exec(plan) => &plan.stdio,
        }
    }

    /// All steps, in the order of their system calls.
    #[must_use]
    pub fn steps(self) -> Vec<Step> {
        match self {
            Self::Launch(plan) => Step::of_launch(plan),
            Self::Exec(plan) => Step::of_exec(plan),
        }
    }
}

fn length<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} bytes", bytes.len()))
}

fn text<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes
        .as_ref()
        .map(|bytes| String::from_utf8_lossy(bytes))
        .serialize(serializer)
}

fn lossy<S: Serializer>(text: &CString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string_lossy())
}

fn lossy_list<S: Serializer>(list: &[CString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|text| text.to_string_lossy()))
}

fn names_only<S: Serializer>(list: &[CString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|text| {
        let name = text
            .as_bytes()
            .split(|&byte| byte == b'=')
            .next()
            .unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_outside_is_found_in_the_line_that_has_it_inside() {
        let map = |text: &str| text.lines().filter_map(IdRange::from_line).collect();
        let maps = IdMaps {
            users: map("         0     100000       1000\n1000 300000 1\nno line\n1 2\n"),
            groups: map("0 500000 2000"),
        };
        assert_eq!(maps.users.len(), 2);
        assert_eq!(maps.outside(0, 0), Some((100_000, 500_000)));
        assert_eq!(maps.outside(999, 1999), Some((100_999, 501_999)));
        assert_eq!(maps.outside(1000, 7), Some((300_000, 500_007)));
        assert_eq!(maps.outside(1001, 7), None);
        assert_eq!(maps.outside(0, 2000), None);
    }
}
