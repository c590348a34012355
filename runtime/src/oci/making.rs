//! A container that is being made: its directory, its lock, its FIFOs and what is written down of it. All of that goes again
//! unless it is finished.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use shim::held::Hold;
use shim::{Error, Result};

use super::id::ContainerId;
use super::record::Record;
use super::state::{ANSWER, Container, LOCK, RECORD, START, Store};
use crate::identity::Identity;

/// A container that is being made.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) container: Container,
    _lock: File,
    finished: bool,
}

impl Store {
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
    let failed = |error: &io::Error| {
        Error::io("write pid file", path.display(), error)
            .hint("its directory must be there, and have room")
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, pid.to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| failed(&error))
}
