//! The cgroups of one container, opened: made, limited, entered.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, Uid};
use shim::{Error, Result, RootDir};

use super::dir::{Dir, names};
use super::hierarchies::Version;
use super::place::{Place, Places};
use super::settings::{Setting, Settings};

/// The files of a cgroup that who it is given to has to write to.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

/// One of them.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) dir: Dir,
}

impl Member {
    fn enter(&self, pid: Pid) -> Result<(), Errno> {
        self.dir.write("cgroup.procs", &pid.to_string())
    }

    /// Where another process is, as long as that is inside.
    fn enter_beside(&self, pid: Pid, other: i32) -> Result<(), Errno> {
        let own = cgroup_of(other)?;
        let inside = own
            .strip_prefix(&self.place.path)
            .map_err(|_| Errno::EBUSY)?;
        self.dir
            .open(inside)?
            .write("cgroup.procs", &pid.to_string())
    }

    pub(super) fn failed(&self, op: &'static str, file: &str, errno: Errno) -> Error {
        Error::sys(op, self.place.full().join(file).display(), errno)
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) members: Vec<Member>,
}

impl Group {
    /// Makes what is missing. What there is already must be empty, and must not be frozen.
    ///
    /// # Errors
    /// Those of the kernel, and what is wrong with one that is there. What has been made by then is still there.
    pub(crate) fn make(places: &Places, settings: &Settings) -> Result<Self> {
        let wanted = settings.controllers();
        let members = places.list.iter().map(|place| {
            make(place, &wanted).map_err(|errno| {
                Error::sys("make cgroup", place.full().display(), errno).hint(hint(errno))
            })
        });
        let group = Self {
            members: members.collect::<Result<_, _>>()?,
        };
        group.check().map(|()| group)
    }

