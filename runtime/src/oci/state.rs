//! A container that is there: its directory, its lock, and what state follows from what is in it.
//!
//! Whether PID 1 lives is asked of the kernel; whether it has been started is told by the name of a FIFO, which can be
//! removed on a full disk, too.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;
use serde::Serialize;
use shim::sys::pidfd;
use shim::{Error, Result};

use super::id::ContainerId;
use super::record::Record;
use crate::identity::{boot_id, has_ended};
use crate::lock;

pub(super) const RECORD: &str = "state.json";
/// The copy of config.json as it was at `create`.
pub(super) const CONFIG: &str = "config.json";
pub(super) const LOCK: &str = "lock";
pub(super) const START: &str = "start";
pub(super) const ANSWER: &str = "answer";
/// A directory: where the container says that it is ready.
pub(super) const NOTIFY: &str = "notify";
/// Why there is no lock to take.
const NO_LOCK: &str =
    "it has just been deleted, or create was killed: delete --force removes what is left";
/// How long that takes as a rule.
const KILL_SOON: Duration = Duration::from_secs(1);
/// How long the rest may take after SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// Where all containers are.
#[derive(Debug)]
pub(super) struct Store(pub(super) PathBuf);

/// The states of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// The ids of all containers, in order.
    ///
    /// # Errors
    /// Those of reading a directory; none is no error.
    pub(super) fn ids(&self) -> Result<Vec<ContainerId>> {
        let failed = |error: &io::Error| Error::io("list containers in", self.0.display(), error);
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failed(&error))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            ids.extend(ContainerId::new(&name));
        }
        ids.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        Ok(ids)
    }

    /// The container of this id.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn find(&self, id: &ContainerId) -> Result<Container> {
        let dir = self.0.join(id.as_str());
        if dir.is_dir() {
            return Ok(Container {
                id: id.clone(),
                dir,
            });
        }
        let hint = format!("there is no {}; see list, and --root", dir.display());
        Err(missing(id, hint))
    }
}

fn missing(id: &ContainerId, hint: String) -> Error {
    // Engines look for these words.
    let error = Error::new("find container").on(id);
    error.because("container does not exist").hint(hint)
}

/// A container that is there, in whatever state.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) dir: PathBuf,
}

