//! `linux.namespaces`, and the id maps of a user namespace: what a container has of its own, and what it shares with others.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use shim::idmap::{self, IdMap};
use shim::plan::{IdMaps, IdRange, Joined, Namespaces};
use shim::{Error, Result};

use super::config::wrong;
use super::rootless;

/// Where a container is.
#[derive(Debug)]
pub(super) struct Places {
    /// New ones.
    pub(super) own: Namespaces,
    /// Those of others; none of them is the caller's.
    pub(super) joined: Vec<Joined>,
    /// The maps of a new user namespace.
    pub(super) id_maps: Option<IdMaps>,
}

impl Places {
    /// Whether this namespace is not the caller's.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all().names().any(|one| one == name)
    }

    /// All that are not the caller's.
    pub(super) fn all(&self) -> Namespaces {
        let joined = self.joined.iter().map(|joined| joined.kind);
        joined.fold(self.own, Namespaces::with)
    }
}

/// Decides; looks at the files that are named. `entered` are the ids of the user namespace that the caller has entered.
///
/// # Errors
/// Names the field that is wrong or not supported.
pub(super) fn plan(linux: &Linux, entered: Option<&IdMaps>) -> Result<Places> {
    let (mut own, mut joined, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let field = format!("linux.namespaces[{index}]");
        let name = name(namespace.typ());
        if seen.contains(&name) {
            return Err(wrong(field, "there is another one of this type"));
        }
        seen.push(name);
        let path = namespace.path().as_ref();
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            own.push(name);
            continue;
        };
        let field = format!("{field}.path");
        if !path.is_absolute() {
            return Err(wrong(field, "is not absolute"));
        }
        let kind = Namespaces::from_names([name])
            .ok_or_else(|| wrong("linux.namespaces", "unknown type"))?;
        let one = Joined {
            kind,
            path: path.clone(),
        };
        one.open().map_err(|errno| {
            Error::sys("join namespace", path.display(), errno)
                .flags(field)
                .hint(format!(
                    "it must be a {name} namespace: /proc/PID/ns/…, or a bind of it"
                ))
        })?;
        if !is_callers(&one, name) {
            joined.push(one);
        }
    }
    let own =
        Namespaces::from_names(own).ok_or_else(|| wrong("linux.namespaces", "unknown type"))?;
    let own_ids = seen.contains(&"user") || entered.is_some();
    if own_ids && !own.has_mount() {
        return Err(wrong(
            "linux.namespaces",
            "with ids of its own a container has a mount namespace of its own",
        )
        .hint("nobody may mount in somebody else's: add { \"type\": \"mount\" }"));
    }
    if !seen.contains(&"user") {
        refuse_maps(linux)?;
    }
    let id_maps = own.has_user().then(|| id_maps(linux)).transpose()?;
    Ok(Places {
        id_maps: match (id_maps, entered) {
            (Some(maps), Some(entered)) => Some(rootless::translate(&maps, entered)?),
            (maps, _) => maps,
        },
        own,
        joined,
    })
}

/// `linux.timeOffsets` as the kernel reads them: the clock, seconds, and nanoseconds.
///
/// # Errors
/// There is no new time namespace; the clock has no offset, or is none.
pub(super) fn time_offsets(linux: &Linux, own: Namespaces) -> Result<CString> {
    const FIELD: &str = "linux.timeOffsets";
    let all = linux.time_offsets().iter().flatten();
    let offsets: BTreeMap<_, _> = all.collect();
    if !offsets.is_empty() && !own.has_time() {
        return Err(wrong(FIELD, "needs a new time namespace"));
    }
    let mut lines = String::new();
    for (clock, offset) in offsets {
        let field = || format!("{FIELD}.{clock}");
        if !matches!(clock.as_str(), "boottime" | "monotonic") {
            return Err(wrong(field(), "only boottime and monotonic can differ"));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return Err(wrong(field(), "nanosecs is a second or more"));
        }
        let seconds = offset.secs().unwrap_or(0);
        lines.push_str(&format!("{clock} {seconds} {nanoseconds}\n"));
    }
    CString::new(lines).map_err(|_| wrong(FIELD, "contains a NUL byte"))
}

fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Time => "time",
    }
}

/// A namespace is one by device and inode (namespaces(7)).
fn is_callers(joined: &Joined, name: &str) -> bool {
    let name = match name {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    };
    let identity =
        |path: &std::path::Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let own = identity(std::path::Path::new(&format!("/proc/self/ns/{name}")));
    matches!((own, identity(&joined.path)), (Ok(own), Ok(other)) if own == other)
}

/// The maps of a new user namespace, as they stand there.
///
/// # Errors
/// One is missing, or is none.
pub(super) fn id_maps(linux: &Linux) -> Result<IdMaps> {
    Ok(IdMaps {
        users: ranges("linux.uidMappings", linux.uid_mappings().as_ref())?,
        groups: ranges("linux.gidMappings", linux.gid_mappings().as_ref())?,
    })
}

/// Of a user namespace that is joined the maps are what they are: engines write some there because runc asks for them.
fn refuse_maps(linux: &Linux) -> Result<()> {
    for (field, list) in [
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    ] {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(wrong(field, "needs a user namespace"));
        }
    }
    Ok(())
}

fn ranges(field: &'static str, list: Option<&Vec<LinuxIdMapping>>) -> Result<Vec<IdRange>> {
    let ranges: Vec<IdRange> = list
        .into_iter()
        .flatten()
        .map(|line| IdRange::new(line.container_id(), line.host_id(), line.size()))
        .collect();
    if ranges.is_empty() {
        return Err(wrong(field, "is missing, for a new user namespace"));
    }
    let lines: Vec<IdMap> = ranges.iter().copied().map(IdMap::from).collect();
    idmap::check(&lines).map_err(|error| error.flags(field))?;
    Ok(ranges)
}
