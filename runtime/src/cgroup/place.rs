//! Where a container's cgroups are: decided from `linux.cgroupsPath`, and written down before they are made.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use shim::RootDir;

use super::dir::{Dir, names};
use super::hierarchies::{Hierarchies, Hierarchy, Version};
use super::systemd::Scope;

/// A cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) version: Version,
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    /// Relative to that.
    pub(super) path: PathBuf,
    pub(super) controllers: Vec<String>,
    /// How much of the path was there before, in components: that stays.
    found: usize,
}

impl Place {
    /// For messages.
    pub(super) fn full(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// Whether the cgroup itself was there before.
    pub(super) fn was_there(&self) -> bool {
        self.found == self.path.components().count()
    }

    /// What of the path was made for the container, the innermost first: the directory that it is in, and its name there.
    pub(super) fn made(&self) -> impl Iterator<Item = (&Path, &OsStr)> {
        let count = self.path.components().count() - self.found;
        let parts = self.path.ancestors().take(count);
        parts.filter_map(|path| Some((path.parent()?, path.file_name()?)))
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The cgroups of a container, one in each hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    pub(super) list: Vec<Place>,
    /// Whether they are the container's, with all that is in them: one that was there before may be somebody else's until
    /// it has been looked at.
    pub(super) taken: bool,
    /// The unit of systemd's that they are.
    #[serde(default)]
    pub(super) scope: Option<Scope>,
}

impl Places {
    /// Decides: an absolute path is below the mounts, a relative one below the caller's own cgroups, and without one it is
    /// `id` there.
    ///
    /// # Errors
    /// What is wrong with the path, in words.
    pub(crate) fn decide(
        hierarchies: &Hierarchies,
        given: Option<&Path>,
        id: &str,
    ) -> Result<Self, &'static str> {
        let given = given.unwrap_or(Path::new(id));
        let way = names(given).ok_or("it has \"..\" in it")?;
        if way.is_empty() {
            return Err("it is the root cgroup");
        }
        let below: PathBuf = way.into_iter().collect();
        let place = |one: &Hierarchy| {
            let path = if given.is_absolute() {
                below.clone()
            } else {
                start(one).join(&below)
            };
            Place {
                version: one.version,
                found: found(&one.mount, &path),
                mount: one.mount.clone(),
                path,
                controllers: one.controllers.clone(),
            }
        };
        Ok(Self {
            list: hierarchies.iter().map(place).collect(),
            taken: false,
            scope: None,
        })
    }

    /// Those of a unit that systemd is going to make, which has version 2 alone.
    ///
    /// # Errors
    /// What is wrong with the hierarchies, or with the unit, in words.
    pub(crate) fn of_scope(
        hierarchies: &Hierarchies,
        scope: Scope,
        path: PathBuf,
    ) -> Result<Self, &'static str> {
        let one = hierarchies.second().filter(|_| hierarchies.is_unified());
        let one = one.ok_or("units of systemd need cgroups of version 2 alone")?;
        let all = path.components().count();
        if found(&one.mount, &path) == all {
            return Err("there is a unit of this name");
        }
        let place = Place {
            version: one.version,
            // The slices above it are systemd's to make and to remove.
            found: all.saturating_sub(1),
            mount: one.mount.clone(),
            path,
            controllers: one.controllers.clone(),
        };
        Ok(Self {
            list: vec![place],
            taken: false,
            scope: Some(scope),
        })
    }

    /// The unit of systemd's that they are.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// From now on they are the container's.
    pub(crate) fn take(&mut self) {
        self.taken = true;
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether the caller may make them, as the directories above them show it.
    pub(crate) fn are_callers(&self) -> bool {
        self.list.iter().all(|place| {
            let all = place.path.components().count();
            let above = place.path.ancestors().nth(all - place.found);
            let above = place.mount.join(above.unwrap_or(Path::new("")));
            access(&above, AccessFlags::W_OK).is_ok()
        })
    }

    /// Their paths, as the host sees them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.list.iter().map(Place::full)
    }

    /// The path in the hierarchy that is mounted there.
    pub(crate) fn below(&self, mount: &Path) -> Option<PathBuf> {
        let place = self.list.iter().find(|place| place.mount == mount);
        place.map(Place::full)
    }

    /// The cgroup that a controller is in.
    pub(super) fn of(&self, controller: &str) -> Option<&Place> {
        self.list.iter().find(|place| place.has(controller))
    }

    /// That of version 2.
    pub(super) fn second(&self) -> Option<&Place> {
        self.list.iter().find(|place| place.version == Version::Two)
    }
}

/// How many components of a path there are.
fn found(mount: &Path, path: &Path) -> usize {
    let mount = RootDir::open(mount).map(Dir::from);
    let is_there = |path: &&Path| mount.as_ref().is_ok_and(|mount| mount.open(path).is_ok());
    let deepest = path.ancestors().find(is_there);
    deepest.map_or(0, |path| path.components().count())
}

/// What a relative path is relative to. With version 2 a cgroup that has processes, as the caller's has, cannot hand
/// controllers down: the one above it can.
fn start(hierarchy: &Hierarchy) -> &Path {
    match hierarchy.version {
        Version::One => &hierarchy.own,
        Version::Two => hierarchy.own.parent().unwrap_or(Path::new("")),
    }
}
