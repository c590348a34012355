//! Blobs on their way: what has been fetched of one stays in `DATA/blobs/sha256-HEX.part` until its image is imported, so
//! that a pull which was interrupted goes on where it was.
//!
//! Who writes to a part holds its lock (flock(2)), which goes with its holder. A part is removed only by who has its lock,
//! so a name that leads to a locked file goes on leading to it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use shim::{Error, Result};

/// How often a part may be removed by others between its opening and its locking.
const RACES_MAX: usize = 100;

/// The open directory `DATA/blobs`.
#[derive(Debug)]
pub struct Parts {
    directory: File,
    path: PathBuf,
}

/// What there is of a blob.
#[derive(Debug)]
pub struct Part {
    /// Its content so far.
    pub file: File,
    name: String,
}

/// What came of claiming a part.
#[derive(Debug)]
pub enum Claim {
    /// It is the caller's, until it is released or dropped.
    Ours(Part),
    /// Somebody else is fetching it, and has so many bytes.
    Busy(u64),
}

impl Parts {
    /// Opens the directory below `data`, and makes what is missing; it is for its owner alone.
    ///
    /// # Errors
    /// It cannot be made or entered.
    pub fn open(data: &Path) -> Result<Self> {
        let path = data.join("blobs");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let opened = made.and_then(|()| {
            File::options()
                .read(true)
                .custom_flags(flags.bits())
                .open(&path)
        });
        let directory = opened.map_err(|error| {
            Error::io("open directory of blobs", path.display(), &error).hint(
                "--data has to be a directory of the caller's, or a place where one can be made",
            )
        })?;
        Ok(Self { directory, path })
    }

    /// Where the parts are, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes what there is of a blob (`sha256:` and hex), possibly nothing yet.
    ///
    /// # Errors
    /// A digest of another form; a file that cannot be made, or a filesystem without locks.
    pub fn claim(&self, digest: &str) -> Result<Claim> {
        let name = name_of(digest)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        for _ in 0..RACES_MAX {
            let file = openat(&self.directory, name.as_str(), flags, mode);
            let file = File::from(file.map_err(|errno| self.failed("open", &name, errno.into()))?);
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let found = file.metadata();
                    let found = found.map_err(|error| self.failed("look at", &name, error))?;
                    return Ok(Claim::Busy(found.len()));
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", &name, error)),
            }
            let part = Part {
                file,
                name: name.clone(),
            };
            if self.leads_to(&part)? {
                return Ok(Claim::Ours(part));
            }
        }
        Err(self.failed("lock", &name, Errno::EBUSY.into()))
    }

    /// Removes a part, unless somebody else has it by now.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn remove(&self, part: &Part) -> Result<()> {
        match part.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(self.failed("lock", &part.name, error)),
        }
        if !self.leads_to(part)? {
            return Ok(());
        }
        unlinkat(
            &self.directory,
            part.name.as_str(),
            UnlinkatFlags::NoRemoveDir,
        )
        .map_err(|errno| self.failed("remove", &part.name, errno.into()))
    }

    /// Removes the parts that nobody has, and nobody has written to for so long.
    ///
    /// # Errors
    /// As [`Self::remove`], and those of reading the directory.
    pub fn remove_older(&self, age: Duration) -> Result<()> {
        let failed = |errno: Errno| self.failed("list", "", errno.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing =
            Dir::openat(&self.directory, ".", flags, Mode::empty()).map_err(failed)?;
        for entry in listing.iter() {
            let entry = entry.map_err(failed)?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| is_part(name)) else {
                continue;
            };
            let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let Ok(file) = openat(&self.directory, name, flags, Mode::empty()) else {
                continue;
            };
            let file = File::from(file);
            let written = file.metadata().and_then(|found| found.modified());
            let written = written.map_err(|error| self.failed("look at", name, error))?;
            let since = SystemTime::now().duration_since(written);
            if since.is_ok_and(|since| since >= age) {
                let name = name.to_owned();
                self.remove(&Part { file, name })?;
            }
        }
        Ok(())
    }

    /// Whether the part still has its name.
    fn leads_to(&self, part: &Part) -> Result<bool> {
        let ours = part.file.metadata();
        let ours = ours.map_err(|error| self.failed("look at", &part.name, error))?;
        match fstatat(
            &self.directory,
            part.name.as_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(found) => Ok((found.st_dev, found.st_ino) == (ours.dev(), ours.ino())),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed("look at", &part.name, errno.into())),
        }
    }

    fn failed(&self, what: &str, name: &str, error: io::Error) -> Error {
        Error::io(
            format!("{what} part of a blob"),
            self.path.join(name).display(),
            &error,
        )
        .hint("check the data directory, --data, and the disk it is on")
    }
}

