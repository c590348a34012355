//! Profile files: JSON as in `linux.seccomp` of an OCI configuration, or as Docker and podman keep it on disk.
//!
//! The two formats have so much in common that one description serves for both. Docker's and podman's adds entries that
//! are meant for some capabilities, machines or kernels only; which of them apply is decided here, by the rules of those
//! engines. What the calls mean is decided in `from_profile.rs`.

use std::path::Path;

use caps::Capability;
use nix::errno::Errno;
use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
use serde::Deserialize;
use serde::de::IgnoredAny;
use shim::Error;

use super::abi::{GO_NAMES, Machine};
use super::builtin::has;
use crate::regular::Source;
use crate::suggest::{nearest, shown};

/// Largest profile, in bytes. Docker's has 12 KiB, podman's 20.
const LIMIT: u64 = 1 << 20;

/// What a profile file says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    /// podman's: the name of an errno. It counts more than the number.
    default_errno: Option<String>,
    pub(super) architectures: Option<Vec<Arch>>,
    pub(super) arch_map: Option<Vec<ArchMap>>,
    pub(super) flags: Option<Vec<LinuxSeccompFilterFlag>>,
    pub(super) listener_path: Option<String>,
    pub(super) listener_metadata: Option<String>,
    pub(super) syscalls: Option<Vec<Entry>>,
}

/// Docker's: which conventions belong to a machine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ArchMap {
    pub(super) architecture: Arch,
    pub(super) sub_architectures: Option<Vec<Arch>>,
}

/// The answer for some calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    /// Docker's older form of `names`.
    name: Option<String>,
    names: Option<Vec<String>>,
    pub(super) action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<Arg>>,
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Arg {
    pub(super) index: u32,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: LinuxSeccompOperator,
}

/// Where an entry is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What entries are chosen by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    pub(super) machine: Machine,
    /// The bounding set.
    pub(super) capabilities: u64,
    /// Major and minor version of the kernel.
    pub(super) kernel: (u32, u32),
    /// Whether somebody can be asked about calls.
    pub(super) may_notify: bool,
}

/// A mistake in a profile: in which entry or line, what, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) entry: Option<String>,
    pub(super) why: String,
    pub(super) hint: String,
}

impl Fault {
    pub(super) fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            entry: None,
            why: why.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn in_entry(self, entry: impl Into<String>) -> Self {
        Self {
            entry: Some(entry.into()),
            ..self
        }
    }

    /// The error for the user, about this file.
    pub(super) fn about(self, file: &Path) -> Error {
        let error = source(file).error().because(self.why).hint(self.hint);
        match self.entry {
            Some(entry) => error.flags(entry),
            None => error,
        }
    }
}

fn source(file: &Path) -> Source<'_> {
    Source {
        op: "read seccomp profile",
        name: file,
        limit: LIMIT,
    }
}

/// Reads a profile.
///
/// # Errors
/// No readable regular file of at most 1 MiB, or not JSON of either format; the latter names line and field.
pub(super) fn read(file: &Path) -> shim::Result<Profile> {
    let source = source(file);
    let seen = source.look().map_err(|errno| {
        source
            .error()
            .errno(errno)
            .hint("--seccomp takes default, unconfined, or a file with a profile in JSON")
    })?;
    let bytes = source.read(source.open(&seen)?)?;
    parse(&bytes).map_err(|fault| fault.about(file))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Profile, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or_default();
        Fault::new(
            shown(why.as_ref()),
            "the formats are linux.seccomp of the OCI runtime specification and Docker's seccomp profiles",
        )
        .in_entry(format!("line {}", error.line()))
    })
}

impl Profile {
    /// The errno of the default action, if one is given.
    pub(super) fn default_errno(&self) -> Result<Option<u32>, Fault> {
        chosen_errno(self.default_errno.as_deref(), self.default_errno_ret)
    }
}

impl Entry {
    /// The errno of the action, if one is given.
    pub(super) fn errno(&self) -> Result<Option<u32>, Fault> {
        chosen_errno(self.errno.as_deref(), self.errno_ret)
    }

