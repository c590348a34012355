//! The directory of a container: its record, its lock, its FIFOs; and what state follows from them.
//!
//! What is written down is who PID 1 is. Whether it lives is asked of the kernel, by start time and boot id; whether it
//! has been started is told by the name of a FIFO, which can be removed on a full disk, too.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde::{Deserialize, Serialize};
use shim::held::Hold;
use shim::sys::pidfd;
use shim::{Error, Result};

use super::id::ContainerId;
use crate::cgroup::{Group, Places};
use crate::identity::{Identity, boot_id, has_ended};
use crate::lock;

const RECORD: &str = "state.json";
/// The copy of config.json as it was at `create`.
pub(super) const CONFIG: &str = "config.json";
const LOCK: &str = "lock";
const START: &str = "start";
const ANSWER: &str = "answer";
/// Why there is no lock to take.
const NO_LOCK: &str =
    "it has just been deleted, or create was killed: delete --force removes what is left";
/// How long the rest may take after SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// Where all containers are.
#[derive(Debug)]
pub(super) struct Store(PathBuf);

/// What is written down about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    boot_id: String,
    /// PID 1, once there is one.
    init: Option<Identity>,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    /// The namespaces of its own, by the names of the plan.
    pub(super) namespaces: Vec<String>,
    /// Whether the configuration has hooks.
    #[serde(default)]
    pub(super) hooks: bool,
    /// What the program is called in messages.
    pub(super) program: String,
    /// When it was made, as RFC 3339 has it.
    pub(super) created: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// Its cgroups, of this boot.
    pub(super) cgroups: Places,
}

impl Record {
    /// That of a container without PID 1.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(super) fn new(bundle: PathBuf, rootfs: PathBuf, created: String) -> Result<Self> {
        Ok(Self {
            boot_id: boot_id()?,
            init: None,
            bundle,
            rootfs,
            namespaces: Vec::new(),
            hooks: false,
            program: String::new(),
            created,
            annotations: BTreeMap::new(),
            cgroups: Places::default(),
        })
    }

    /// Its cgroups, as far as they are there.
    pub(super) fn group(&self) -> Option<Group> {
        let group = self.of_this_boot().then(|| Group::open(&self.cgroups));
        group.filter(|group| !group.is_empty())
    }

    fn is_paused(&self) -> bool {
        self.group().is_some_and(|group| group.is_frozen())
    }

    fn of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot_id| self.boot_id == boot_id)
    }

    /// PID 1, if it lives.
    fn live(&self, boot_id: &str) -> Option<OwnedFd> {
        self.init.filter(|_| self.boot_id == boot_id)?.open()
    }
}

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

    /// Makes the directory of a new container and locks it; it goes when the value is dropped, unless
    /// [`Making::finish`] is called.
    ///
    /// # Errors
    /// There is one of this id already; the root cannot be written to.
    pub(super) fn make(&self, id: &ContainerId) -> Result<Making> {
        let dir = self.0.join(id.as_str());
        let failed = |error: &io::Error| {
            Error::io("make the state of container", id, error)
                .hint(format!("{} must be writable; see --root", self.0.display()))
        };
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
            .recursive(true)
            .create(&self.0)
            .map_err(|error| failed(&error))?;
        match builder.recursive(false).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::new("create container")
                    .on(id)
                    .because("container with given ID already exists")
                    .hint(format!(
                        "delete it first: start-container delete --force {id}"
                    )));
            }
            other => other.map_err(|error| failed(&error))?,
        }
        let container = Container {
            id: id.clone(),
            dir,
        };
        let mut options = File::options();
        options.create_new(true).append(true).mode(0o600);
        let lock = options
            .open(container.path(LOCK))
            .map_err(|error| failed(&error))?;
        let lock = container.take(lock)?;
        Ok(Making {
            container,
            _lock: lock,
            finished: false,
        })
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
    fn path(&self, name: &str) -> PathBuf {
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

    fn take(&self, file: File) -> Result<File> {
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
        if seen.status == Status::Paused
            && let Some(group) = seen.record.and_then(|record| record.group())
        {
            // In a freezer of version 1 not even that arrives.
            group.thaw()?;
        }
        if has_ended(&init, KILL_GRACE) {
            return Ok(());
        }
        Err(Error::new("end container")
            .on(&self.id)
            .because("its PID 1 does not end")
            .hint("a process may hang in the kernel: see its state with ps"))
    }

    /// Removes the cgroups, with what is left in them, and the directory; the lock must be held. That goes last: whoever
    /// waits for it finds out that it has gone.
    ///
    /// # Errors
    /// Those of the filesystem; a process does not end.
    pub(super) fn remove(&self) -> Result<()> {
        if let Some(record) = self.record().filter(Record::of_this_boot) {
            record.cgroups.remove()?;
        }
        let remove = || {
            for entry in std::fs::read_dir(&self.dir)? {
                let entry = entry?;
                if entry.file_name() != LOCK {
                    std::fs::remove_file(entry.path())?;
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

/// A container that is being made.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) container: Container,
    _lock: File,
    finished: bool,
}

impl Making {
    /// Writes the record, all of it or nothing.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        self.put(RECORD, &bytes)
    }

    /// Writes down who PID 1 is.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn born(&self, record: &mut Record, pid: Pid) -> Result<()> {
        record.init = Identity::of(pid.as_raw());
        self.write(record)
    }

    /// Writes a file of the container's directory.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, new) = (self.container.path(name), self.container.path(".new"));
        let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|error| {
            Error::io("write", path.display(), &error).hint("the directory may be full; see --root")
        })
    }

    /// Makes the FIFOs, open for PID 1.
    ///
    /// # Errors
    /// Those of mkfifo(3) and open(2).
    pub(super) fn hold(&self) -> Result<Hold> {
        let fifo = |name: &str| {
            let path = self.container.path(name);
            let failed = |errno: Errno| Error::sys("make FIFO", path.display(), errno);
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
            let opened = File::options().read(true).write(true).open(&path);
            opened
                .map(OwnedFd::from)
                .map_err(|error| Error::io("open", path.display(), &error))
        };
        Ok(Hold {
            start: fifo(START)?,
            answer: fifo(ANSWER)?,
        })
    }

    /// The container stays.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.finished {
            // What is left then is for `delete --force`.
            let _ = self.container.remove();
        }
    }
}

/// Writes a number to `--pid-file`, all of it or nothing: conmon and containerd read it when we have ended.
///
/// # Errors
/// Those of the filesystem.
pub(super) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let failed = |error: &io::Error| Error::io("write pid file", path.display(), error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, pid.to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| failed(&error))
}
