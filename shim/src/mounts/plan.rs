//! A mount as a value: what, where, how; its words for `--dry-run` and for a failure. Changes nothing.

use std::borrow::Cow;
use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use serde::{Serialize, Serializer};

use super::attributes::{Attributes, Recursive};
use crate::Error;
use crate::idmap::IdMap;
use crate::sys::mount::Propagation;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where, inside.
    pub target: Target,
    /// Whether what is missing of the target is made: directories, and an empty file for a file.
    pub make_target: bool,
    /// What.
    #[serde(flatten)]
    pub content: Content,
    /// Attributes that it gets beyond those that the source has.
    pub attributes: Attributes,
    /// Whether mounts below the source do not get them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shallow: bool,
    /// What changes for it and all mounts below it.
    #[serde(skip_serializing_if = "Recursive::is_nothing")]
    pub recursive: Recursive,
    /// Whether symlinks on the way to the target are followed, within the root filesystem.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Content {
    /// A file or directory of the host.
    Bind {
        /// Absolute; symlinks of the host are followed.
        source: PathBuf,
        /// Whether it is anything but a directory.
        file: bool,
        /// With everything that is mounted below it.
        recursive: bool,
        /// Of the mount and all below it, towards the source.
        #[serde(serialize_with = "propagation_name")]
        propagation: Propagation,
        /// Ids on disk and as seen; empty: as they are.
        #[serde(serialize_with = "texts")]
        idmap: Vec<IdMap>,
    },
    /// A new filesystem in memory.
    Tmpfs {
        /// Its options, name and value.
        #[serde(serialize_with = "settings")]
        options: Vec<(CString, CString)>,
    },
    /// Directories of the host, one above the other.
    Overlay {
        /// The topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go; none makes it read-only.
        upper: Option<Upper>,
        /// Whether overlay keeps its notes in user.* attributes, because the caller is in a user namespace: trusted.*
        /// belong to root of the initial one (Linux 5.11).
        user_attributes: bool,
    },
    /// A new instance of a filesystem that has no device.
    New {
        /// `proc`, `sysfs`, `devpts`, …
        #[serde(serialize_with = "lossy")]
        filesystem: CString,
        /// Its options, and their values where they have one.
        #[serde(serialize_with = "option_texts")]
        options: Vec<(CString, Option<CString>)>,
        /// Whether mounts in it travel.
        #[serde(serialize_with = "propagation_name")]
        propagation: Propagation,
    },
    /// A /dev of the container's own: a tmpfs with the host's harmless nodes, and a devpts.
    Dev,
}

/// The writable layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upper {
    /// Where changes go.
    pub upper: PathBuf,
    /// An empty directory on the same filesystem, for the kernel.
    pub work: PathBuf,
}

/// A path inside: absolute, not the root, without `..`; kept in components, because the child looks up one after the
/// other.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    components: Vec<CString>,
    /// From the root to each of them: `a`, `a/b`, `a/b/c`.
    ways: Vec<CString>,
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
                ways: ways(&components),
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

    /// The ways to them from the root, without a slash in front.
    pub(super) fn ways(&self) -> &[CString] {
        &self.ways
    }

    /// Whether it is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.components.starts_with(&other.components)
    }
}

