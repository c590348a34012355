//! `ID.json`: what an image says about how it is run, for clients and for `--image`.
//!
//! A client may know only some of the keys; new ones may be added. What the image does not say is null.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shim::Result;

use crate::ids::ImageId;
use crate::image::platform::Platform;
use crate::json;
use crate::regular::Source;

/// The most that the file may take, in bytes.
const LIMIT: u64 = 8 << 20;

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// In the grammar of `--user`.
    pub user: Option<String>,
    /// The directory that its program starts in.
    pub workdir: Option<String>,
    /// The first words of its program's command line.
    pub entrypoint: Option<Vec<String>>,
    /// The other words, which a caller replaces by its own.
    pub cmd: Option<Vec<String>>,
    /// What its publisher says about it.
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks its program to end: a name or a number.
    pub stop_signal: Option<String>,
    /// Directories that its publisher wants to be kept apart. Nothing is mounted there unless the caller does.
    pub volumes: Option<Vec<String>>,
    /// The ports that its program listens on: `80/tcp`.
    pub ports: Option<Vec<String>>,
    /// How to find out whether its program is well. Nobody does unless the caller.
    pub healthcheck: Option<Healthcheck>,
}

/// A check of a program's health. Times are in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and words, or `CMD-SHELL` and a line for a shell.
    pub test: Option<Vec<String>>,
    /// Between two checks.
    pub interval: Option<i64>,
    /// How long one may take.
    pub timeout: Option<i64>,
    /// How long the program may take to start.
    pub start_period: Option<i64>,
    /// Between two checks meanwhile.
    pub start_interval: Option<i64>,
    /// How many failures in a row are needed.
    pub retries: Option<i64>,
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

impl About {
    /// What image `id` below `base` says; nothing where there is no such file, as with an image that was put there by
    /// hand.
    ///
    /// # Errors
    /// A file that cannot be read, or is no such text.
    pub fn read(base: &Path, id: &ImageId) -> Result<Option<Self>> {
        let path = base.join("images").join(format!("{id}.json"));
        let source = Source {
            op: "read what the image says",
            name: &path,
            limit: LIMIT,
        };
        let seen = match source.look() {
            Ok(seen) => seen,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => {
                return Err(source.error().errno(errno).hint("needs root; check --base"));
            }
        };
        let text = source.read(source.open(&seen)?)?;
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            source
                .error()
                .because(error.to_string())
                .hint("import the image again, or correct the file")
        })
    }

    /// The image configuration that says the same (image-spec config.md), without layers.
    pub(in crate::image) fn config(&self, platform: &Platform, variables: &[String]) -> Value {
        let names = |list: &Option<Vec<String>>| -> Map<String, Value> {
            let names = list.iter().flatten();
            names.map(|name| (name.clone(), json!({}))).collect()
        };
        let check = self.healthcheck.as_ref();
        let mut config = json!({
            "User": self.user,
            "Env": variables,
            "Entrypoint": self.entrypoint,
            "Cmd": self.cmd,
            "WorkingDir": self.workdir,
            "Labels": self.labels,
            "StopSignal": self.stop_signal,
            "Volumes": self.volumes.is_some().then(|| names(&self.volumes)),
            "ExposedPorts": self.ports.is_some().then(|| names(&self.ports)),
            "Healthcheck": check.map(|check| without_nulls(json!({
                "Test": check.test,
                "Interval": check.interval,
                "Timeout": check.timeout,
                "StartPeriod": check.start_period,
                "StartInterval": check.start_interval,
                "Retries": check.retries,
            }))),
        });
        config = without_nulls(config);
        without_nulls(json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "variant": platform.variant,
            "config": config,
        }))
    }

    /// The content of the file.
    ///
    /// # Errors
    /// None is expected.
    pub fn text(&self) -> Result<String> {
        json::line(self)
    }
}