impl Part {
    /// Lets others have it. What is in it can still be read here, also when it is removed.
    ///
    /// # Errors
    /// Those of flock(2).
    pub fn release(&self) -> Result<()> {
        self.file.unlock().map_err(|error| {
            Error::io("unlock part of a blob", &self.name, &error).hint("check the disk it is on")
        })
    }
}

fn name_of(digest: &str) -> Result<String> {
    let name = digest
        .strip_prefix("sha256:")
        .map(|hex| format!("sha256-{hex}.part"));
    name.filter(|name| is_part(name)).ok_or_else(|| {
        Error::new("find part of a blob")
            .on(digest)
            .because("the digest is no sha256 in lower-case hex")
            .hint("other algorithms are not supported")
    })
}

fn is_part(name: &str) -> bool {
    let hex = name
        .strip_prefix("sha256-")
        .and_then(|rest| rest.strip_suffix(".part"));
    hex.is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("parts-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> usize {
            std::fs::read_dir(self.0.join("blobs")).unwrap().count()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn digest() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    /// A child that another test has just forked holds what was open then until it executes something.
    fn ours(parts: &Parts) -> Part {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            match parts.claim(&digest()).unwrap() {
                Claim::Ours(part) => return part,
                Claim::Busy(length) => {
                    assert!(Instant::now() < end, "busy with {length} bytes");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    #[test]
    fn one_at_a_time_and_what_was_written_stays() {
        let scratch = Scratch::new("claim");
        let parts = Parts::open(&scratch.0).unwrap();
        let mut first = ours(&parts);
        first.file.write_all(b"abc").unwrap();
        assert!(matches!(parts.claim(&digest()), Ok(Claim::Busy(3))));
        // Somebody else's is not removed.
        let copy = Part {
            file: File::open(scratch.0.join("blobs").join(&first.name)).unwrap(),
            name: first.name.clone(),
        };
        parts.remove(&copy).unwrap();
        assert_eq!(scratch.names(), 1);
        drop(first);
        let second = ours(&parts);
        assert_eq!(second.file.metadata().unwrap().len(), 3);
        second.release().unwrap();
        let third = ours(&parts);
        parts.remove(&third).unwrap();
        assert_eq!(scratch.names(), 0);
        // The name is somebody else's now.
        drop(third);
        let fourth = ours(&parts);
        parts.remove(&second).unwrap();
        assert_eq!(scratch.names(), 1);
        drop(fourth);
    }

    #[test]
    fn old_parts_go_and_those_in_use_stay() {
        let scratch = Scratch::new("old");
        let parts = Parts::open(&scratch.0).unwrap();
        let part = ours(&parts);
        parts.remove_older(Duration::ZERO).unwrap();
        assert_eq!(scratch.names(), 1);
        part.release().unwrap();
        parts.remove_older(Duration::from_secs(3600)).unwrap();
        assert_eq!(scratch.names(), 1);
        std::fs::write(scratch.0.join("blobs/other"), "").unwrap();
        parts.remove_older(Duration::ZERO).unwrap();
        assert_eq!(scratch.names(), 1);
        for bad in ["sha256:../x", "sha512:aa", ""] {
            assert!(parts.claim(bad).is_err(), "{bad}");
        }
    }
}
