//! Reads `config.json` and `process.json`, and refuses by name what is not supported yet.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shim::{Error, Result};

use super::{capabilities, piped};
use crate::regular::Source;

/// Larger than any engine writes.
pub(super) const LIMIT: u64 = 16 << 20;

/// What is read as it stands in the file: the crate has other names in some of it than the specification, and no words for
/// what is wrong there.
const OWN_OF_PROCESS: [&str; 3] = ["scheduler", "ioPriority", "execCPUAffinity"];
/// Likewise.
const OWN_OF_LINUX: [&str; 3] = ["intelRdt", "personality", "memoryPolicy"];

/// A bundle's configuration.
#[derive(Debug)]
pub(super) struct Config {
    /// The bundle: absolute, without symlinks.
    pub(super) bundle: PathBuf,
    /// The file itself.
    pub(super) file: PathBuf,
    pub(super) spec: Spec,
    /// The same as it stands in the file.
    pub(super) value: Value,
    pub(super) bytes: Vec<u8>,
    /// What could not be taken as it is, for the log.
    pub(super) warnings: Vec<String>,
}

impl Config {
    /// Reads the configuration of a bundle: `name`, a path that may be relative to it.
    ///
    /// # Errors
    /// No such bundle; no file with JSON of the specification's version 1; a field that is not supported yet.
    pub(super) fn read(bundle: &Path, name: &Path) -> Result<Self> {
        let bundle = std::fs::canonicalize(bundle).map_err(|error| {
            Error::io("find bundle", bundle.display(), &error).hint("see --bundle")
        })?;
        Self::of(&bundle.join(name), bundle)
    }

    /// The same from a copy of the file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(super) fn of(file: &Path, bundle: PathBuf) -> Result<Self> {
        let bytes = bytes(file)?;
        let mut value: Value = parse(file, &bytes)?;
        let mut warnings = Vec::new();
        if let Some(process) = value.get_mut("process") {
            capabilities::drop_unknown(process, &mut warnings);
        }
        pass_over_architectures(&mut value);
        let mut rest = value.clone();
        remove(rest.get_mut("process"), &OWN_OF_PROCESS);
        remove(rest.get_mut("linux"), &OWN_OF_LINUX);
        let spec: Spec = typed(file, &rest)?;
        if !spec.version().starts_with("1.") {
            return Err(Error::new("read")
                .on(file.display())
                .flags("ociVersion")
                .because(format!("version {:?} is not supported", spec.version()))
                .hint("version 1 of the runtime specification is"));
        }
        check(&spec)?;
        Ok(Self {
            bundle,
            file: file.to_owned(),
            spec,
            value,
            bytes,
            warnings,
        })
    }

    /// The part of the file at a path of names; null where there is none.
    pub(super) fn part(&self, path: &[&str]) -> &Value {
        path.iter().fold(&self.value, |value, name| {
            value.get(name).unwrap_or(&Value::Null)
        })
    }

    /// The fields about cgroups that say something.
    pub(super) fn asks_for_cgroups(&self) -> Vec<&'static str> {
        ["linux.resources", "linux.cgroupsPath"]
            .into_iter()
            .filter(|name| !is_empty(self.part(&name.split('.').collect::<Vec<_>>())))
            .collect()
    }

    /// Whether something is limited, apart from which devices may be used.
    pub(super) fn asks_for_limits(&self) -> bool {
        let mut resources = self.part(&["linux", "resources"]).clone();
        if let Some(all) = resources.as_object_mut() {
            all.remove("devices");
        }
        !is_empty(&resources)
    }
}

/// Filters are not about machines that this is not; these two the crate that reads the rest does not know.
fn pass_over_architectures(config: &mut Value) {
    let listed = config.pointer_mut("/linux/seccomp/architectures");
    if let Some(listed) = listed.and_then(Value::as_array_mut) {
        listed.retain(|name| name != "SCMP_ARCH_SH" && name != "SCMP_ARCH_SHEB");
    }
}

/// Whether nothing is said.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Reads a process.json, and as it stands in the file. Where it says nothing of the user, that is `user`.
///
/// # Errors
/// As [`Config::read`].
pub(super) fn process(
    file: &Path,
    user: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(Process, Value)> {
    let bytes = match piped::read(&source(file))? {
        Some(bytes) => bytes,
        None => bytes(file)?,
    };
    let mut value: Value = parse(file, &bytes)?;
    if let (Some(user), Some(all)) = (user, value.as_object_mut()) {
        all.entry("user").or_insert_with(|| user.clone());
    }
    capabilities::drop_unknown(&mut value, warnings);
    let mut rest = value.clone();
    remove(Some(&mut rest), &OWN_OF_PROCESS);
    let process = typed(file, &rest)?;
    check_process(&process)?;
    Ok((process, value))
}

/// A field of those that are read as they stand in the file; none where it is not there.
///
/// # Errors
/// It is not of this form.
pub(super) fn own<T: DeserializeOwned>(
    field: &'static str,
    value: Option<&Value>,
) -> Result<Option<T>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match T::deserialize(value) {
            Ok(given) => Ok(Some(given)),
            Err(error) => Err(wrong(field, error.to_string())),
        },
    }
}

fn remove(part: Option<&mut Value>, names: &[&str]) {
    if let Some(Value::Object(map)) = part {
        for name in names {
            map.remove(*name);
        }
    }
}

/// Reads a file with JSON.
///
/// # Errors
/// As [`Config::read`].
pub(super) fn json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    parse(file, &bytes(file)?)
}

fn source(file: &Path) -> Source<'_> {
    Source {
        op: "read",
        name: file,
        limit: LIMIT,
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    let source = source(file);
    let seen = source.look().map_err(|errno| {
        source
            .error()
            .errno(errno)
            .hint("see --bundle, or --process")
    })?;
    source.read(source.open(&seen)?)
}

/// What a file says, of which these are the bytes.
///
/// # Errors
/// It is no JSON of this form.
pub(super) fn parse<T: DeserializeOwned>(file: &Path, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| malformed(file, &error))
}

fn typed<T: DeserializeOwned>(file: &Path, value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|error| malformed(file, &error))
}

fn malformed(file: &Path, error: &serde_json::Error) -> Error {
    source(file)
        .error()
        .because(error.to_string())
        .hint("it must be as the OCI runtime specification has it")
}

/// The refusal of a field.
pub(super) fn unsupported(field: impl std::fmt::Display) -> Error {
    Error::new("read config.json")
        .on(field)
        .because("not supported yet")
        .hint("docs/oci.md says what is")
}

/// A field whose value is wrong.
pub(super) fn wrong(
    field: impl std::fmt::Display,
    why: impl Into<std::borrow::Cow<'static, str>>,
) -> Error {
    Error::new("read config.json")
        .on(field)
        .because(why)
        .hint("see the OCI runtime specification")
}

/// Refuses the first of the fields that is there.
fn refuse(fields: &[(&str, bool)]) -> Result<()> {
    match fields.iter().find(|(_, there)| *there) {
        Some((field, _)) => Err(unsupported(field)),
        None => Ok(()),
    }
}

fn said(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn check(spec: &Spec) -> Result<()> {
    refuse(&[
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
    ])?;
    spec.process().as_ref().map_or(Ok(()), check_process)
}

fn check_process(process: &Process) -> Result<()> {
    refuse(&[("process.commandLine", said(process.command_line().as_ref()))])
}
