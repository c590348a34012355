//! What a container is kept from: a named profile, changed by the configuration and by flags.

mod decide;
mod views;

pub use decide::{Decision, Facts, decide};

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::suggest::{Wrong, word};

/// A starting point that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileName {
    /// The usual 14 capabilities, the default filter of system calls, masked and read-only paths.
    Confined,
    /// Nothing is taken away: an outer user namespace is the boundary.
    Outer,
    /// No capability and none to be gained, the default filter, masked and read-only paths, a read-only root.
    Hardened,
    /// Nothing is taken away, said for a bare host.
    None,
}

impl ProfileName {
    /// Their words.
    pub const WORDS: [(&'static str, Self); 4] = [
        (Self::Confined.name(), Self::Confined),
        (Self::Outer.name(), Self::Outer),
        (Self::Hardened.name(), Self::Hardened),
        (Self::None.name(), Self::None),
    ];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Confined => "confined",
            Self::Outer => "outer",
            Self::Hardened => "hardened",
            Self::None => "none",
        }
    }

    /// The profile with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        word(text, &Self::WORDS, "give confined, outer, hardened or none")
    }
}

/// Which filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeccompChoice {
    /// The one that comes with start-container.
    Default,
    /// None.
    Unconfined,
    /// An OCI seccomp profile; never empty.
    File(PathBuf),
}

impl SeccompChoice {
    /// `default`, `unconfined`, or a path: a file of the working directory is `./FILE`, so that a misspelt word is not
    /// taken for one.
    ///
    /// # Errors
    /// Any other word.
    pub fn parse(text: OsString) -> Result<Self, Wrong> {
        if text.as_bytes().contains(&b'/') {
            return Ok(Self::File(text.into()));
        }
        let words = [("default", Self::Default), ("unconfined", Self::Unconfined)];
        word(
            &text.to_string_lossy(),
            &words,
            "give default, unconfined, or a path with a slash in it",
        )
    }
}
