//! `linux.cgroupsPath` and `linux.resources`: which cgroups a container gets, and what holds in them.

use std::path::Path;

use nix::unistd::{Pid, Uid};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use shim::{Error, Result};

use super::config::{Config, wrong};
use super::globals::{CgroupDriver, Globals};
use super::id::ContainerId;
use super::rootless::Rootless;
use crate::cgroup::{Group, Hierarchies, Places, Property, Scope, Settings, asked_of_systemd};

/// What has been decided.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// None where there are to be none.
    pub(super) places: Places,
    settings: Settings,
    /// What systemd is told.
    properties: Vec<Property>,
    /// Whose that of version 2 becomes.
    owner: Option<Uid>,
    /// What is not going to hold.
    pub(super) warnings: Vec<String>,
}

const PATH: &str = "linux.cgroupsPath";

impl Cgroups {
    /// Decides. Changes nothing.
    ///
    /// # Errors
    /// Names what the host cannot do, or this version.
    pub(super) fn decide(config: &Config, globals: &Globals, id: &ContainerId) -> Result<Self> {
        let asked = config.asks_for_cgroups();
        match globals.cgroups {
            CgroupDriver::Cgroupfs | CgroupDriver::Systemd => {}
            CgroupDriver::Disabled => {
                let why = |field| format!("{field} is not applied: --cgroup-manager=disabled");
                return Ok(Self {
                    warnings: asked.into_iter().map(why).collect(),
                    ..Self::default()
                });
            }
        }
        let hierarchies = Hierarchies::find()?;
        let rootless = globals.rootless.holds()?;
        let linux = config.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let of_systemd = globals.cgroups == CgroupDriver::Systemd;
        let places = if of_systemd {
            let text = path.map(|path| path.to_str().unwrap_or(":"));
            let scope =
                Scope::decide(text, id.as_str(), rootless).map_err(|why| wrong(PATH, why))?;
            let path = scope.path()?;
            Places::of_scope(&hierarchies, scope, path).map_err(|why| wrong(PATH, why))?
        } else {
            Places::decide(&hierarchies, path, id.as_str()).map_err(|why| wrong(PATH, why))?
        };
        if path.is_some() && places.is_empty() {
            return Err(wrong(PATH, "no cgroups are mounted below /sys/fs/cgroup")
                .hint("--cgroup-manager=disabled says that there shall be none"));
        }
        let mut resources = linux.and_then(|linux| linux.resources().clone());
        let mut warnings = Vec::new();
        if rootless
            && let Some(resources) = &mut resources
            && resources
                .devices()
                .as_ref()
                .is_some_and(|list| !list.is_empty())
        {
            // Nor does it need them: in a user namespace no device can be made.
            resources.set_devices(None);
            warnings.push(
                "linux.resources.devices is not applied: only root of the machine can have such rules"
                    .to_owned(),
            );
        }
        let needed = match rootless {
            true => config.asks_for_limits(),
            false => !asked.is_empty(),
        };
        if !of_systemd && !places.are_callers() {
            const WHY: &str = "the cgroups are not the caller's to change";
            if needed {
                return Err(wrong(asked.join(", "), WHY)
                    .hint("--cgroup-manager=disabled does without, and warns of it"));
            }
            if globals.rootless != Rootless::No {
                warnings.extend(path.map(|_| format!("{PATH} is not applied: {WHY}")));
                return Ok(Self {
                    warnings,
                    ..Self::default()
                });
            }
        }
        let settings = resources.map(|resources| Settings::decide(&resources, &places, None));
        let settings = settings.transpose()?.unwrap_or_default();
        let mut properties = Vec::new();
        if of_systemd {
            properties = Property::of(&settings);
            let annotations = config.spec.annotations().iter().flatten();
            let asked = annotations.map(|(key, text)| (key.as_str(), text.as_str()));
            properties.extend(asked_of_systemd(asked)?);
        }
        Ok(Self {
            // Without root they are the caller's already, whose ids may have other names by now.
            owner: owner(&config.spec).filter(|_| hierarchies.is_unified() && !rootless),
            settings,
            properties,
            places,
            warnings,
        })
    }

    /// Makes them, if there are to be any.
    ///
    /// # Errors
    /// Those of the kernel. What has been made by then is still there.
    pub(super) fn make(&self) -> Result<Option<Group>> {
        if self.places.is_empty() || self.places.scope().is_some() {
            return Ok(None);
        }
        let group = Group::make(&self.places, &self.settings)?;
        self.limit(&group)?;
        Ok(Some(group))
    }

    /// Has systemd make the unit around the process that is to be in it, and waits for that. What is then the container's is
    /// said in `places`: nothing, where somebody else was quicker to make a unit of this name.
    ///
    /// # Errors
    /// systemd refuses, or does not answer in time; those of the kernel.
    pub(super) fn start(&self, pid: Pid, id: &ContainerId, places: &mut Places) -> Result<()> {
        let Some(scope) = self.places.scope() else {
            return Ok(());
        };
        if let Err(failure) = scope.start(pid, id.as_str(), &self.properties) {
            if failure.of_others {
                *places = Places::default();
            }
            return Err(failure.error);
        }
        places.take();
        let group = Group::of_systemd(&self.places, &self.settings);
        if group.is_empty() {
            let path = self.places.paths().next().unwrap_or_default();
            return Err(Error::new("find cgroup")
                .on(path.display())
                .because("systemd has made its unit somewhere else")
                .hint("the slice must be below that of the systemd which is asked"));
        }
        self.limit(&group)
    }

    fn limit(&self, group: &Group) -> Result<()> {
        group.apply(&self.settings)?;
        self.owner.map_or(Ok(()), |owner| group.give(owner))
    }
}

/// The user that the container's cgroup is given to, as the specification has it (config-linux.md, Cgroup ownership): the one
/// that its process runs as, where it has a cgroup namespace of its own and sees its cgroup such that it can be written to.
fn owner(spec: &Spec) -> Option<Uid> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let of = |kind| namespaces.iter().find(|one| one.typ() == kind);
    of(LinuxNamespaceType::Cgroup).filter(|one| one.path().is_none())?;
    let is_writable = |mount: &Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        mount.source().as_deref() == Some(Path::new("cgroup"))
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && options.iter().all(|option| option != "ro")
    };
    spec.mounts()
        .iter()
        .flatten()
        .find(|one| is_writable(one))?;
    let inside = spec.process().as_ref()?.user().uid();
    let outside = match of(LinuxNamespaceType::User) {
        None => inside,
        Some(_) => {
            let ranges = linux.uid_mappings().as_deref().unwrap_or_default();
            ranges.iter().find_map(|range| {
                let offset = inside.checked_sub(range.container_id())?;
                (offset < range.size()).then(|| range.host_id().checked_add(offset))?
            })?
        }
    };
    Some(Uid::from_raw(outside)).filter(|owner| *owner != Uid::effective())
}
