//! The journal of create-fs: one JSON record per root filesystem in `STATE/subcontainers`.
//!
//! A record is written before the first side effect, under the name `GUID.creating`, and locked (flock(2)) as long as
//! its creator lives: who gets the lock knows that the creator is dead, however it died. When the root filesystem is
//! complete the record is renamed to `GUID`, which is atomic. It is the last thing that `destroy` removes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use super::{Places, errno_of};

/// Ends the name of a record whose root filesystem is not complete.
const CREATING: &str = ".creating";

/// No record is longer, in bytes.
const RECORD_MAX: u64 = 64 * 1024;

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
    /// Whether the overlay is not there yet, but is assembled by each launch.
    #[serde(default)]
    pub deferred: bool,
}

impl Record {
    pub(super) fn new(
        places: &Places,
        image: &str,
        name: Option<&str>,
        deferred: bool,
    ) -> Result<Self> {
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
            deferred,
        })
    }

    /// That of a complete root filesystem; none where there is none that can be read.
    pub(super) fn read(places: &Places) -> Option<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(places.records.join(&places.guid))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(RECORD_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// The number of this boot.
pub(super) fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH)
        .map_err(|error| Error::io("read boot id", PATH, &error).hint("is /proc mounted?"))?;
    Ok(text.trim().to_owned())
}

/// A record whose root filesystem is being made (or taken back) by us alone.
#[derive(Debug)]
pub(super) struct Journal {
    creating: PathBuf,
    complete: PathBuf,
    lock: Flock<File>,
}

impl Journal {
    /// Writes the record. None: another create-fs saw the record before we could lock it, takes it for one whose
    /// creator is dead and removes it; another name is needed.
    pub(super) fn begin(places: &Places, record: &Record) -> Result<Option<Self>> {
        make_private(&places.records)?;
        let creating = places.records.join(format!("{}{CREATING}", places.guid));
        let failed = |error: &std::io::Error| Error::io("write record", creating.display(), error);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&creating)
            .map_err(|error| failed(&error).hint("check --state"))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if is_same_file(&lock, &creating) => lock,
            Ok(_) | Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(Error::sys("lock record", creating.display(), errno)),
        };
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::new("write record").because(error.to_string()))?;
        let mut this = Self {
            complete: places.records.join(&places.guid),
            creating,
            lock,
        };
        if let Err(error) = this.lock.write_all(&text) {
            this.forget()?;
            return Err(Error::io("write record", this.creating.display(), &error)
                .hint("check the space that --state has"));
        }
        Ok(Some(this))
    }

    /// The root filesystem is complete.
    pub(super) fn finish(&self) -> Result<()> {
        std::fs::rename(&self.creating, &self.complete)
            .map_err(|error| Error::io("complete record", self.creating.display(), &error))
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
    /// Somebody is making it, or taking back a half made one, right now.
    Busy,
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
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(State::Busy),
        Err((_, errno)) => return Err(Error::sys("lock record", creating.display(), errno)),
    };
    // Between opening and locking its creator may have completed it, or somebody else have removed it.
    if !is_same_file(&lock, &creating) {
        return Ok(State::Busy);
    }
    Ok(State::HalfMade(Journal {
        creating,
        complete,
        lock,
    }))
}

fn is_same_file(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
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
