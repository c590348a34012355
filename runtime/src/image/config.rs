//! What an image says about how it is run, and the two files beside the root filesystem that say it to clients.
//!
//! Read more leniently than the whole image configuration is defined: an image is not unusable because its history or
//! its author is malformed.

use serde::{Deserialize, Serialize};
use shim::{Error, Result};

/// The parts of an image configuration that matter here (image-spec config.md, also written by docker).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) architecture: Option<String>,
    #[serde(default)]
    pub(super) os: Option<String>,
    #[serde(default)]
    pub(super) variant: Option<String>,
    #[serde(default)]
    config: Option<Process>,
    pub(super) rootfs: Layers,
}

/// The layers' digests, uncompressed, lowest first.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Layers {
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

/// How the image's program is run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Process {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

/// The content of `ID.json`. What the image does not say is null.
#[derive(Debug, Serialize)]
struct Meta<'a> {
    user: Option<&'a str>,
    workdir: Option<&'a str>,
    entrypoint: Option<&'a [String]>,
    cmd: Option<&'a [String]>,
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

    /// The content of `ID.env`: one `K=V` a line, in the image's order.
    pub(super) fn env(&self) -> Result<String> {
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
    pub(super) fn meta(&self) -> Result<String> {
        fn set(text: Option<&String>) -> Option<&str> {
            text.map(String::as_str).filter(|text| !text.is_empty())
        }
        let process = self.config.as_ref();
        let meta = Meta {
            user: set(process.and_then(|process| process.user.as_ref())),
            workdir: set(process.and_then(|process| process.working_dir.as_ref())),
            entrypoint: process.and_then(|process| process.entrypoint.as_deref()),
            cmd: process.and_then(|process| process.cmd.as_deref()),
        };
        let mut text = serde_json::to_string(&meta).map_err(|error| {
            Error::new("write image metadata")
                .because(error.to_string())
                .hint("this is a fault of start-container")
        })?;
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_and_meta_of_a_full_configuration() {
        let json = br#"{"architecture":"amd64","os":"linux","history":"odd","config":{"User":"web:web","Env":
            ["PATH=/bin","EMPTY=","a=b=c","NOVALUE","=x"],"Entrypoint":["/init"],"Cmd":["a b","\n"],"WorkingDir":"/srv",
            "Volumes":null},"rootfs":{"type":"layers","diff_ids":["sha256:00"]}}"#;
        let config = Config::parse(json, "x").unwrap();
        assert_eq!(config.env().unwrap(), "PATH=/bin\nEMPTY=\na=b=c\n");
        assert_eq!(
            config.meta().unwrap(),
            "{\"user\":\"web:web\",\"workdir\":\"/srv\",\"entrypoint\":[\"/init\"],\"cmd\":[\"a b\",\"\\n\"]}\n"
        );
    }

    #[test]
    fn what_is_not_said_is_null() {
        let nothing = "{\"user\":null,\"workdir\":null,\"entrypoint\":null,\"cmd\":null}\n";
        for json in [
            &br#"{"rootfs":{"diff_ids":[]}}"#[..],
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