fn ways(components: &[CString]) -> Vec<CString> {
    let names: Vec<&[u8]> = components.iter().map(|name| name.to_bytes()).collect();
    let ways = (1..=names.len()).filter_map(|count| names.get(..count));
    // Joined from what has no NUL byte.
    ways.filter_map(|names| CString::new(names.join(&b'/')).ok())
        .collect()
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

impl Mount {
    /// One whose target is made where it is missing and reached without a symlink, and which changes nothing below itself.
    #[must_use]
    pub fn new(target: Target, content: Content, attributes: Attributes) -> Self {
        Self {
            target,
            make_target: true,
            content,
            attributes,
            shallow: false,
            recursive: Recursive::default(),
            follow: false,
        }
    }

    /// Whether the target has to be a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.content, Content::Bind { file: true, .. })
    }

    /// Whether mounts below it also appear at its source, on the host.
    #[must_use]
    pub fn sends_to_source(&self) -> bool {
        matches!(
            self.content,
            Content::Bind {
                propagation: Propagation::Shared,
                ..
            }
        )
    }

    /// The system calls, for `--dry-run`.
    #[must_use]
    pub fn text(&self) -> String {
        let made = match &self.content {
            Content::Bind {
                source, recursive, ..
            } => {
                let recursive = if *recursive { "|AT_RECURSIVE" } else { "" };
                format!("open_tree({}, OPEN_TREE_CLONE{recursive}", source.display())
            }
            Content::Tmpfs { .. } => "fsmount(tmpfs".to_owned(),
            Content::Overlay { .. } => "fsmount(overlay".to_owned(),
            Content::New { filesystem, .. } => {
                format!("fsmount({}", filesystem.to_string_lossy())
            }
            Content::Dev => "fsmount(tmpfs, null zero full random urandom tty pts shm".to_owned(),
        };
        let words = self.words();
        let separator = if words.is_empty() { "" } else { ", " };
        format!("move_mount({made}{separator}{words}), {})", self.target)
    }

    /// How it is mounted, comma separated.
    fn words(&self) -> String {
        let mut words: Vec<Cow<'_, str>> = self.attributes.names().map(Cow::Borrowed).collect();
        words.extend(self.recursive.words().map(Cow::Owned));
        match &self.content {
            Content::Bind {
                propagation, idmap, ..
            } => {
                words.push(Cow::Borrowed(name(*propagation)));
                words.extend(idmap.iter().map(|line| Cow::Owned(format!("idmap={line}"))));
            }
            Content::Tmpfs { options } => words.extend(options.iter().map(|(key, value)| {
                Cow::Owned(format!(
                    "{}={}",
                    key.to_string_lossy(),
                    value.to_string_lossy()
                ))
            })),
            Content::Overlay {
                lower,
                upper,
                user_attributes,
            } => {
                let lower: Vec<_> = lower.iter().map(|dir| dir.to_string_lossy()).collect();
                words.push(Cow::Owned(format!("lower={}", lower.join(":"))));
                words.extend(upper.iter().map(|dirs| {
                    let (upper, work) = (dirs.upper.display(), dirs.work.display());
                    Cow::Owned(format!("upper={upper},work={work}"))
                }));
                words.extend(user_attributes.then_some(Cow::Borrowed("userxattr")));
            }
            Content::New {
                options,
                propagation,
                ..
            } => {
                words.extend(options.iter().map(|option| Cow::Owned(option_text(option))));
                words.push(Cow::Borrowed(name(*propagation)));
            }
            Content::Dev => {}
        }
        words.join(",")
    }

    /// What the entry says, for messages: `bind /srv/data,ro,slave`.
    pub(super) fn entry(&self) -> String {
        let source = match &self.content {
            Content::Bind { source, .. } => format!("bind {}", source.display()),
            Content::Tmpfs { .. } => "tmpfs".to_owned(),
            Content::Overlay { .. } => "overlay".to_owned(),
            Content::New { filesystem, .. } => filesystem.to_string_lossy().into_owned(),
            Content::Dev => "dev".to_owned(),
        };
        let words = self.words();
        let separator = if words.is_empty() { "" } else { "," };
        format!("{source}{separator}{words}")
    }

    /// The words for its not having been attached.
    #[must_use]
    pub fn failure(&self, errno: Errno) -> Error {
        let error = Error::sys("mount at", &self.target, errno).flags(self.entry());
        match errno {
            Errno::ELOOP => error.hint(
                "the target, or something on the way to it, is a symlink inside; give its real path",
            ),
            Errno::ENOENT if !self.make_target => {
                error.hint("it would have to be made in a directory that is shared with the host; make it there first")
            }
            Errno::ENOENT => error.hint("it was removed at the same moment"),
            Errno::EROFS => error.hint("the target does not exist, and what it lies in is read-only: make it there first"),
            Errno::ENOTDIR | Errno::EISDIR => error.hint(
                "source and target must both be directories, or neither; and what leads to the target must be directories",
            ),
            Errno::EACCES | Errno::EPERM | Errno::EOVERFLOW => error.hint(
                "the container's root may not do this: is the place its own by its id map? an idmap= of the entry that it lies in may help",
            ),
            Errno::ENOSPC => error.hint("the disk is full, or there are more mounts than sysctl fs.mount-max allows"),
            Errno::EINVAL => error.hint("the kernel refuses the combination; dmesg may have its reason"),
            Errno::EMFILE => error.hint("too many open files: raise the limit (ulimit -n)"),
            _ => error.hint("what is there now? try: subcontainer exec ROOTFS ls -la"),
        }
    }

    /// The words for its source not being what it should.
    pub(crate) fn source_failure(&self, errno: Errno) -> Error {
        Error::sys("prepare the mount at", &self.target, errno).flags(self.entry())
    }
}

fn name(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Shared => "shared",
        Propagation::Slave => "slave",
        Propagation::Private => "private",
        Propagation::Unbindable => "unbindable",
    }
}

fn propagation_name<S: Serializer>(
    propagation: &Propagation,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*propagation))
}

fn texts<S: Serializer>(list: &[impl fmt::Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(ToString::to_string))
}

fn lossy<S: Serializer>(text: &CString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string_lossy())
}

fn option_text((key, value): &(CString, Option<CString>)) -> String {
    let key = key.to_string_lossy();
    match value {
        Some(value) => format!("{key}={}", value.to_string_lossy()),
        None => key.into_owned(),
    }
}

fn option_texts<S: Serializer>(
    list: &[(CString, Option<CString>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(option_text))
}

fn settings<S: Serializer>(list: &[(CString, CString)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        list.iter()
            .map(|(key, value)| (key.to_string_lossy(), value.to_string_lossy())),
    )
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
