//! `update`: other limits for a container that is there.

use std::io::Read as _;
use std::path::Path;

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};
use shim::{Error, Result};

use super::config::{self, Config, unsupported};
use super::state::{CONFIG, Container};
use crate::cgroup::{Property, Settings};

/// How the value of an option is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes, or a number with k, m, g or t; -1 for no limit.
    Size,
    Number,
    Text,
}

/// An option's meaning: the field below `linux.resources`, and what its value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) field: (&'static str, &'static str),
    pub(super) kind: Kind,
}

/// What shall hold from now on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// `--resources`: resources as in config.json.
    pub(super) file: Option<std::path::PathBuf>,
    /// From options, which count more.
    given: Vec<(Limit, Value)>,
}

impl Limits {
    /// Takes the value of an option.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn set(&mut self, option: &str, limit: Limit, text: &str) -> Result<()> {
        let number = match limit.kind {
            Kind::Text => Some(text.into()),
            Kind::Number => text.parse::<i64>().ok().map(Value::from),
            Kind::Size => bytes(text).map(Value::from),
        };
        let value = number.ok_or_else(|| {
            Error::new("read option")
                .on(option)
                .because(format!("{text:?} is no number"))
                .hint("give a whole number; sizes may have k, m, g or t after it, and -1 is none")
        })?;
        self.given.push((limit, value));
        Ok(())
    }

    /// All of it, as in config.json.
    fn resources(&self) -> Result<Map<String, Value>> {
        let mut resources = match &self.file {
            None => Map::new(),
            Some(path) => read(path)?,
        };
        for (Limit { field, .. }, value) in &self.given {
            let (part, name) = *field;
            let part = resources.entry(part).or_insert_with(|| Map::new().into());
            if let Some(part) = part.as_object_mut() {
                part.insert(name.to_owned(), value.clone());
            }
        }
        Ok(resources)
    }
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    if path != Path::new("-") {
        return config::json(path);
    }
    let mut bytes = Vec::new();
    let input = std::io::stdin().lock();
    let failed = |error: &std::io::Error| Error::io("read", "standard input", error);
    input
        .take(config::LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    config::parse(Path::new("standard input"), &bytes)
}

/// A number of bytes in the form of docker's units.
fn bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i64 = match lower.strip_prefix(digits)? {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// `update`
///
/// # Errors
/// The container has ended, or has no cgroups; names the field that is refused, and then nothing has changed.
pub(super) fn update(container: &Container, limits: &Limits) -> Result<()> {
    let (_init, record) = container.running("update container")?;
    let mut resources = limits.resources()?;
    // What may be opened is decided for good; engines send it again all the same.
    let config = Config::of(&container.dir.join(CONFIG), record.bundle.clone())?;
    if let Some(devices) = resources.remove("devices")
        && !config::is_empty(&devices)
        && &devices != config.part(&["linux", "resources", "devices"])
    {
        return Err(unsupported("linux.resources.devices").hint("they cannot be updated"));
    }
    let resources: LinuxResources = serde_json::from_value(resources.into()).map_err(|error| {
        Error::new("read")
            .on("linux.resources")
            .because(error.to_string())
            .hint("see the OCI runtime specification")
    })?;
    let group = record.group().ok_or_else(|| {
        Error::new("update container")
            .on(&container.id)
            .because("it has no cgroups")
            .hint("it was made with --cgroup-manager=disabled, or on a host that has none")
    })?;
    let settings = Settings::decide(&resources, &record.cgroups, Some(&group))?;
    group.change(&settings, || match record.cgroups.scope() {
        Some(scope) => scope.update(&Property::of(&settings)),
        None => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("64m", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("10KB", Some(10 << 10)),
            ("7b", Some(7)),
            ("", None),
            ("m", None),
            ("1.5g", None),
            ("9999999t", None),
            ("5x", None),
        ] {
            assert_eq!(bytes(text), value, "{text}");
        }
    }
}
