//! The grammar of one mount: `type=bind,src=/srv/data,dst=/data,ro`, close to what docker's `--mount` takes.
//!
//! Reads words and looks at nothing. What contradicts itself is refused here, with the entry and the key that is wrong.
//! A comma ends a value, so a path with a comma in it cannot be given; neither can an overlay's layer with a colon.

use std::path::PathBuf;

use shim::idmap::IdMap;
use shim::mounts::{Attributes, Target};
use shim::sys::mount::Propagation;
use shim::{Error, Result};

use super::fields::Fields;
use crate::ids::Guid;
use crate::suggest::{nearest, shown};

/// One mount as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// The words, for messages.
    pub(super) entry: String,
    pub(super) target: Target,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
}

/// What is mounted, before anybody has looked whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bind {
        source: Source,
        recursive: bool,
        propagation: Propagation,
        idmap: Vec<IdMap>,
    },
    /// Options of tmpfs(5), checked.
    Tmpfs(Vec<(&'static str, String)>),
    Overlay {
        lower: Vec<PathBuf>,
        /// The upper and the work directory.
        upper: Option<(PathBuf, PathBuf)>,
    },
    Dev,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Absolute.
    Path(PathBuf),
    /// The name of a directory in `BASE/volumes`.
    Volume(Guid),
}

/// A directory of the host's that is shared as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// `/dev`
    Dev,
    /// `/sys`
    Sys,
    /// `/run`
    Run,
}

impl Share {
    pub(super) const ALL: [Self; 3] = [Self::Dev, Self::Sys, Self::Run];

    /// Its name, which is also that of the directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Sys => "sys",
            Self::Run => "run",
        }
    }
}

/// Reads the comma-separated list of `--share`: `dev,sys`.
///
/// # Errors
/// Names the word that is not one of `dev`, `sys`, `run`.
pub fn parse_share(text: &str) -> Result<Vec<Share>> {
    let one = |word: &str| {
        let names = Share::ALL.map(Share::name);
        let share = Share::ALL.into_iter().find(|share| share.name() == word);
        share.ok_or_else(|| {
            Error::new("read share")
                .on(shown(text.as_ref()))
                .because(format!("there is no {:?} to share", shown(word.as_ref())))
                .hint(match nearest(word, names) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("give one or more of {}", names.join(", ")),
                })
        })
    };
    let mut shares: Vec<Share> = text.split(',').map(one).collect::<Result<_>>()?;
    shares.sort_unstable();
    shares.dedup();
    Ok(shares)
}

/// Reads one entry.
///
/// # Errors
/// Names the entry, what is wrong with it, and what would be right.
pub fn parse(entry: &str) -> Result<MountSpec> {
    Fields::read(entry)?.spec()
}

impl MountSpec {
    /// A failure with this entry.
    pub(super) fn error(&self, why: impl Into<String>, hint: impl Into<String>) -> Error {
        refusal(&self.entry, why, hint)
    }
}

pub(super) fn refusal(entry: &str, why: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new("read mount")
        .on(shown(entry.as_ref()))
        .because(why.into())
        .hint(hint.into())
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
