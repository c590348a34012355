//! What an image says about how it is run, and the two files beside the root filesystem that say it to clients.
//!
//! Read more leniently than the whole image configuration is defined: an image is not unusable because its history or
//! its author is malformed.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use shim::{Error, Result};

use crate::image::platform::Platform;
use crate::image::store::{About, Healthcheck};

/// The parts of an image configuration that matter here (image-spec config.md, also written by docker).
#[derive(Debug, Default, Deserialize)]
pub(in crate::image) struct Config {
    #[serde(default)]
    pub(super) architecture: Option<String>,
    #[serde(default)]
    pub(super) os: Option<String>,
    #[serde(default)]
    pub(super) variant: Option<String>,
    #[serde(default)]
    config: Option<Process>,
    pub(in crate::image) rootfs: Layers,
}

/// The layers' digests, uncompressed, lowest first.
#[derive(Debug, Default, Deserialize)]
pub(in crate::image) struct Layers {
    #[serde(default)]
    pub(in crate::image) diff_ids: Vec<String>,
}

/// How the image's program is run. What is of another type than the specification has it counts as not said.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Process {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    #[serde(default, deserialize_with = "if_well_formed")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "if_well_formed")]
    stop_signal: Option<String>,
    /// The names are the keys; the values are empty objects.
    #[serde(default, deserialize_with = "if_well_formed")]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default, deserialize_with = "if_well_formed")]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default, deserialize_with = "if_well_formed")]
    healthcheck: Option<Check>,
}

/// An extension of docker's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    test: Option<Vec<String>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    start_interval: Option<i64>,
    retries: Option<i64>,
}

fn if_well_formed<'d, D: Deserializer<'d>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

impl Config {
    /// Reads the configuration that `label` names.
    pub(super) fn parse(data: &[u8], label: &str) -> Result<Self> {
        serde_json::from_slice(data).map_err(|error| {
            Error::new("read image configuration")
                .on(label)
                .because(error.to_string())
                .hint("the image is damaged or is no container image")
        })
    }

    /// The machine that it is for, if it says so.
    pub(in crate::image) fn platform(&self) -> Option<Platform> {
        Some(Platform {
            os: self.os.clone()?,
            architecture: self.architecture.clone()?,
            variant: self.variant.clone(),
        })
    }

    /// The content of `ID.env`: one `K=V` a line, in the image's order.
    pub(in crate::image) fn env(&self) -> Result<String> {
        let mut text = String::new();
        let variables = self
            .config
            .iter()
            .filter_map(|process| process.env.as_ref())
            .flatten();
        for variable in variables {
            // Without a name or a value it sets nothing, in an environment as in the file.
            let Some(name) = variable
                .split_once('=')
                .map(|(name, _)| name)
                .filter(|name| !name.is_empty())
            else {
                continue;
            };
            if variable.contains(['\n', '\0']) {
                return Err(Error::new("write image environment")
                    .on(name)
                    .because("its value contains a newline or a NUL byte")
                    .hint("the environment file has one variable a line; remove the variable from the image and set it at launch"));
            }
            text.push_str(variable);
            text.push('\n');
        }
        Ok(text)
    }

    /// The content of `ID.json`.
    pub(in crate::image) fn meta(&self) -> Result<String> {
        self.about().text()
    }

    /// What it says about how the image is run. What is empty is not said.
    pub(super) fn about(&self) -> About {
        fn set(text: &Option<String>) -> Option<String> {
            text.clone().filter(|text| !text.is_empty())
        }
        fn names(map: &Option<BTreeMap<String, IgnoredAny>>) -> Option<Vec<String>> {
            let map = map.as_ref().filter(|map| !map.is_empty())?;
            Some(map.keys().cloned().collect())
        }
        let Some(process) = &self.config else {
            return About::default();
        };
        About {
            user: set(&process.user),
            workdir: set(&process.working_dir),
            entrypoint: process.entrypoint.clone(),
            cmd: process.cmd.clone(),
            labels: process.labels.clone().filter(|labels| !labels.is_empty()),
            stop_signal: set(&process.stop_signal),
            volumes: names(&process.volumes),
            ports: names(&process.exposed_ports),
            healthcheck: process.healthcheck.as_ref().map(|check| Healthcheck {
                test: check.test.clone(),
                interval: check.interval,
                timeout: check.timeout,
                start_period: check.start_period,
                start_interval: check.start_interval,
                retries: check.retries,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_and_meta_of_a_full_configuration() {
        let json = br#"{"architecture":"amd64","os":"linux","history":"odd","config":{"User":"web:web","Env":
            ["PATH=/bin","EMPTY=","a=b=c","NOVALUE","=x"],"Entrypoint":["/init"],"Cmd":["a b","\n"],"WorkingDir":"/srv",
            "Volumes":{"/data":{}, "/":{}},"ExposedPorts":{"80/tcp":{}},"Labels":{"b":"2","a":"1"},"StopSignal":"SIGQUIT",
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Retries":3,"Odd":1}},"rootfs":{"type":"layers","diff_ids":["sha256:00"]}}"#;
        let config = Config::parse(json, "x").unwrap();
        assert_eq!(config.env().unwrap(), "PATH=/bin\nEMPTY=\na=b=c\n");
        assert_eq!(
            config.meta().unwrap(),
            concat!(
                r#"{"user":"web:web","workdir":"/srv","entrypoint":["/init"],"cmd":["a b","\n"],"#,
                r#""labels":{"a":"1","b":"2"},"stop_signal":"SIGQUIT","volumes":["/","/data"],"ports":["80/tcp"],"#,
                r#""healthcheck":{"test":["CMD-SHELL","true"],"interval":30000000000,"timeout":null,"#,
                r#""start_period":null,"start_interval":null,"retries":3}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_said_is_null() {
        let nothing = concat!(
            r#"{"user":null,"workdir":null,"entrypoint":null,"cmd":null,"labels":null,"stop_signal":null,"#,
            r#""volumes":null,"ports":null,"healthcheck":null}"#,
            "\n"
        );
        for json in [
            &br#"{"config":{"Labels":[1],"StopSignal":15,"Volumes":["/x"],"ExposedPorts":7,"Healthcheck":"x"},"rootfs":{}}"#[..],
            br#"{"config":{"Labels":{},"StopSignal":"","Volumes":{},"ExposedPorts":null,"Healthcheck":null},"rootfs":{}}"#,
            br#"{"rootfs":{"diff_ids":[]}}"#,
            br#"{"config":null,"rootfs":{}}"#,
            br#"{"config":{"User":"","Env":null,"Entrypoint":null,"Cmd":null,"WorkingDir":""},"rootfs":{}}"#,
        ] {
            let config = Config::parse(json, "x").unwrap();
            assert_eq!(config.meta().unwrap(), nothing);
            assert_eq!(config.env().unwrap(), "");
        }
        assert_eq!(Config::default().meta().unwrap(), nothing);
    }

    #[test]
    fn a_line_cannot_be_forged() {
        let json = br#"{"config":{"Env":["A=1\nLD_PRELOAD=/x"]},"rootfs":{}}"#;
        assert!(Config::parse(json, "x").unwrap().env().is_err());
        assert!(Config::parse(b"{}", "x").is_err());
        assert!(Config::parse(b"[]", "x").is_err());
    }
}
