//! `linux.cgroupsPath` and `linux.resources`: which cgroups a container gets, and what holds in them.

use shim::Result;

use super::config::{Config, unsupported, wrong};
use super::id::ContainerId;
use super::words::CgroupDriver;
use crate::cgroup::{Group, Hierarchies, Places, Settings};

/// What has been decided.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    pub(super) places: Places,
    settings: Settings,
    /// Whether config.json says something of them.
    asked: bool,
    /// What is not going to be limited, because the caller wants no cgroups.
    pub(super) unlimited: Vec<&'static str>,
}

impl Cgroups {
    /// Decides. Changes nothing.
    ///
    /// # Errors
    /// Names what the host cannot do, or this version.
    pub(super) fn decide(config: &Config, driver: CgroupDriver, id: &ContainerId) -> Result<Self> {
        let asked = config.asks_for_cgroups();
        match driver {
            CgroupDriver::Cgroupfs => {}
            CgroupDriver::Systemd => return Err(unsupported("--systemd-cgroup")),
            CgroupDriver::Disabled => {
                return Ok(Self {
                    unlimited: asked,
                    ..Self::default()
                });
            }
        }
        let hierarchies = Hierarchies::find()?;
        let linux = config.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
        let path = path.filter(|path| !path.as_os_str().is_empty());
        const PATH: &str = "linux.cgroupsPath";
        let places =
            Places::decide(&hierarchies, path, id.as_str()).map_err(|why| wrong(PATH, why))?;
        if path.is_some() && places.is_empty() {
            return Err(wrong(PATH, "no cgroups are mounted below /sys/fs/cgroup")
                .hint("--cgroup-manager=disabled says that there shall be none"));
        }
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let settings = resources.map(|resources| Settings::decide(resources, &places, None));
        Ok(Self {
            settings: settings.transpose()?.unwrap_or_default(),
            asked: !asked.is_empty(),
            places,
            unlimited: Vec::new(),
        })
    }

    /// Makes them; none where nobody asked for any, and they are not ours to make.
    ///
    /// # Errors
    /// Those of the kernel. What has been made by then is still there.
    pub(super) fn make(&self) -> Result<Option<Group>> {
        if self.places.is_empty() {
            return Ok(None);
        }
        match Group::make(&self.places, &self.settings) {
            Err(failure) if failure.forbidden && !self.asked => {
                self.places.remove()?;
                Ok(None)
            }
            made => {
                let group = made?;
                group.apply(&self.settings)?;
                Ok(Some(group))
            }
        }
    }
}