    /// The calls that the entry is about.
    pub(super) fn names(&self) -> Result<&[String], Fault> {
        match (&self.name, self.names.as_deref()) {
            (Some(name), None | Some([])) => Ok(std::slice::from_ref(name)),
            (None, Some(names @ [_, ..])) => Ok(names),
            (Some(_), Some(_)) => Err(Fault::new("both name and names", "give names only")),
            (None, _) => Err(Fault::new(
                "no names",
                "name the system calls that it is for, or remove it",
            )),
        }
    }

    pub(super) fn args(&self) -> &[Arg] {
        self.args.as_deref().unwrap_or_default()
    }

    /// Whether the entry is meant for these surroundings: all of what it includes and nothing of what it excludes.
    pub(super) fn applies(&self, here: Surroundings) -> Result<bool, Fault> {
        let none = Condition::default();
        let excludes = self.excludes.as_ref().unwrap_or(&none);
        let includes = self.includes.as_ref().unwrap_or(&none);
        let excluded = excludes.capabilities()?;
        let included = includes.capabilities()?;
        let excluded = excluded
            .iter()
            .any(|capability| has(here.capabilities, *capability))
            || excludes.names_machine(here.machine)? == Some(true)
            || excludes.reaches_kernel(here.kernel)? == Some(true);
        let included = included
            .iter()
            .all(|capability| has(here.capabilities, *capability))
            && includes.names_machine(here.machine)? != Some(false)
            && includes.reaches_kernel(here.kernel)? != Some(false);
        Ok(included && !excluded)
    }
}

impl Condition {
    fn capabilities(&self) -> Result<Vec<Capability>, Fault> {
        let names = self.caps.iter().flatten();
        names
            .map(|name| {
                name.parse().map_err(|_| {
                    let all = caps::all().into_iter().map(|known| known.to_string());
                    let all: Vec<String> = all.collect();
                    unknown("capability", name, all.iter().map(String::as_str))
                })
            })
            .collect()
    }

    /// Whether the machine is in the list; nothing if there is no list.
    fn names_machine(&self, machine: Machine) -> Result<Option<bool>, Fault> {
        let arches = self.arches.as_deref().unwrap_or_default();
        if let Some(name) = arches
            .iter()
            .find(|name| !GO_NAMES.contains(&name.as_str()))
        {
            return Err(unknown("architecture", name, GO_NAMES.iter().copied()));
        }
        Ok((!arches.is_empty()).then(|| arches.iter().any(|name| name == machine.go_name)))
    }

    /// Whether the kernel is new enough; nothing if none is asked for.
    fn reaches_kernel(&self, kernel: (u32, u32)) -> Result<Option<bool>, Fault> {
        let Some(text) = &self.min_kernel else {
            return Ok(None);
        };
        let version = version(text).ok_or_else(|| {
            Fault::new(
                format!("minKernel \"{}\" is not a version", shown(text.as_ref())),
                "give major and minor number, as in 4.8",
            )
        })?;
        Ok(Some(kernel >= version))
    }
}

/// Major and minor version at the beginning of a kernel's release: `6.18` of `6.18.44-generic`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The fault of a word that is not known, with the nearest one that is.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Fault {
    let why = format!("unknown {what} \"{}\"", shown(name.as_ref()));
    let known: Vec<&str> = known.into_iter().collect();
    let lower: Vec<String> = known.iter().map(|word| word.to_lowercase()).collect();
    let nearest = nearest(name, lower.iter().map(String::as_str));
    match nearest.and_then(|near| known.iter().find(|word| word.eq_ignore_ascii_case(near))) {
        Some(word) => Fault::new(why, format!("did you mean {word}?")),
        None => Fault::new(why, "correct or remove it"),
    }
}

/// An errno as both engines give it: the name counts more than the number.
fn chosen_errno(name: Option<&str>, number: Option<u32>) -> Result<Option<u32>, Fault> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(number);
    };
    // The numbers of Linux end at 133 on the machines that there are filters for.
    let numbers = 1..=133;
    let found = numbers
        .clone()
        .find(|number| format!("{:?}", Errno::from_raw(*number)) == name);
    match (found, name) {
        (Some(number), _) => Ok(Some(number.unsigned_abs())),
        (None, "EWOULDBLOCK") => Ok(Some(nix::libc::EWOULDBLOCK.unsigned_abs())),
        (None, "ENOTSUP") => Ok(Some(nix::libc::ENOTSUP.unsigned_abs())),
        _ => Err(unknown("errno", name, [])),
    }
}
