//! `linux.namespaces`, and the id maps of a user namespace: what a container has of its own, and what it shares with others.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use shim::idmap::{self, IdMap};
use shim::plan::{IdMaps, IdRange, Joined, Namespaces};
use shim::{Error, Result};

use super::config::{unsupported, wrong};
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
        let name =
            name(namespace.typ()).ok_or_else(|| unsupported(format!("{field}.type: time")))?;
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
        if name == "mount" {
            return Err(only_own(field));
        }
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
    if !seen.contains(&"mount") {
        return Err(only_own("linux.namespaces without mount"));
    }
    let own =
        Namespaces::from_names(own).ok_or_else(|| wrong("linux.namespaces", "unknown type"))?;
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

/// What a container mounts would stay in a namespace that goes on without it, and the change of its root would be one for
/// everybody in there.
fn only_own(field: impl std::fmt::Display) -> Error {
    wrong(field, "a container has a mount namespace of its own")
        .hint("docs/oci.md says what would be left in one that is not")
}

fn name(kind: LinuxNamespaceType) -> Option<&'static str> {
    Some(match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Time => return None,
    })
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