    fn check(&self) -> Result<()> {
        let refused = |member: &Member, why: &'static str| {
            let full = member.place.full();
            Error::new("use cgroup")
                .on(full.display())
                .because(why)
                .hint("linux.cgroupsPath must name one that belongs to this container alone")
        };
        for member in &self.members {
            let inside = member.dir.read("cgroup.procs").unwrap_or_default();
            if !inside.is_empty() {
                return Err(refused(member, "there are processes in it"));
            }
            if member.is_frozen() == Some(true) {
                return Err(refused(member, "it is frozen, or one above it is"));
            }
        }
        Ok(())
    }

    /// Opens what there is of them.
    pub(crate) fn open(places: &Places) -> Self {
        let open = |place: &Place| {
            let dir = mounted(place)
                .and_then(|mount| mount.open(&place.path))
                .ok()?;
            let place = place.clone();
            Some(Member { place, dir })
        };
        Self {
            members: places.list.iter().filter_map(open).collect(),
        }
    }

    /// Opens those that systemd has made, and has the cgroups above them hand down what is wanted. systemd does that for
    /// the controllers that it knows, and leaves the others (hugetlb, rdma) as they are.
    pub(crate) fn of_systemd(places: &Places, settings: &Settings) -> Self {
        let wanted = settings.controllers();
        for place in &places.list {
            // What is not possible is noticed when a limit is set.
            let _ = hand_down_to(place, &wanted);
        }
        Self::open(places)
    }

    /// Whether there is none at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// That of version 2.
    pub(super) fn second(&self) -> Option<&Member> {
        let mut members = self.members.iter();
        members.find(|member| member.place.version == Version::Two)
    }

    /// That which a controller is in.
    pub(super) fn of(&self, controller: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.place.has(controller))
    }

    /// Where a process can be born into (CLONE_INTO_CGROUP).
    pub(crate) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        self.second().map(|member| member.dir.as_fd())
    }

    /// Moves a process into them; `born` if it was born in that of version 2.
    ///
    /// # Errors
    /// Those of the kernel: EBUSY, ENOSPC, EOPNOTSUPP.
    pub(crate) fn join(&self, pid: Pid, born: bool) -> Result<()> {
        let members = self.members.iter();
        let mut members = members.filter(|one| !(born && one.place.version == Version::Two));
        members.try_for_each(|member| {
            member
                .enter(pid)
                .map_err(|errno| member.failed("enter cgroup", "cgroup.procs", errno))
        })
    }

    /// The same for a process that comes later. One of version 2 that has handed controllers down inside takes no more
    /// processes: then it goes to where `leader` is. So it does where that has left its own, and this is gone.
    ///
    /// # Errors
    /// As [`Group::join`].
    pub(crate) fn join_later(&self, places: &Places, pid: Pid, leader: i32) -> Result<()> {
        if let Some(place) = places.second()
            && self.second().is_none()
        {
            let own = cgroup_of(leader).and_then(|own| mounted(place)?.open(&own));
            let joined = own.and_then(|own| own.write("cgroup.procs", &pid.to_string()));
            joined.map_err(|errno| Error::sys("enter the cgroup of process", leader, errno))?;
        }
        for member in &self.members {
            let joined = match member.enter(pid) {
                Err(Errno::EBUSY | Errno::EOPNOTSUPP) if member.place.version == Version::Two => {
                    member.enter_beside(pid, leader)
                }
                other => other,
            };
            joined.map_err(|errno| member.failed("enter cgroup", "cgroup.procs", errno))?;
        }
        Ok(())
    }

    /// The cgroup of this path below each; without one, the cgroups themselves.
    ///
    /// # Errors
    /// The path leads out of them; there is none of this name.
    pub(crate) fn below(self, path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(self) };
        let failed = || {
            Error::new("enter cgroup")
                .on(path.display())
                .hint("give a path below the container's own cgroup, which must be there")
        };
        let way = names(path).ok_or_else(|| failed().because("it has \"..\" in it"))?;
        let way: PathBuf = way.into_iter().collect();
        let inside = |member: Member| {
            let dir = member
                .dir
                .open(&way)
                .map_err(|errno| failed().errno(errno))?;
            let mut place = member.place;
            place.path.push(&way);
            Ok(Member { place, dir })
        };
        let members = self.members.into_iter().map(inside);
        Ok(Self {
            members: members.collect::<Result<_>>()?,
        })
    }

    /// Gives that of version 2 to a user, with the files that the kernel says are part of it (cgroups(7), Cgroup delegation).
    /// Who may give nothing away keeps it.
    ///
    /// # Errors
    /// Those of fchownat(2).
    pub(crate) fn give(&self, user: Uid) -> Result<()> {
        let Some(member) = self.second() else {
            return Ok(());
        };
        let files = std::fs::read_to_string(DELEGATE).unwrap_or_default();
        for name in std::iter::once(".").chain(files.lines()) {
            match member.dir.give(name, user) {
                // The kernel's list is of all controllers, whether they are in this cgroup or not.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EPERM) => return Ok(()),
                Err(errno) => return Err(member.failed("give away cgroup", name, errno)),
            }
        }
        Ok(())
    }

    /// Makes limits hold. The kernel checks some against others (memory against memory and swap, a quota against its
    /// period), and which has to come first depends on what holds now: what is refused is tried again after the rest.
    ///
    /// # Errors
    /// Names the field that the kernel refuses or does not have.
    pub(crate) fn apply(&self, settings: &Settings) -> Result<()> {
        let mut again = Vec::new();
        for setting in &settings.list {
            match self.write(setting) {
                Err(Errno::EINVAL | Errno::EBUSY) => again.push(setting),
                other => other.map_err(|errno| self.refused(setting, errno))?,
            }
        }
        for setting in again {
            let written = self.write(setting);
            written.map_err(|errno| self.refused(setting, errno))?;
        }
        match &settings.devices {
            Some(rules) => rules.apply(self),
            None => Ok(()),
        }
    }

    /// The one that a limit is set in.
    pub(super) fn member_of(&self, setting: &Setting) -> Option<&Member> {
        match setting.controller {
            Some(controller) => self.of(controller),
            None => self.second(),
        }
    }

    fn write(&self, setting: &Setting) -> Result<(), Errno> {
        let member = self.member_of(setting).ok_or(Errno::ENODEV)?;
        if let Some(least) = setting.at_least
            && member.dir.number(least.0) > Some(least.1)
        {
            return Err(Errno::EBUSY);
        }
        let written = member.dir.write(&setting.line.file, &setting.line.value);
        match (written, &setting.otherwise) {
            (Err(Errno::ENOENT), Some(line)) => member.dir.write(&line.file, &line.value),
            (written, _) => written,
        }
    }

    fn refused(&self, setting: &Setting, errno: Errno) -> Error {
        let line = format!("{}: {}", setting.line.file, setting.line.value);
        let error = Error::sys("limit", &setting.field, errno).flags(line);
        match errno {
            Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP => {
                error.hint("this kernel, or the cgroup above, does not have it; leave it out")
            }
            Errno::EBUSY => error.hint("more than that is in use"),
            Errno::EINVAL | Errno::ERANGE => {
                error.hint("the kernel does not take this value, perhaps because of what holds above or beside it")
            }
            _ => error,
        }
    }
}

