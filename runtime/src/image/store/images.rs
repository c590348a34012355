//! The directory `BASE/images`: temporary names in it, who is alive, and making an import appear at once or not at all.
//!
//! An import unpacks into `.ID.<random>.tmp`, which it keeps locked (flock(2)), so that a later import of the same ID can
//! tell a killed one from a live one. The directory itself is locked only while names in it are made or exchanged.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::syncfs;
use shim::{Error, Result};

use super::record::file_name;
use crate::image::disk::{disk_hint, nameless, remove};
use crate::lock;

/// The open directory `BASE/images`.
#[derive(Debug)]
pub(in crate::image) struct Store {
    pub(in crate::image) images: File,
    pub(in crate::image) path: PathBuf,
    /// Directories that were made for it, outermost first.
    made: Vec<PathBuf>,
}

/// A locked directory under a temporary name, which is removed unless it is given its own name.
#[derive(Debug)]
pub(in crate::image) struct Staging<'store> {
    pub(in crate::image) store: &'store Store,
    pub(super) id: &'store str,
    pub(in crate::image) name: String,
    pub(in crate::image) directory: File,
    pub(super) published: bool,
}

impl Store {
    /// Opens `BASE/images`, and makes what is missing of it. Root filesystems contain set-user-ID programs, so `images`
    /// is for its owner alone.
    pub(in crate::image) fn open(base: &Path) -> Result<Self> {
        let path = base.join("images");
        let failed = |error: &io::Error| {
            with_disk_hint(
                Error::io("open image store", path.display(), error)
                    .hint("--base has to be a directory, or a place where one can be made"),
            )
        };
        let mut made = Vec::new();
        let missing = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        let opened = missing.iter().rev().try_for_each(|directory| {
            let mode = if *directory == path { 0o700 } else { 0o755 };
            match DirBuilder::new().mode(mode).create(directory) {
                Ok(()) => made.push(directory.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            Ok(())
        });
        let images = opened.and_then(|()| File::open(&path)).and_then(|images| {
            if images.metadata()?.is_dir() {
                Ok(images)
            } else {
                Err(io::Error::from_raw_os_error(nix::libc::ENOTDIR))
            }
        });
        match images {
            Ok(images) => Ok(Self { images, path, made }),
            Err(error) => {
                retract(&made);
                Err(failed(&error))
            }
        }
    }

    /// Removes the directories that were made for the store, if nothing is in them.
    pub(in crate::image) fn retract(&self) {
        retract(&self.made);
    }

    /// Locks the directory until the result is dropped.
    pub(in crate::image) fn lock(&self) -> Result<File> {
        let failed = |error: &io::Error| {
            with_disk_hint(Error::io("lock image store", self.path.display(), error))
        };
        // A lock belongs to the open file, so a new one is opened: the store's own stays unlocked.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let file = openat(&self.images, ".", flags, Mode::empty())
            .map_err(|errno| failed(&errno.into()))?;
        let file = File::from(file);
        if lock::take(&file, File::try_lock, lock::DEADLINE).map_err(|error| failed(&error))? {
            return Ok(file);
        }
        Err(Error::new("lock image store")
            .on(self.path.display())
            .because("another import has held it for 10 seconds")
            .hint("see who it is with fuser; it may be stopped or its disk may hang"))
    }

    /// Whether `name` is there, whatever it is.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match fstatat(&self.images, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed("look up image", name, errno)),
        }
    }

    /// Fails if an image `id` is there that must not be replaced by a directory or a record.
    pub(in crate::image) fn check_free(&self, id: &str, replace: bool) -> Result<()> {
        self.check_names(id, &[id, &file_name(id)], replace)
    }

    /// The same for an image that is the file `own`.
    pub(in crate::image) fn check_free_for(
        &self,
        id: &str,
        own: &str,
        replace: bool,
    ) -> Result<()> {
        self.check_names(id, &[own], replace)
    }

    /// An image under a name that is not one of `own` is of another kind, and never replaced.
    fn check_names(&self, id: &str, own: &[&str], replace: bool) -> Result<()> {
        for kind in ["", ".image", ".squashfs", ".erofs"] {
            let name = format!("{id}{kind}");
            let is_own = own.contains(&name.as_str());
            if (is_own && replace) || !self.has(&name)? {
                continue;
            }
            let error = Error::new("import image").on(id);
            return Err(if is_own {
                error
                    .because("an image of that id exists")
                    .hint("replace it with --replace, remove it first, or import under another id")
            } else {
                error
                    .because(format!("{name} exists"))
                    .hint("remove it first, or import under another id")
            });
        }
        Ok(())
    }

    /// Removes what killed imports of `id` left.
    pub(in crate::image) fn clean(&self, id: &str) -> Result<()> {
        self.clean_where(|other| other == id)
    }

    /// Removes what killed imports of any id left.
    pub(in crate::image) fn clean_all(&self) -> Result<()> {
        self.clean_where(|_| true)
    }

    fn clean_where(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let lock = self.lock()?;
        let dead = self.find_dead(wanted)?;
        drop(lock);
        self.remove_dead(&dead)
    }

    /// They stay locked until they are gone, so that nobody else removes them at the same time.
    fn remove_dead(&self, dead: &[(String, Option<File>)]) -> Result<()> {
        for (name, _locked) in dead {
            remove::remove(&self.images, name.as_bytes())
                .map_err(|errno| self.failed("remove what a killed import left", name, errno))?;
        }
        Ok(())
    }