impl Container {
    /// Where a file of its directory is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Takes the lock, waiting for whoever has it.
    ///
    /// # Errors
    /// It is taken for ten seconds; the container has just been deleted, or is only just being made.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.path(LOCK);
        let opened = File::options().append(true).open(&path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(&self.id, NO_LOCK.to_owned()),
            _ => Error::io("lock", path.display(), &error).hint("see --root"),
        })?;
        self.take(file)
    }

    /// Takes the lock of an open file.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub(super) fn take(&self, file: File) -> Result<File> {
        let path = self.path(LOCK);
        match lock::take(&file, File::try_lock, lock::DEADLINE) {
            Ok(true) if lock::is_still(&file, &path) => Ok(file),
            Ok(true) => Err(missing(&self.id, NO_LOCK.to_owned())),
            Ok(false) => Err(Error::new("lock container")
                .on(&self.id)
                .because("another verb is at work on it for ten seconds")
                .hint("try again when that has ended")),
            Err(error) => Err(Error::io("lock", path.display(), &error).hint("see --root")),
        }
    }

    /// What is written down; none where `create` has been killed at once, or has only just begun.
    pub(super) fn record(&self) -> Option<Record> {
        let bytes = std::fs::read(self.path(RECORD)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The state, and PID 1 if it lives.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(super) fn look(&self) -> Result<Seen> {
        let boot_id = boot_id()?;
        let record = self.record();
        let init = record.as_ref().and_then(|record| record.live(&boot_id));
        let pid = record
            .as_ref()
            .and_then(|record| record.init)
            .filter(|_| init.is_some())
            .map(|identity| identity.pid);
        let known = record.as_ref().is_some_and(|record| record.init.is_some());
        let status = match &init {
            None if known => Status::Stopped,
            None => Status::Creating,
            Some(_) if record.as_ref().is_some_and(Record::is_paused) => Status::Paused,
            Some(_) if self.path(START).exists() => Status::Created,
            Some(_) => Status::Running,
        };
        Ok(Seen {
            status,
            pid,
            init,
            record,
        })
    }

    /// PID 1 of a container that is created or running.
    ///
    /// # Errors
    /// It has ended, or is not there yet.
    pub(super) fn running(&self, op: &'static str) -> Result<(OwnedFd, Record)> {
        match self.look()? {
            Seen {
                init: Some(init),
                record: Some(record),
                ..
            } => Ok((init, record)),
            seen => Err(Error::new(op)
                .on(&self.id)
                .because("container not running")
                .hint(format!("it is {}", seen.status.name()))),
        }
    }

    /// Lets the program go; the lock must be held.
    ///
    /// # Errors
    /// It is not waiting; it cannot be executed.
    pub(super) fn start(&self) -> Result<()> {
        let seen = self.look()?;
        let wrong = |why: String| {
            Error::new("start container")
                .on(&self.id)
                .because(why)
                .hint("only a created container can be started, and once")
        };
        if seen.status != Status::Created {
            return Err(wrong(format!(
                "cannot start a container that is {}",
                seen.status.name()
            )));
        }
        let open = |name: &str, write: bool| {
            let mut options = File::options();
            options.read(!write).write(write);
            options.custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW);
            let opened = options.open(self.path(name));
            opened
                .map(OwnedFd::from)
                .map_err(|error| match error.raw_os_error() {
                    // Nobody has the other end.
                    Some(nix::libc::ENXIO) => wrong("it has just ended".to_owned()),
                    _ => Error::io("open", self.path(name).display(), &error),
                })
        };
        let answer = open(ANSWER, false)?;
        let start = open(START, true)?;
        let program = seen.record.map(|record| record.program).unwrap_or_default();
        // From here on it counts as running.
        std::fs::remove_file(self.path(START))
            .map_err(|error| Error::io("remove", self.path(START).display(), &error))?;
        let released = shim::held::release(&program, &start, &answer);
        // Nobody needs it any more; `delete` would take it, too.
        let _ = std::fs::remove_file(self.path(ANSWER));
        released
    }

    /// Ends PID 1, if it lives, and with it all processes.
    ///
    /// # Errors
    /// It does not end within ten seconds.
    pub(super) fn end(&self) -> Result<()> {
        let seen = self.look()?;
        let Some(init) = seen.init else {
            return Ok(());
        };
        let _ = pidfd::send_signal(&init, nix::libc::SIGKILL);
        let group = seen.record.and_then(|record| record.group());
        if seen.status == Status::Paused
            && let Some(group) = &group
        {
            // In a freezer of version 1 not even that arrives.
            group.thaw()?;
        }
        if has_ended(&init, KILL_SOON) {
            return Ok(());
        }
        if let (Some(group), Some(pid)) = (&group, seen.pid) {
            // Somebody may have put it into another one, which is frozen.
            let _ = group.join(Pid::from_raw(pid), true);
        }
        if has_ended(&init, KILL_GRACE) {
            return Ok(());
        }
        Err(Error::new("end container")
            .on(&self.id)
            .because("its PID 1 does not end")
            .hint("a process may hang in the kernel: see its state with ps"))
    }

    /// Removes the cgroups, with what is left in them, groups of resctrl, a root that others see, and the directory; the lock must be
    /// held. That goes last: whoever waits for it finds out that it has gone.
    ///
    /// # Errors
    /// Those of the filesystem; a process does not end.
    pub(super) fn remove(&self) -> Result<()> {
        if let Some(record) = self.record().filter(Record::of_this_boot) {
            record.cgroups.remove()?;
            record.intel_rdt.remove()?;
            if let Some(root) = &record.shared_root {
                root.remove(&record.rootfs)?;
            }
        }
        let remove = || {
            for entry in std::fs::read_dir(&self.dir)? {
                let entry = entry?;
                match entry.file_name() {
                    name if name == LOCK => {}
                    name if name == NOTIFY => std::fs::remove_dir_all(entry.path())?,
                    _ => std::fs::remove_file(entry.path())?,
                }
            }
            std::fs::remove_file(self.path(LOCK))?;
            std::fs::remove_dir(&self.dir)
        };
        remove().map_err(|error| {
            Error::io("remove", self.dir.display(), &error)
                .hint("delete --force goes on with it when that is mended")
        })
    }

    /// Removes the directory where nothing is in it: of a `create` or `delete` that was killed at its first, or last, call.
    pub(super) fn remove_empty(&self) -> bool {
        std::fs::remove_dir(&self.dir).is_ok()
    }
}

/// What a look at a container has shown.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) pid: Option<i32>,
    pub(super) init: Option<OwnedFd>,
    pub(super) record: Option<Record>,
}