/// The cgroup of version 2 that a process is in, as far as it is below the caller's root.
fn cgroup_of(pid: i32) -> Result<PathBuf, Errno> {
    let process = procfs::process::Process::new(pid).map_err(|_| Errno::ESRCH)?;
    let memberships = process.cgroups().map_err(|_| Errno::ESRCH)?;
    let mut memberships = memberships.0.into_iter();
    let own = memberships.find(|one| one.hierarchy == 0);
    let own = own.ok_or(Errno::EBUSY)?.pathname;
    let way = names(Path::new(&own)).ok_or(Errno::EBUSY)?;
    Ok(way.into_iter().collect())
}

/// The root of a hierarchy, if that is what is mounted there.
pub(super) fn mounted(place: &Place) -> Result<Dir, Errno> {
    let root = RootDir::open(&place.mount)?;
    let kind = fstatfs(&root)?.filesystem_type();
    let expected = match place.version {
        Version::One => CGROUP_SUPER_MAGIC,
        Version::Two => CGROUP2_SUPER_MAGIC,
    };
    if kind == expected {
        Ok(Dir::from(root))
    } else {
        Err(Errno::ENOENT)
    }
}

/// Somebody may just have removed one above it, being the last in there; that goes on for ever for nobody.
const TRIES: usize = 100;

fn make(place: &Place, wanted: &BTreeSet<&str>) -> Result<Member, Errno> {
    for _ in 0..TRIES {
        match try_make(place, wanted) {
            Err(Errno::ENOENT | Errno::ENODEV) => {}
            other => return other,
        }
    }
    Err(Errno::ENOENT)
}

fn try_make(place: &Place, wanted: &BTreeSet<&str>) -> Result<Member, Errno> {
    let way = names(&place.path).ok_or(Errno::EINVAL)?;
    let mut dir = mounted(place)?;
    for (index, name) in way.iter().enumerate() {
        if place.version == Version::Two {
            hand_down(&dir, wanted);
        }
        let made = dir.make(name)?;
        if !made && index + 1 == way.len() && !place.was_there() {
            // Somebody else was quicker.
            return Err(Errno::EEXIST);
        }
        let inside = dir.open(Path::new(name))?;
        if place.has("cpuset") && place.version == Version::One {
            inherit(&dir, &inside)?;
        }
        dir = inside;
    }
    let place = place.clone();
    Ok(Member { place, dir })
}

/// Has all cgroups above one hand down the controllers that it lacks.
fn hand_down_to(place: &Place, wanted: &BTreeSet<&str>) -> Result<(), Errno> {
    let mut dir = mounted(place)?;
    let there = dir.open(&place.path)?.read("cgroup.controllers")?;
    let lacking = |name: &&&str| !there.split_whitespace().any(|one| one == **name);
    let wanted = wanted.iter().filter(lacking).copied().collect();
    for name in names(&place.path).ok_or(Errno::EINVAL)? {
        hand_down(&dir, &wanted);
        dir = dir.open(Path::new(name))?;
    }
    Ok(())
}

/// Lets the cgroups in a directory have controllers. What is not possible is noticed when a limit is set.
fn hand_down(dir: &Dir, wanted: &BTreeSet<&str>) {
    let offered = dir.read("cgroup.controllers").unwrap_or_default();
    let had = dir.read("cgroup.subtree_control").unwrap_or_default();
    for name in offered.split_whitespace() {
        if wanted.contains(name) && !had.split_whitespace().any(|one| one == name) {
            let _ = dir.write("cgroup.subtree_control", &format!("+{name}"));
        }
    }
}

/// A new cpuset of version 1 is empty, and nothing can enter it until it has processors and memory.
fn inherit(above: &Dir, dir: &Dir) -> Result<(), Errno> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if dir.read(name)?.trim().is_empty() {
            dir.write(name, above.read(name)?.trim())?;
        }
    }
    Ok(())
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EEXIST => "somebody else has just made it; try again",
        Errno::EROFS | Errno::EACCES | Errno::EPERM => {
            "the cgroups must be the caller's to change; --cgroup-manager=disabled does without"
        }
        Errno::ENOSPC | Errno::EAGAIN => {
            "cgroup.max.descendants or cgroup.max.depth above it is reached"
        }
        Errno::EBUSY | Errno::EOPNOTSUPP => "one above it has processes, or is threaded",
        _ => "see linux.cgroupsPath",
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.members.iter().map(|member| member.place.full());
        let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
        f.write_str(&paths.join(", "))
    }
}
