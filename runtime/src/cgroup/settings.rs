//! `linux.resources` becomes a list of lines for files of the kernel's. Decided before anything is changed: what no
//! hierarchy of this host can do is an error that names the field. Zero, and an empty text, are engines' way to say
//! nothing.

use std::collections::BTreeSet;

use oci_spec::runtime::LinuxResources;
use shim::{Error, Result};

use super::devices::Rules;
use super::group::Group;
use super::hierarchies::Version;
use super::place::Places;
use super::{v1, v2};

/// What a container's accounting is read from, so it gets these where they are to be had.
const ACCOUNTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// What is written to which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) file: String,
    pub(super) value: String,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its controller; none says that version 2 is meant, whatever it is.
    pub(super) controller: Option<&'static str>,
    pub(super) line: Line,
    /// Written where the file of the first does not exist.
    pub(super) otherwise: Option<Line>,
    /// A file whose number the value must not be below.
    pub(super) at_least: Option<(&'static str, u64)>,
    /// Its name in config.json.
    pub(super) field: String,
}

/// All limits of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(super) list: Vec<Setting>,
    pub(super) devices: Option<Rules>,
}

impl Settings {
    /// Decides. `group` is what holds now, where there is something.
    ///
    /// # Errors
    /// Names the field that cannot be applied on this host.
    pub(crate) fn decide(
        resources: &LinuxResources,
        places: &Places,
        group: Option<&Group>,
    ) -> Result<Self> {
        let mut draft = Draft {
            places,
            group,
            list: Vec::new(),
        };
        draft.memory(resources)?;
        draft.cpu(resources)?;
        draft.cpuset(resources)?;
        draft.block_io(resources)?;
        draft.simple(resources)?;
        draft.unified(resources)?;
        let rules = resources.devices().as_deref().unwrap_or_default();
        let devices = (!rules.is_empty())
            .then(|| Rules::read(rules, places))
            .transpose()?;
        Ok(Self {
            list: draft.list,
            devices,
        })
    }

    /// The controllers of version 2 that the cgroup needs.
    pub(super) fn controllers(&self) -> BTreeSet<&str> {
        let asked = self.list.iter().map(|setting| match setting.controller {
            Some(name) => name,
            None => setting.line.file.split('.').next().unwrap_or_default(),
        });
        asked.chain(ACCOUNTED).collect()
    }
}

/// A field that this host has nothing for.
pub(super) fn lacking(field: &str, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new("limit")
        .on(format!("linux.resources.{field}"))
        .because(why)
        .hint("leave it out, or give the host the controller; see /proc/cgroups and /sys/fs/cgroup")
}

/// Settings that are being decided.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    places: &'a Places,
    group: Option<&'a Group>,
    list: Vec<Setting>,
}

