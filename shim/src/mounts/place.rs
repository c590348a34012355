//! Where something is mounted: a path inside, as a value.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use serde::{Serialize, Serializer};

/// A path inside: absolute, not the root, without `..`; kept in components, because the child looks up one after the
/// other.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    components: Vec<CString>,
    /// The same as a path from the root: `a/b/c`.
    way: CString,
}

impl Target {
    /// Takes a path apart.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(path: &Path) -> Result<Self, &'static str> {
        let mut components = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => components
                    .push(CString::new(name.as_bytes()).map_err(|_| "it contains a NUL byte")?),
                Component::ParentDir => return Err("it has \"..\" in it"),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        match components.first().map(|name| name.to_bytes()) {
            _ if !path.is_absolute() => Err("it is not absolute"),
            None => Err("it is the root directory"),
            Some(_) => Ok(Self {
                way: way(&components),
                components,
            }),
        }
    }

    /// The same for a container whose procfs is ours to attach: nothing else may lie there.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn outside_proc(path: &Path) -> Result<Self, &'static str> {
        let target = Self::new(path)?;
        if target.is_in_proc() {
            return Err("it is in /proc, which is the container's own");
        }
        Ok(target)
    }

    /// Whether it is `/proc` or lies below it.
    #[must_use]
    pub fn is_in_proc(&self) -> bool {
        self.components
            .first()
            .is_some_and(|name| name.to_bytes() == b"proc")
    }

    /// Its components, at least one.
    #[must_use]
    pub fn components(&self) -> &[CString] {
        &self.components
    }

    /// The way from the root, without a slash in front.
    pub(super) fn way(&self) -> &CStr {
        &self.way
    }

    /// Whether it is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.components.starts_with(&other.components)
    }
}

fn way(components: &[CString]) -> CString {
    let names: Vec<&[u8]> = components.iter().map(|name| name.to_bytes()).collect();
    // Joined from what has no NUL byte.
    CString::new(names.join(&b'/')).unwrap_or_default()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.components {
            write!(f, "/{}", name.to_string_lossy())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_absolute_and_below_the_root_and_not_in_proc() {
        for (given, kept) in [
            ("/data", "/data"),
            ("//a/./b//c/", "/a/b/c"),
            ("/process", "/process"),
            ("/a/proc", "/a/proc"),
        ] {
            assert_eq!(
                Target::outside_proc(Path::new(given)).unwrap().to_string(),
                kept
            );
        }
        for bad in [
            "",
            "data",
            "./data",
            "/",
            "//",
            "/.",
            "/a/../b",
            "/..",
            "/proc",
            "/proc/sys",
            "/a\0b",
        ] {
            assert!(Target::outside_proc(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn within_goes_by_components() {
        let target = |text| Target::new(Path::new(text)).unwrap();
        assert!(target("/a/b").is_within(&target("/a")));
        assert!(target("/a").is_within(&target("/a")));
        assert!(!target("/ab").is_within(&target("/a")));
        assert!(!target("/a").is_within(&target("/a/b")));
    }
}
