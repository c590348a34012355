//! The journal of create-fs: one JSON record per root filesystem in `STATE/subcontainers`.
//!
//! A record is written before the first side effect, under the name `GUID.creating`, and locked (flock(2)) as long as
//! its creator lives: who gets the lock knows that the creator is dead, however it died. A child that the creator has
//! cloned has the lock as well until it executes something, and may die a moment later than its parent: the record names
//! the creator, so that this moment is waited for. When the root filesystem is complete the record is renamed to `GUID`,
//! which is atomic. It is the last thing that `destroy` removes. Where the root filesystem shall not outlive its creator
//! the record has both names, and stays locked.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use shim::plan::IdMaps;
use shim::{Error, Result};

use super::{Places, errno_of};
use crate::identity::{Identity, boot_id};
use crate::lock;

/// Ends the name of a record whose root filesystem is not complete.
const CREATING: &str = ".creating";
/// How long the children of a creator that was killed may take to die of it.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// What is known about a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of this format: 1.
    pub version: u32,
    /// Name of the root filesystem.
    pub guid: String,
    /// Image it was made from.
    pub image: String,
    /// Name that the client gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the client sees it.
    pub rootfs: PathBuf,
    /// Where its writable layer is.
    pub data: PathBuf,
    /// When it was made: seconds since 1970, UTC.
    pub created: u64,
    /// In which boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Who has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) creator: Option<Identity>,
    /// The ids that its layers are mapped to, which are those of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_maps: Option<IdMaps>,
    /// Whether the overlay is not there yet, but is assembled by each launch.
    #[serde(default)]
    pub deferred: bool,
}

impl Record {
    pub(super) fn new(places: &Places, image: &str, name: Option<&str>) -> Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            version: 1,
            guid: places.guid.clone(),
            image: image.to_owned(),
            name: name.map(str::to_owned),
            rootfs: places.rootfs.clone(),
            data: places.data.clone(),
            created: since.map_or(0, |duration| duration.as_secs()),
            boot_id: boot_id()?,
            creator: Some(Identity::own()?),
            id_maps: None,
            deferred: false,
        })
    }
}

/// A record whose root filesystem is being made (or taken back) by us alone.
#[derive(Debug)]
pub(super) struct Journal {
    creating: PathBuf,
    complete: PathBuf,
    file: File,
}

impl Journal {
    /// Writes the record. None: another create-fs saw the record before we could lock it, takes it for one whose
    /// creator is dead and removes it; another name is needed.
    pub(super) fn begin(places: &Places, record: &Record) -> Result<Option<Self>> {
        make_private(&places.records)?;
        let creating = places.records.join(format!("{}{CREATING}", places.guid));
        let failed = |error: &std::io::Error| {
            Error::io("write record", creating.display(), error)
                .hint("check the directory that --state names")
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&creating)
            .map_err(|error| failed(&error))?;
        if !try_lock(&file, &creating, Duration::ZERO)? || !lock::is_still(&file, &creating) {
            return Ok(None);
        }
        let mut this = Self {
            complete: places.records.join(&places.guid),
            creating,
            file,
        };
        if let Err(error) = this.write(record) {
            this.forget()?;
            return Err(error);
        }
        Ok(Some(this))
    }

    /// Writes the record, again perhaps: nobody reads it before it is complete.
    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|error| crate::json::failed(&error))?;
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(&text))
            .map_err(|error| {
                Error::io("write record", self.creating.display(), &error)
                    .hint("check the space that --state has")
            })
    }

    /// The root filesystem is complete.
    pub(super) fn finish(&self) -> Result<()> {
        std::fs::rename(&self.creating, &self.complete).map_err(|error| {
            Error::io("complete record", self.creating.display(), &error)
                .hint("check the directory that --state names")
        })
    }

    /// The root filesystem is complete, and goes with us: the journal stays locked beside the record.
    pub(super) fn show(&self) -> Result<()> {
        std::fs::hard_link(&self.creating, &self.complete).map_err(|error| {
            Error::io("complete record", self.creating.display(), &error)
                .hint("--state must be on a filesystem with hard links")
        })
    }

    /// The root filesystem is gone.
    pub(super) fn forget(&self) -> Result<()> {
        remove_file(&self.creating)?;
        remove_file(&self.complete)
    }
}

