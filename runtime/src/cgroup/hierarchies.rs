//! The hierarchies that the host has mounted, and the caller's own cgroup in each.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};
use serde::{Deserialize, Serialize};
use shim::sys::statx;
use shim::{Error, Result, RootDir};

use super::dir::Dir;

/// Where everybody mounts them.
const PLACE: &str = "/sys/fs/cgroup";

/// Which of the two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Version {
    One,
    Two,
}

/// A hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// `memory`, or `name=systemd`.
    pub(crate) controllers: Vec<String>,
    /// The caller's cgroup, relative to the mount.
    pub(crate) own: PathBuf,
}

impl Hierarchy {
    /// The name of its directory below [`PLACE`]; none where it is that itself.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.mount.strip_prefix(PLACE).ok()?.file_name()
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Looks for them; that there are none is no error.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(crate) fn find() -> Result<Self> {
        let failed = |error: procfs::ProcError| {
            Error::new("find the cgroups of")
                .on("the caller")
                .because(error.to_string())
                .hint("/proc must be mounted")
        };
        let own = Process::myself().map_err(failed)?;
        let memberships = own.cgroups().map_err(failed)?;
        let mut found = Vec::new();
        for mount in own.mountinfo().map_err(failed)? {
            let here = mount.mount_point == Path::new(PLACE)
                || mount.mount_point.parent() == Some(Path::new(PLACE));
            let version = match mount.fs_type.as_str() {
                "cgroup" => Version::One,
                "cgroup2" => Version::Two,
                _ => continue,
            };
            if !here || !is_uncovered(&mount) {
                continue;
            }
            let options = &mount.super_options;
            let membership = memberships.0.iter().find(|one| match version {
                Version::Two => one.hierarchy == 0,
                Version::One => {
                    let mut names = one.controllers.iter().filter(|name| !name.is_empty());
                    let first = names.next();
                    first.is_some_and(|name| has(options, name))
                        && names.all(|name| has(options, name))
                }
            });
            let Some(membership) = membership else {
                continue;
            };
            let controllers = match version {
                Version::One => membership.controllers.clone(),
                Version::Two => offered(&mount.mount_point),
            };
            let own = Path::new(&membership.pathname);
            found.push(Hierarchy {
                version,
                own: own
                    .strip_prefix(&mount.root)
                    .unwrap_or(Path::new(""))
                    .to_owned(),
                mount: mount.mount_point,
                controllers,
            });
        }
        Ok(Self(found))
    }

    /// Whether version 2 is all there is.
    pub(crate) fn is_unified(&self) -> bool {
        matches!(self.0.as_slice(), [only] if only.version == Version::Two)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// That of version 2, with or without controllers.
    pub(crate) fn second(&self) -> Option<&Hierarchy> {
        self.0.iter().find(|one| one.version == Version::Two)
    }

    /// The names of the directories of the hierarchies, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = (OsString, &Hierarchy)> {
        let named = |one: &Hierarchy| one.name().map(OsStr::to_owned);
        self.0
            .iter()
            .filter_map(move |one| Some((named(one)?, one)))
    }
}

/// Whether the mount is what its path leads to: another one may lie on top of it.
fn is_uncovered(mount: &MountInfo) -> bool {
    let opened = RootDir::open(&mount.mount_point).ok();
    let place = opened.and_then(|dir| statx::place(dir.as_fd()).ok());
    place.is_some_and(|place| u64::try_from(mount.mnt_id) == Ok(place.mount_id))
}

/// What version 2 has to offer at its root.
fn offered(mount: &Path) -> Vec<String> {
    let dir = RootDir::open(mount).map(Dir::from);
    let text = dir.and_then(|dir| dir.read("cgroup.controllers"));
    let text = text.unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether a hierarchy has this controller: `cpu`, or `name=systemd`.
fn has(options: &HashMap<String, Option<String>>, controller: &str) -> bool {
    match controller.split_once('=') {
        Some((key, name)) => options
            .get(key)
            .is_some_and(|value| value.as_deref() == Some(name)),
        None => options.contains_key(controller),
    }
}
