//! `linux.intelRdt`: shares of caches and of the way to memory, by groups of a resctrl filesystem
//! (Documentation/arch/x86/resctrl.rst). A group that is made for the container alone goes with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use super::config::{Config, own, wrong};
use super::id::ContainerId;
use super::making::Making;
use super::record::Record;
use crate::host;

const FIELD: &str = "linux.intelRdt";
/// What the root of the filesystem has besides groups.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    #[serde(rename = "closID", default)]
    clos_id: String,
    #[serde(default)]
    l3_cache_schema: String,
    #[serde(default)]
    mem_bw_schema: String,
    #[serde(default)]
    schemata: Vec<String>,
    #[serde(default)]
    enable_monitoring: bool,
    /// Of releases before 1.3.
    #[serde(rename = "enableCMT", default)]
    enable_cmt: bool,
    #[serde(rename = "enableMBM", default)]
    enable_mbm: bool,
}

/// The groups that the processes of a container are in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Groups {
    /// The one that shares out, then the one that counts, if there is one.
    entered: Vec<PathBuf>,
    /// Those of them that go with the container.
    own: Vec<PathBuf>,
}

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct IntelRdt {
    groups: Groups,
    /// Those of the groups that are not there yet.
    new: Vec<PathBuf>,
    /// What is written to `schemata` of the first group.
    lines: Vec<String>,
}

impl IntelRdt {
    /// Decides, and looks at what is there.
    ///
    /// # Errors
    /// Names the field; the host has no such filesystem; a group that is missing, or shares out something else.
    pub(super) fn read(config: &Config, id: &ContainerId) -> Result<Self> {
        let Some(given) = own::<Given>(FIELD, Some(config.part(&["linux", "intelRdt"])))? else {
            return Ok(Self::default());
        };
        if given.enable_cmt || given.enable_mbm {
            return Err(wrong(
                "linux.intelRdt.enableCMT or enableMBM",
                "runtime-spec 1.3 has enableMonitoring instead",
            ));
        }
        let root = root().ok_or_else(|| {
            Error::new("read config.json")
                .on(FIELD)
                .because("no resctrl filesystem is mounted")
                .hint("where the processor can do it: mount -t resctrl resctrl /sys/fs/resctrl")
        })?;
        let name = given.clos_id.as_str();
        if name != "/" && (name.contains(['/', '\n']) || RESERVED.contains(&name)) {
            return Err(wrong("linux.intelRdt.closID", "is no name of a group"));
        }
        let lines = given.lines()?;
        let shared = match name {
            "" => root.join(id.as_str()),
            "/" => root,
            name => root.join(name),
        };
        let mut rdt = Self::default();
        match (name.is_empty(), shared.is_dir()) {
            (true, true) => return Err(wrong(FIELD, format!("there is a group {id} already"))),
            (true, false) => {
                rdt.groups.own.push(shared.clone());
                rdt.new.push(shared.clone());
            }
            (false, false) if lines.is_empty() => {
                return Err(wrong("linux.intelRdt.closID", "there is no such group"));
            }
            (false, false) => rdt.new.push(shared.clone()),
            (false, true) => agree(&shared, &lines)?,
        }
        // One that was there has them already.
        rdt.lines = match rdt.new.is_empty() {
            true => Vec::new(),
            false => lines,
        };
        rdt.groups.entered.push(shared.clone());
        if given.enable_monitoring {
            let counted = shared.join("mon_groups").join(id.as_str());
            for list in [&mut rdt.groups.entered, &mut rdt.groups.own, &mut rdt.new] {
                list.push(counted.clone());
            }
        }
        Ok(rdt)
    }

    /// Makes the groups that are not there; those that are to go again are in the record before.
    ///
    /// # Errors
    /// The kernel has no more of them, or does not take what is written.
    pub(super) fn make(&self, making: &Making, record: &mut Record) -> Result<()> {
        if self.groups.entered.is_empty() {
            return Ok(());
        }
        record.intel_rdt = self.groups.clone();
        making.write(record)?;
        for (index, group) in self.new.iter().enumerate() {
            if let Err(error) = fs::create_dir(group) {
                // What somebody else has made meanwhile is not ours to remove.
                let made = self.new.get(..index).unwrap_or_default();
                record.intel_rdt.own.retain(|own| made.contains(own));
                making.write(record)?;
                return Err(failed("make", group, &error));
            }
        }
        let Some(shared) = self.groups.entered.first() else {
            return Ok(());
        };
        self.lines
            .iter()
            .try_for_each(|line| write(&shared.join("schemata"), line))
    }
}

