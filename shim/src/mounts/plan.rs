//! A mount as a value: what, where, how; its words for `--dry-run` and for a failure. Changes nothing.

use std::borrow::Cow;
use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Serialize, Serializer};

use super::attributes::{Attributes, Recursive};
use super::place::Target;
use crate::Error;
use crate::idmap::IdMap;
use crate::plan::NodeKind;
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
    /// A new instance of a filesystem, or one that is on a device.
    New {
        /// `proc`, `sysfs`, `devpts`, …
        #[serde(serialize_with = "lossy")]
        filesystem: CString,
        /// Its options, and their values where they have one.
        #[serde(serialize_with = "option_texts")]
        options: Vec<Setting>,
        /// Whether mounts in it travel.
        #[serde(serialize_with = "propagation_name")]
        propagation: Propagation,
        /// What it has of the directory that it covers.
        #[serde(skip_serializing_if = "Covered::is_nothing")]
        covered: Covered,
    },
    /// Nothing new: what is mounted there already is changed.
    Remount {
        /// Attributes that it loses.
        cleared: Attributes,
        /// Options of the filesystem that change.
        #[serde(serialize_with = "option_texts")]
        options: Vec<Setting>,
        /// How mounts in it travel from now on, and in all mounts below it.
        #[serde(serialize_with = "some_propagation")]
        propagation: Option<(Propagation, bool)>,
    },
    /// A device that is made for it outside, where that is allowed, on a filesystem that has nothing else.
    Device {
        /// Block or character.
        kind: NodeKind,
        /// The number of its driver.
        major: u64,
        /// Its number there.
        minor: u64,
        /// Permissions.
        mode: u32,
        /// Its user and group, outside.
        owner: (u32, u32),
    },
    /// A /dev of the container's own: a tmpfs with the host's harmless nodes, and a devpts.
    Dev,
}

/// An option of a filesystem, and its value where it has one.
pub type Setting = (CString, Option<CString>);

/// What a new filesystem takes over from the directory that it covers, if that was there before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covered {
    /// Nothing.
    #[default]
    Nothing,
    /// Its mode.
    Mode,
    /// What is in it, too, and its mode and owner as far as these are wanted.
    Content {
        /// Whether its mode.
        mode: bool,
        /// Whether its owner.
        owner: bool,
    },
}

impl Covered {
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// The writable layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upper {
    /// Where changes go.
    pub upper: PathBuf,
    /// An empty directory on the same filesystem, for the kernel.
    pub work: PathBuf,
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
        matches!(
            self.content,
            Content::Bind { file: true, .. } | Content::Device { .. }
        )
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
            Content::Device {
                kind, major, minor, ..
            } => {
                format!("open_tree(mknod(tmpfs, {kind:?}, {major}:{minor}), OPEN_TREE_CLONE")
            }
            Content::Dev => "fsmount(tmpfs, null zero full random urandom tty pts shm".to_owned(),
            Content::Remount { .. } => {
                return format!("mount_setattr({}, {})", self.target, self.words());
            }
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
                covered,
                ..
            } => {
                words.extend(options.iter().map(|option| Cow::Owned(option_text(option))));
                words.push(Cow::Borrowed(name(*propagation)));
                let copied = matches!(covered, Covered::Content { .. });
                words.extend(copied.then_some(Cow::Borrowed("tmpcopyup")));
            }
            Content::Remount {
                cleared,
                options,
                propagation,
            } => {
                words.extend(cleared.names().map(|name| Cow::Owned(format!("-{name}"))));
                words.extend(options.iter().map(|option| Cow::Owned(option_text(option))));
                words.extend(propagation.map(|(kind, _)| Cow::Borrowed(name(kind))));
            }
            Content::Device {
                mode,
                owner: (user, group),
                ..
            } => {
                words.push(Cow::Owned(format!(
                    "mode={mode:03o},uid={user},gid={group}"
                )));
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
            Content::Device { major, minor, .. } => format!("device {major}:{minor}"),
            Content::Dev => "dev".to_owned(),
            Content::Remount { .. } => "remount".to_owned(),
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
            Errno::ENODEV => error.hint("the kernel does not know this filesystem: modprobe it"),
            Errno::EINVAL | Errno::ENOENT if matches!(self.content, Content::Remount { .. }) => error.hint("something must be mounted there already, and take this change"),
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
            Errno::ENOSPC => error.hint("the disk, or the new filesystem, is full; or there are more mounts than sysctl fs.mount-max allows"),
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

fn some_propagation<S: Serializer>(
    propagation: &Option<(Propagation, bool)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match propagation {
        Some((kind, _)) => serializer.serialize_some(name(*kind)),
        None => serializer.serialize_none(),
    }
}

fn texts<S: Serializer>(list: &[impl fmt::Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(ToString::to_string))
}

fn lossy<S: Serializer>(text: &CString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string_lossy())
}

fn option_text((key, value): &Setting) -> String {
    let key = key.to_string_lossy();
    match value {
        Some(value) => format!("{key}={}", value.to_string_lossy()),
        None => key.into_owned(),
    }
}

fn option_texts<S: Serializer>(list: &[Setting], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(option_text))
}

fn settings<S: Serializer>(list: &[(CString, CString)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        list.iter()
            .map(|(key, value)| (key.to_string_lossy(), value.to_string_lossy())),
    )
}
