//! Which machine an image is for, in the words of Go's GOOS and GOARCH (image-spec image-index.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shim::Error;

/// An operating system, an architecture and possibly a variant of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux` for everything that can run here.
    pub os: String,
    /// For example `amd64`, `arm64`, `riscv64`.
    pub architecture: String,
    /// For example `v7`; any when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The machine this runs on.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// Whether an image for `os`, `architecture` and `variant` is for this one.
    pub(super) fn accepts(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        // arm64 without a variant means v8, the only one that was ever used (containerd normalises it so, too).
        let variants = match (
            self.variant.as_deref(),
            variant.filter(|variant| !variant.is_empty()),
        ) {
            (Some(wanted), Some(offered)) => wanted == offered,
            _ => true,
        };
        self.os == os && self.architecture == architecture && variants
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `OS/ARCHITECTURE[/VARIANT]`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        if os.is_empty() || architecture.is_empty() || variant == Some("") {
            return Err(Error::new("read platform")
                .on(text)
                .hint("the form is OS/ARCHITECTURE[/VARIANT], as linux/amd64"));
        }
        Ok(Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let arm: Platform = "linux/arm/v7".parse().unwrap();
        assert!(arm.accepts("linux", "arm", Some("v7")));
        assert!(arm.accepts("linux", "arm", None));
        assert!(!arm.accepts("linux", "arm", Some("v6")));
        assert!(!arm.accepts("windows", "arm", Some("v7")));
        assert!(Platform::host().accepts("linux", &Platform::host().architecture, Some("v8")));
        assert_eq!(arm.to_string(), "linux/arm/v7");
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