impl Draft<'_> {
    /// Which language a controller is spoken to in.
    pub(super) fn version(&self, controller: &str, field: &str) -> Result<Version> {
        let place = self.places.of(controller);
        place.map(|place| place.version).ok_or_else(|| {
            lacking(
                field,
                format!("no hierarchy of this host has the controller {controller}"),
            )
        })
    }

    /// The same, for what version 2 has no word for.
    pub(super) fn only_first(&self, controller: &str, field: &str) -> Result<()> {
        match self.version(controller, field)? {
            Version::One => Ok(()),
            Version::Two => Err(lacking(field, "cgroups of version 2 have nothing like it")),
        }
    }

    pub(super) fn set(
        &mut self,
        controller: &'static str,
        field: &str,
        file: impl Into<String>,
        value: impl ToString,
    ) {
        self.list.push(Setting {
            controller: Some(controller),
            line: Line {
                file: file.into(),
                value: value.to_string(),
            },
            otherwise: None,
            at_least: None,
            field: format!("linux.resources.{field}"),
        });
    }

    /// As [`Draft::set`], with another line where the kernel has no such file.
    pub(super) fn set_either(
        &mut self,
        controller: &'static str,
        field: &str,
        (file, value): (&str, String),
        (other, otherwise): (&str, String),
    ) {
        self.set(controller, field, file, value);
        if let Some(setting) = self.list.last_mut() {
            setting.otherwise = Some(Line {
                file: other.to_owned(),
                value: otherwise,
            });
        }
    }

    /// The last one is refused where the number in `file` is above `value`.
    pub(super) fn not_below(&mut self, file: &'static str, value: u64) {
        if let Some(setting) = self.list.last_mut() {
            setting.at_least = Some((file, value));
        }
    }

    /// What a file says now.
    pub(super) fn current(&self, controller: &str, file: &str) -> Option<String> {
        let member = self.group?.of(controller)?;
        let text = member.dir.read(file).ok()?;
        Some(text.trim().to_owned())
    }

    fn memory(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory() else {
            return Ok(());
        };
        let asked = [memory.limit(), memory.reservation(), memory.swap()];
        let asked = asked.into_iter().flatten().any(|value| value != 0)
            || memory.swappiness().is_some()
            || memory.disable_oom_killer() == Some(true)
            || memory.kernel_tcp().is_some_and(|value| value != 0);
        if !asked {
            return Ok(());
        }
        match self.version("memory", "memory")? {
            Version::One => v1::memory(self, memory),
            Version::Two => v2::memory(self, memory)?,
        }
        Ok(())
    }

    fn cpu(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(cpu) = resources.cpu() else {
            return Ok(());
        };
        let sizes = [
            cpu.shares(),
            cpu.period(),
            cpu.burst(),
            cpu.realtime_period(),
        ];
        let asked = sizes.into_iter().flatten().any(|value| value != 0)
            || cpu.quota().is_some_and(|value| value != 0)
            || cpu.realtime_runtime().is_some_and(|value| value != 0)
            || cpu.idle().is_some();
        if !asked {
            return Ok(());
        }
        match self.version("cpu", "cpu")? {
            Version::One => v1::cpu(self, cpu),
            Version::Two => v2::cpu(self, cpu)?,
        }
        Ok(())
    }

    fn cpuset(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(cpu) = resources.cpu() else {
            return Ok(());
        };
        for (field, file, list) in [
            ("cpu.cpus", "cpuset.cpus", cpu.cpus()),
            ("cpu.mems", "cpuset.mems", cpu.mems()),
        ] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                self.version("cpuset", field)?;
                self.set("cpuset", field, file, list);
            }
        }
        Ok(())
    }

    fn block_io(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(block) = resources.block_io() else {
            return Ok(());
        };
        let said = |size: Option<usize>| size.is_some_and(|size| size > 0);
        let asked = block.weight().is_some_and(|weight| weight != 0)
            || block.leaf_weight().is_some_and(|weight| weight != 0)
            || said(block.weight_device().as_ref().map(Vec::len))
            || [
                block.throttle_read_bps_device(),
                block.throttle_write_bps_device(),
                block.throttle_read_iops_device(),
                block.throttle_write_iops_device(),
            ]
            .into_iter()
            .any(|list| said(list.as_ref().map(Vec::len)));
        if !asked {
            return Ok(());
        }
        if self.places.of("blkio").is_some() {
            v1::block_io(self, block);
            return Ok(());
        }
        self.version("io", "blockIO")?;
        v2::block_io(self, block)
    }

    /// What both versions have in nearly the same words.
    fn simple(&mut self, resources: &LinuxResources) -> Result<()> {
        if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit())
            && limit != 0
        {
            self.version("pids", "pids.limit")?;
            let value = if limit < 0 {
                "max".to_owned()
            } else {
                limit.to_string()
            };
            self.set("pids", "pids.limit", "pids.max", value);
        }
        for (index, page) in resources.hugepage_limits().iter().flatten().enumerate() {
            let field = format!("hugepageLimits[{index}]");
            let size = page.page_size();
            if !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(lacking(&field, "a page size is a number and a unit: 2MB"));
            }
            let name = match self.version("hugetlb", &field)? {
                Version::One => "limit_in_bytes",
                Version::Two => "max",
            };
            for file in [
                format!("hugetlb.{size}.{name}"),
                format!("hugetlb.{size}.rsvd.{name}"),
            ] {
                self.set("hugetlb", &field, file, page.limit());
            }
        }
        let mut cards: Vec<_> = resources.rdma().iter().flatten().collect();
        cards.sort_by_key(|(name, _)| name.as_str());
        for (name, card) in cards {
            let field = format!("rdma.{name}");
            self.version("rdma", &field)?;
            let mut value = name.clone();
            for (key, limit) in [
                ("hca_handle", card.hca_handles()),
                ("hca_object", card.hca_objects()),
            ] {
                if let Some(limit) = limit {
                    value.push_str(&format!(" {key}={limit}"));
                }
            }
            self.set("rdma", &field, "rdma.max", value);
        }
        let Some(network) = resources.network() else {
            return Ok(());
        };
        if let Some(class) = network.class_id().filter(|class| *class != 0) {
            self.version("net_cls", "network.classID")?;
            self.set("net_cls", "network.classID", "net_cls.classid", class);
        }
        for one in network.priorities().iter().flatten() {
            self.version("net_prio", "network.priorities")?;
            let value = format!("{} {}", one.name(), one.priority());
            self.set(
                "net_prio",
                "network.priorities",
                "net_prio.ifpriomap",
                value,
            );
        }
        Ok(())
    }

    /// Files of version 2 by their names.
    fn unified(&mut self, resources: &LinuxResources) -> Result<()> {
        let mut files: Vec<_> = resources.unified().iter().flatten().collect();
        files.sort();
        for (file, value) in files {
            let field = format!("unified.{file}");
            let Some(place) = self.places.second() else {
                return Err(lacking(&field, "this host has no cgroups of version 2"));
            };
            let (controller, rest) = file.split_once('.').unwrap_or_default();
            if rest.is_empty() || file.contains('/') {
                return Err(lacking(&field, "it is no name of a file of a cgroup"));
            }
            if controller != "cgroup" && !place.has(controller) {
                return Err(lacking(
                    &field,
                    format!(
                        "invalid configuration: version 2 has no controller {controller} on this host"
                    ),
                ));
            }
            // The kernel takes one line at a time: each is for one device.
            for line in value.trim_end_matches('\n').split('\n') {
                self.set("", &field, file.as_str(), line);
                if let Some(setting) = self.list.last_mut() {
                    setting.controller = None;
                }
            }
        }
        Ok(())
    }
}
