//! `linux.netDevices`: which of the caller's network interfaces a container gets, and that it gets all or none.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::Linux;
use shim::Result;
use shim::net_device::{self, Lent, Ways};
use shim::plan::{Launch, NetDevice};

use super::config::wrong;
use super::making::Making;
use super::namespaces::Places;
use super::record::Record;

/// IFNAMSIZ without the zero at the end.
const NAME_MAX: usize = 15;

/// Decides.
///
/// # Errors
/// Names the field that is wrong.
pub(super) fn plan(linux: &Linux, places: &Places) -> Result<Vec<NetDevice>> {
    let mut devices = Vec::new();
    for (name, given) in linux.net_devices().iter().flatten() {
        let field = format!("linux.netDevices.{name}");
        let inside = given.name().clone().filter(|inside| !inside.is_empty());
        let inside = inside.unwrap_or_else(|| name.clone());
        if !places.has("network") {
            return Err(wrong(
                field,
                "needs a network namespace that is not the host's",
            ));
        }
        if !is_name(name) || name.contains('%') {
            return Err(wrong(field, "is no name of a network device"));
        }
        if !is_name(&inside) || inside.replacen("%d", "", 1).contains('%') {
            return Err(wrong(
                format!("{field}.name"),
                format!("{inside:?} is no name of a network device"),
            ));
        }
        devices.push(NetDevice {
            name: name.clone(),
            inside,
        });
    }
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    let mut names: Vec<_> = devices.iter().map(|one| &one.inside).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some([name, _]) if !name.contains('%') => Err(wrong(
            "linux.netDevices",
            format!("two would be {name:?} in the container"),
        )),
        _ => Ok(devices),
    }
}

/// As the kernel has it (`dev_valid_name`).
fn is_name(name: &str) -> bool {
    let special = |letter: char| matches!(letter, '/' | ':') || letter.is_ascii_whitespace();
    (1..=NAME_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(special)
        && !name.contains('\0')
}

/// Those of a container that is being made.
#[derive(Debug, Default)]
pub(super) struct NetDevices {
    lent: Vec<Lent>,
    ways: Option<Ways>,
}

impl NetDevices {
    /// Looks at them, and changes nothing.
    ///
    /// # Errors
    /// One is not there.
    pub(super) fn look(plan: &Launch) -> Result<Self> {
        Ok(Self {
            lent: net_device::look(plan)?,
            ways: None,
        })
    }

    /// Moves them into the network namespace of a process. They are in the record before.
    ///
    /// # Errors
    /// One cannot go; others may have gone.
    pub(super) fn take(
        &mut self,
        plan: &Launch,
        pid: Pid,
        making: &Making,
        record: &mut Record,
    ) -> Result<()> {
        if self.lent.is_empty() {
            return Ok(());
        }
        let ways = Ways::new(Path::new(&of_process(pid.as_raw())))
            .map_err(|errno| net_device::not_moved(plan, errno))?;
        let ways = self.ways.insert(ways);
        ways.take(plan, &mut self.lent, |lent| {
            record.lent = lent.to_vec();
            making.write(record)
        })
    }

    /// Brings them back: there is no container.
    ///
    /// # Errors
    /// One does not come back.
    pub(super) fn give_back(&self) -> Result<()> {
        match &self.ways {
            Some(ways) => ways.give_back(&self.lent),
            None => Ok(()),
        }
    }

    /// They are the container's from now on.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn leave(self, making: &Making, record: &mut Record) -> Result<()> {
        if self.ways.is_none() {
            return Ok(());
        }
        record.lent = Vec::new();
        making.write(record)
    }
}

/// Brings back those that a killed `create` has moved, from the namespace that has them still: one of somebody else's, or that of
/// PID 1. With the container's own namespace the kernel has ended virtual ones, and given physical ones to the host.
///
/// # Errors
/// One does not come back.
pub(super) fn give_back(record: &Record, init: Option<i32>) -> Result<()> {
    let place = record.network.clone().or(init.map(of_process));
    match place {
        Some(place) if !record.lent.is_empty() && record.of_this_boot() => {
            let ways = Ways::new(&place).map_err(|errno| {
                shim::Error::sys("give back network devices from", place.display(), errno)
            })?;
            ways.give_back(&record.lent)
        }
        _ => Ok(()),
    }
}

fn of_process(pid: i32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// Where a network namespace of somebody else's is found.
pub(super) fn joined(plan: &Launch) -> Option<PathBuf> {
    let mut joined = plan.joined.iter();
    let network = |kind: shim::plan::Namespaces| kind.names().any(|name| name == "network");
    let joined = joined.find(|joined| network(joined.kind));
    joined.map(|joined| joined.path.clone())
}