/// What the state directory says about a name.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing.
    Unknown,
    /// A complete root filesystem.
    Complete,
    /// One whose creator is dead, held so that nobody else takes it away at the same time.
    HalfMade(Journal),
    /// Somebody is making it, or taking back a half made one, right now; or uses it as long as it lives, and takes it
    /// back then, if it is `complete`.
    Busy {
        /// Whether it can be used.
        complete: bool,
    },
}

/// Looks a name up.
pub(super) fn state(places: &Places) -> Result<State> {
    let creating = places.records.join(format!("{}{CREATING}", places.guid));
    let complete = places.records.join(&places.guid);
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&creating);
    let file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match std::fs::symlink_metadata(&complete) {
                Ok(_) => Ok(State::Complete),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::Unknown),
                Err(error) => Err(Error::io("look for record", complete.display(), &error)
                    .hint("needs root; check --state")),
            };
        }
        Err(error) => {
            return Err(Error::io("open record", creating.display(), &error)
                .hint("needs root; check --state"));
        }
    };
    let locked = try_lock(&file, &creating, Duration::ZERO)?
        || (has_dead_creator(&file) && try_lock(&file, &creating, LAST_MOMENT)?);
    if !locked {
        return Ok(State::Busy {
            complete: complete.exists(),
        });
    }
    // Between opening and locking its creator may have completed it, or somebody else have removed it.
    if !lock::is_still(&file, &creating) {
        return Ok(State::Busy { complete: false });
    }
    Ok(State::HalfMade(Journal {
        creating,
        complete,
        file,
    }))
}

fn try_lock(file: &File, path: &Path, patience: Duration) -> Result<bool> {
    lock::take(file, File::try_lock, patience).map_err(|error| {
        Error::io("lock record", path.display(), &error)
            .hint("check the directory that --state names")
    })
}

/// Whether the creator that the record names is no more. A record that is not written yet names nobody.
fn has_dead_creator(mut record: &File) -> bool {
    let mut text = Vec::new();
    let read = record.read_to_end(&mut text).ok();
    read.and_then(|_| serde_json::from_slice::<Record>(&text).ok())
        .and_then(|record| record.creator)
        .is_some_and(|creator| creator.open().is_none())
}

/// The record of a complete root filesystem; none where there is no such one.
pub(super) fn read(places: &Places) -> Result<Option<Record>> {
    let path = places.records.join(&places.guid);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if matches!(errno_of(&error), Errno::ENOENT | Errno::ENOTDIR) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(
                Error::io("read record", path.display(), &error).hint("needs root; check --state")
            );
        }
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Error::new("read record")
            .on(path.display())
            .because(error.to_string())
            .hint("only create-fs writes there; destroy-fs removes it and its root filesystem")
    })
}

/// Whether there is a record of any kind. One that is being completed is seen under either name.
pub(super) fn is_recorded(records: &Path, guid: &str) -> bool {
    let there = |name: &str| std::fs::symlink_metadata(records.join(name)).is_ok();
    there(&format!("{guid}{CREATING}")) || there(guid)
}

/// Removes the record of a complete root filesystem.
pub(super) fn forget(places: &Places) -> Result<()> {
    remove_file(&places.records.join(&places.guid))
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove record", path.display(), &error).hint("check --state"))
        }
        _ => Ok(()),
    }
}

/// The names in the state directory: of complete root filesystems, and of others.
pub(super) fn names(records: &Path) -> std::io::Result<(Vec<String>, Vec<String>)> {
    let mut complete = Vec::new();
    let mut creating = Vec::new();
    for entry in list(records)? {
        match entry.strip_suffix(CREATING) {
            Some(guid) => creating.push(guid.to_owned()),
            None => complete.push(entry),
        }
    }
    Ok((complete, creating))
}

/// The names in a directory, none where there is no directory. What is not UTF-8 was not made by us.
pub(super) fn list(directory: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.filter_map(|entry| match entry {
        Ok(entry) => entry.file_name().into_string().ok().map(Ok),
        Err(error) => Some(Err(error)),
    });
    names.collect()
}

/// Makes a directory that is root's alone, and its parents. One that exists keeps its mode: it is somebody's choice.
pub(super) fn make_private(directory: &Path) -> Result<()> {
    let make = || {
        if directory.is_dir() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
    };
    make().map_err(|error| {
        let hint = match errno_of(&error) {
            Errno::EACCES | Errno::EPERM => "needs root",
            _ => "check --state and --data",
        };
        Error::io("make directory", directory.display(), &error).hint(hint)
    })
}
