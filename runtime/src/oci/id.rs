//! Ids of containers: names of directories, and never paths.

use std::ffi::OsStr;
use std::fmt;

use shim::{Error, Result};

use crate::suggest::shown;

/// What containerd and runc take at most.
const LONGEST: usize = 1024;

/// The id of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerId(String);

impl ContainerId {
    /// Checks a word.
    ///
    /// # Errors
    /// It is empty, too long, `.` or `..`, or has another character than letters, digits and `_+-.`.
    pub(super) fn new(word: &OsStr) -> Result<Self> {
        let fits = |text: &&str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
            (1..=LONGEST).contains(&text.len())
                && !matches!(*text, "." | "..")
                && text.chars().all(known)
        };
        match word.to_str().filter(fits) {
            Some(text) => Ok(Self(text.to_owned())),
            None => Err(Error::new("read container id")
                .on(shown(word))
                .because("invalid")
                .hint("1 to 1024 letters, digits and _ + - . make an id")),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_path() {
        for good in ["a", "a.b", "web_1+2-3", "...", &"x".repeat(LONGEST)] {
            assert!(ContainerId::new(OsStr::new(good)).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "a b",
            "ä",
            "a\0",
            "a\n",
            &"x".repeat(LONGEST + 1),
        ] {
            assert!(ContainerId::new(OsStr::new(bad)).is_err(), "{bad}");
        }
    }
}