impl Given {
    /// All that is to be written, in this order.
    fn lines(&self) -> Result<Vec<String>> {
        let bad = |field: &str| {
            wrong(
                format!("{FIELD}.{field}"),
                "is no line of a file schemata, such as L3:0=ff or MB:0=50",
            )
        };
        let mut lines = Vec::new();
        let own = [
            ("l3CacheSchema", &self.l3_cache_schema),
            ("memBwSchema", &self.mem_bw_schema),
        ];
        for (field, line) in own.into_iter().filter(|(_, line)| !line.is_empty()) {
            if line.contains('\n') || (field == "memBwSchema" && !line.starts_with("MB:")) {
                return Err(bad(field));
            }
            lines.push(line.clone());
        }
        if self.schemata.iter().any(|line| line.contains('\n')) {
            return Err(bad("schemata"));
        }
        lines.extend(self.schemata.iter().cloned());
        Ok(lines)
    }
}

impl Groups {
    /// Puts a process there, and with it what it forks.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(super) fn enter(&self, process: Pid) -> Result<()> {
        let mut files = self.entered.iter().map(|group| group.join("tasks"));
        files.try_for_each(|file| write(&file, &process.to_string()))
    }

    /// Removes those that go with the container.
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub(super) fn remove(&self) -> Result<()> {
        let mut own = self.own.iter().rev();
        own.try_for_each(|group| match fs::remove_dir(group) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", group, &error))
            }
            _ => Ok(()),
        })
    }
}

/// Expects that a group which is there shares out what is wanted.
fn agree(group: &Path, lines: &[String]) -> Result<()> {
    let file = group.join("schemata");
    let there = match lines.is_empty() {
        true => return Ok(()),
        false => fs::read_to_string(&file),
    };
    let there = there.map_err(|error| failed("read", &file, &error))?;
    match lines.iter().find(|line| !has(&there, line)) {
        None => Ok(()),
        Some(line) => Err(wrong(
            "linux.intelRdt.closID",
            format!("the group that is there has no {line:?} in its schemata"),
        )),
    }
}

/// Whether a file `schemata` has all that a line says. The kernel writes it with leading blanks and zeros.
fn has(there: &str, line: &str) -> bool {
    let parts = |line: &str| -> Option<(String, Vec<(String, String)>)> {
        let (name, values) = line.trim().split_once(':')?;
        let values = values.split(';').map(|one| {
            let (domain, value) = one.trim().split_once('=')?;
            let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
            Some((domain.trim().to_owned(), value))
        });
        Some((name.trim().to_owned(), values.collect::<Option<_>>()?))
    };
    let Some((name, wanted)) = parts(line) else {
        return false;
    };
    let mut lines = there.lines().filter_map(parts);
    let found = lines.find(|(one, _)| *one == name);
    found.is_some_and(|(_, values)| wanted.iter().all(|one| values.contains(one)))
}

/// Where a resctrl filesystem is mounted.
fn root() -> Option<PathBuf> {
    let mut mounts = host::mounts()?.into_iter();
    let found = mounts.find(|mount| mount.fs_type == "resctrl");
    found.map(|mount| mount.mount_point)
}

fn write(file: &Path, line: &str) -> Result<()> {
    fs::write(file, format!("{line}\n"))
        .map_err(|error| failed("write", file, &error).flags(line.to_owned()))
}

fn failed(op: &'static str, path: &Path, error: &io::Error) -> Error {
    Error::io(op, path.display(), error)
        .hint("linux.intelRdt: info/last_cmd_status of the resctrl filesystem says why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemata_are_compared_as_the_kernel_writes_them() {
        let there = "    MB:0= 20;1= 70\n    L3:0=07f0;1=001f\n    L2:0=f;1=f\n";
        for line in ["L3:0=7f0;1=1f", "L3:1=1F", "MB:0=20;1=70", "L2:1=f;0=f"] {
            assert!(has(there, line), "{line}");
        }
        for line in [
            "L3:0=7f;1=1f",
            "L3:2=1",
            "MB:0=2",
            "L3CODE:0=7f0",
            "L3",
            "L3:0",
        ] {
            assert!(!has(there, line), "{line}");
        }
    }
}