    /// Makes the directory that `id` is unpacked into, and removes what killed imports of `id` left.
    pub(in crate::image) fn stage<'store>(
        &'store self,
        id: &'store str,
    ) -> Result<Staging<'store>> {
        let lock = self.lock()?;
        let dead = self.find_dead(|other| other == id)?;
        let name = temporary(id, "");
        let failed = |errno| self.failed("make directory", &name, errno);
        mkdirat(&self.images, name.as_str(), Mode::S_IRWXU).map_err(failed)?;
        let directory = self.open_directory(&name).map_err(failed)?;
        directory
            .try_lock()
            .map_err(|error| with_disk_hint(Error::io("lock directory", &name, &error.into())))?;
        drop(lock);
        let staging = Staging {
            store: self,
            id,
            name,
            directory,
            published: false,
        };
        self.remove_dead(&dead)?;
        Ok(staging)
    }

    /// A temporary file that has no name, in the store's filesystem.
    pub(in crate::image) fn spool(&self, id: &str) -> Result<File> {
        let failed = |errno| self.failed("make temporary file for", id, errno);
        nameless(self.images.as_fd(), &temporary(id, ".spool")).map_err(failed)
    }

    /// Makes a new file.
    pub(super) fn create(&self, name: &str) -> nix::Result<File> {
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.images, name, flags, Mode::from_bits_truncate(0o644)).map(File::from)
    }

    /// Opens a directory that is no link.
    pub(super) fn open_directory(&self, name: &str) -> nix::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.images, name, flags, Mode::empty()).map(File::from)
    }

    /// Waits until all that was written is on disk.
    pub(in crate::image) fn sync(&self) -> Result<()> {
        syncfs(&self.images).map_err(|errno| self.failed("write to disk", "", errno))
    }

    /// A failure to do `op` to a name in the store.
    pub(in crate::image) fn failed(&self, op: &'static str, name: &str, errno: Errno) -> Error {
        disk_hint(Error::sys(op, self.path.join(name).display(), errno), errno)
    }

    /// The temporary names of wanted ids that no live import has, with the lock on each. The store must be locked: a name
    /// that was just made is locked by then.
    fn find_dead(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Option<File>)>> {
        let failed = |errno| self.failed("list image store", "", errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.images, ".", flags, Mode::empty()).map_err(failed)?;
        let mut dead = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if !temporary_of(name).is_some_and(&wanted) {
                continue;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match openat(&self.images, name, flags, Mode::empty()).map(File::from) {
                Ok(file) => match file.try_lock() {
                    Ok(()) => dead.push((name.to_owned(), Some(file))),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => {
                        return Err(with_disk_hint(Error::io("lock", name, &error)));
                    }
                },
                // No import makes a link.
                Err(Errno::ELOOP) => dead.push((name.to_owned(), None)),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(self.failed("open", name, errno)),
            }
        }
        Ok(dead)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.published {
            // The error that led here is the one to report; what cannot be removed now, the next import removes.
            let _ = remove::remove(self.store.images.as_fd(), self.name.as_bytes());
        }
    }
}

/// A name that no other import has.
pub(in crate::image) fn temporary(id: &str, what: &str) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!(".{id}.{random:016x}{what}.tmp")
}

/// The id that a temporary name belongs to; ids may contain dots.
fn temporary_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let what = [".env", ".json", ".verity", ".image", ".spool"];
    let name = what
        .iter()
        .find_map(|what| name.strip_suffix(what))
        .unwrap_or(name);
    let (id, random) = name.rsplit_once('.')?;
    let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (random.len() == 16 && random.bytes().all(digit)).then_some(id)
}

fn with_disk_hint(error: Error) -> Error {
    match error.raw_errno() {
        Some(errno) => disk_hint(error, errno),
        None => error.or_hint("check the base directory, --base"),
    }
}

/// Removes directories, outermost first, if nothing is in them.
pub(super) fn retract(made: &[PathBuf]) {
    for directory in made.iter().rev() {
        // Fails where somebody else uses it by now, which is right.
        let _ = std::fs::remove_dir(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_belong_to_one_id() {
        for what in ["", ".env", ".json", ".verity", ".image", ".spool"] {
            for id in ["a", "a.b", "a.env", "a.0123456789abcdef"] {
                assert_eq!(temporary_of(&temporary(id, what)), Some(id), "{what}");
            }
        }
        for name in [
            "a",
            ".a.tmp",
            ".a.0123456789abcdef.other.tmp",
            ".a.0123456789abcdef",
        ] {
            assert_eq!(temporary_of(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_alive_is_not_removed_and_what_is_dead_is() {
        let base = std::env::temp_dir().join(format!("store-{}", std::process::id()));
        let store = Store::open(&base).unwrap();
        let [live, dead] = [".spool", ".spool"].map(|what| temporary("a", what));
        let file = store.create(&live).unwrap();
        file.lock().unwrap();
        drop(store.create(&dead).unwrap());
        let staging = store.stage("b").unwrap();
        let left = temporary("c", "");
        mkdirat(&store.images, left.as_str(), Mode::S_IRWXU).unwrap();
        std::fs::write(store.path.join("a.env"), "").unwrap();
        store.clean("c").unwrap();
        let has = |name: &str| store.has(name).unwrap();
        assert!(!has(&left) && has(&dead));
        store.clean_all().unwrap();
        assert!(has(&live) && has(&staging.name) && has("a.env") && !has(&dead));
        drop((file, staging));
        // A child that another test has just forked has the descriptors, and so the locks, until it executes.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_dir(&store.path).unwrap().count() != 1 {
            assert!(std::time::Instant::now() < deadline, "what is dead stays");
            store.clean_all().unwrap();
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}
