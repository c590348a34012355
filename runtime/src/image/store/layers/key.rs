//! The name of an unpacked layer: what is in it decides it, so equal layers of two images are one directory.
//!
//! `HEX[.on.CHAIN][.FORM]`: the layer's DiffID; where its unpacking depended on the layers below, their chain id
//! (image-spec config.md, "Layer ChainID"; of no layers the digest of nothing); and where it was unpacked with fewer rights
//! than root of the machine has, with which, because the tree differs then. A root filesystem's tar in which names were
//! taken literally that are marks in a layer is `HEX.literal[.FORM]`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use crate::image::Rights;

/// How many hexadecimal digits a SHA-256 has.
const HEX: usize = 64;
/// See [`Basis::Literal`].
const LITERAL: &str = ".literal";

/// What a layer's tree depends on beside the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis<'digest> {
    /// Nothing.
    Alone,
    /// The layers below, with this chain id (`sha256:` and hex).
    On(&'digest str),
    /// That names which are marks in a layer were taken literally.
    Literal,
}

/// A directory name in `DATA/layers`; no other value can be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerKey(String);

impl LayerKey {
    /// The key of the layer with this DiffID (`sha256:` and hex).
    ///
    /// # Errors
    /// A digest that is no SHA-256 in lower-case hex.
    pub fn new(diff_id: &str, basis: Basis<'_>, rights: Rights) -> Result<Self> {
        let mut key = digits(diff_id)?.to_owned();
        match basis {
            Basis::Alone => {}
            Basis::On(below) => {
                key.push_str(".on.");
                key.push_str(digits(below)?);
            }
            Basis::Literal => key.push_str(LITERAL),
        }
        if let Some(form) = form(rights) {
            key.push('.');
            key.push_str(form);
        }
        Ok(Self(key))
    }

    /// Reads a name of `DATA/layers`; nothing where it is no layer's.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        let (hex, rest) = name.split_at_checked(HEX)?;
        let rest = match rest.strip_prefix(".on.") {
            None => rest.strip_prefix(LITERAL).unwrap_or(rest),
            Some(rest) => {
                let (below, rest) = rest.split_at_checked(HEX)?;
                is_hex(below).then_some(rest)?
            }
        };
        let known = rest.is_empty()
            || rest.strip_prefix('.').is_some_and(|rest| {
                Rights::ALL
                    .into_iter()
                    .any(|rights| form(rights) == Some(rest))
            });
        (is_hex(hex) && known).then(|| Self(name.to_owned()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The layer's DiffID, `sha256:` and hex.
    #[must_use]
    pub fn diff_id(&self) -> String {
        format!("sha256:{}", self.0.get(..HEX).unwrap_or_default())
    }

    /// Whether what overlay has to know of its directories is in attributes `user.overlay.*`, as a user namespace needs
    /// it, and not in `trusted.overlay.*`.
    #[must_use]
    pub fn is_for_user_namespaces(&self) -> bool {
        Rights::ALL
            .into_iter()
            .filter_map(form)
            .any(|form| self.0.rsplit('.').next() == Some(form))
    }

    /// Where the tree of the layer is, below `DATA/layers`.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        Path::new(&self.0).join("fs")
    }
}

/// How a key ends that stands for a tree unpacked with these rights.
fn form(rights: Rights) -> Option<&'static str> {
    match rights {
        Rights::Root => None,
        Rights::NoMounts => Some("root"),
        Rights::UserNamespace => Some("user"),
        Rights::Squash => Some("squash"),
        Rights::SingleId => Some("single"),
    }
}

fn is_hex(text: &str) -> bool {
    text.len() == HEX
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digits(digest: &str) -> Result<&str> {
    let hex = digest.strip_prefix("sha256:");
    hex.filter(|hex| is_hex(hex)).ok_or_else(|| {
        Error::new("find layer")
            .on(digest)
            .because("the digest is no sha256 in lower-case hex")
            .hint("other algorithms are not supported; export the image again with sha256")
    })
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for LayerKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::read(&text).ok_or_else(|| {
            Error::new("read key of a layer")
                .on(text)
                .because("it is none")
                .hint("a key is the hexadecimal DiffID of a layer, and how it was unpacked")
        })
    }
}

impl From<LayerKey> for String {
    fn from(key: LayerKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(HEX))
    }

    #[test]
    fn a_key_says_what_decided_the_tree() {
        let (a, b) = ("a".repeat(HEX), "b".repeat(HEX));
        let below = digest('b');
        for (basis, rights, name) in [
            (Basis::Alone, Rights::Root, a.clone()),
            (Basis::On(&below), Rights::Root, format!("{a}.on.{b}")),
            (Basis::Alone, Rights::SingleId, format!("{a}.single")),
            (Basis::Literal, Rights::Root, format!("{a}.literal")),
            (
                Basis::Literal,
                Rights::NoMounts,
                format!("{a}.literal.root"),
            ),
            (
                Basis::On(&below),
                Rights::UserNamespace,
                format!("{a}.on.{b}.user"),
            ),
        ] {
            let key = LayerKey::new(&digest('a'), basis, rights).unwrap();
            assert_eq!(key.as_str(), name);
            assert_eq!(key.is_for_user_namespaces(), rights != Rights::Root);
            assert_eq!(key.diff_id(), digest('a'));
            assert_eq!(key.tree(), Path::new(&name).join("fs"));
            assert_eq!(LayerKey::read(&name), Some(key));
        }
    }

    #[test]
    fn other_names_are_no_keys() {
        let a = "a".repeat(HEX);
        for name in [
            "",
            "fs",
            ".",
            "..",
            &a[1..],
            &a.to_uppercase(),
            &format!("{a}0"),
            &format!("{a}/fs"),
            &format!(".{a}.tmp"),
            &format!("{a}.on."),
            &format!("{a}.on.{}", &a[1..]),
            &format!("{a}.other"),
            &format!("{a}.user.user"),
            &format!("{}\u{e4}", &a[2..]),
        ] {
            assert_eq!(LayerKey::read(name), None, "{name}");
        }
        for bad in ["", "sha256:", "sha512:00", &a, &digest('A')] {
            assert!(
                LayerKey::new(bad, Basis::Alone, Rights::Root).is_err(),
                "{bad}"
            );
            assert!(
                LayerKey::new(&digest('a'), Basis::On(bad), Rights::Root).is_err(),
                "{bad}"
            );
        }
    }
}
