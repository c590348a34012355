//! The layers of all images, `DATA/layers`: each is unpacked once, and shared by all images and root filesystems.
//!
//! | path | what |
//! |---|---|
//! | `DATA/layers/KEY/fs` | the tree, as overlay wants a lower layer |
//! | `DATA/layers/KEY/layer.json` | what it is and how it was unpacked |
//! | `DATA/layers/KEY/contents` | what is in it, for `image verify` |
//! | `DATA/layers/.KEY.tmp` | being unpacked; locked by who does it |
//! | `DATA/bases/HASH` | a base directory whose images stand on these layers |
//!
//! The directory itself is locked (flock(2)): shared by everybody who relies on a layer that no record names yet, alone by
//! who removes layers. A lock goes with its holder, however it ends.

mod bases;
pub(in crate::image) mod chain;
pub(in crate::image) mod claim;
pub(in crate::image) mod contents;
mod info;
mod key;
pub(in crate::image) mod scan;

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use shim::{Error, Result, RootDir};

use crate::lock;

pub use bases::{Base, bases, forget_base, remember_base};
pub use info::Info;
pub use key::{Basis, LayerKey};

/// The open directory `DATA/layers`.
#[derive(Debug)]
pub struct Layers {
    directory: File,
    path: PathBuf,
    /// Directories that were made for it, outermost first.
    made: Vec<PathBuf>,
}

/// The directory's lock, until it is dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

impl Layers {
    /// Opens the store below `data`; nothing where there is none.
    ///
    /// # Errors
    /// Something in its place that is no directory, or may not be entered.
    pub fn open(data: &Path) -> Result<Option<Self>> {
        let path = data.join("layers");
        match open_directory(&path) {
            Ok(directory) => Ok(Some(Self {
                directory,
                path,
                made: Vec::new(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// The same, and makes what is missing. It is for its owner alone: layers contain set-user-ID programs.
    ///
    /// # Errors
    /// As [`Self::open`], and where it cannot be made.
    pub fn make(data: &Path) -> Result<Self> {
        if let Some(there) = Self::open(data)? {
            return Ok(there);
        }
        let path = data.join("layers");
        let missing = path.ancestors().take_while(|path| !path.exists());
        let mut made: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        made.reverse();
        let make = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let directory = make.and_then(|()| open_directory(&path));
        let directory = directory.map_err(|error| failed(&path, &error))?;
        Ok(Self {
            directory,
            path,
            made,
        })
    }

    /// Removes the directories that were made for the store, if nothing is in them.
    pub(in crate::image) fn retract(&self) {
        super::images::retract(&self.made);
    }

    /// Where the store is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps everybody from removing layers until the result is dropped. Waits 10 seconds at most for who does so.
    ///
    /// # Errors
    /// A filesystem without locks; somebody removes layers all the time.
    pub fn hold(&self) -> Result<Held> {
        self.locked(
            File::try_lock_shared,
            "an image gc has held them for 10 seconds",
        )
    }

    /// Keeps others from holding the store until the result is dropped. Waits 10 seconds at most until nobody does.
    ///
    /// # Errors
    /// A filesystem without locks; somebody holds the layers all the time: an import or a pull does to its end.
    pub fn hold_alone(&self) -> Result<Held> {
        self.locked(
            File::try_lock,
            "an import, pull or export has held them for 10 seconds",
        )
    }

    fn locked(
        &self,
        lock: fn(&File) -> std::result::Result<(), TryLockError>,
        why_not: &'static str,
    ) -> Result<Held> {
        let failed = |error: io::Error| {
            Error::io("lock layers", self.path.display(), &error).hint(
                "the filesystem of the data directory needs flock(2); choose another with --data",
            )
        };
        // A lock belongs to the open file, so each holder has one of its own.
        let file = open_below(&self.directory, ".").map_err(|errno| failed(errno.into()))?;
        if lock::take(&file, lock, lock::DEADLINE).map_err(failed)? {
            return Ok(Held { _file: file });
        }
        Err(Error::new("lock layers")
            .on(self.path.display())
            .because(why_not)
            .hint("try again when it has ended; fuser tells who it is"))
    }

    /// The directory itself, which the trees are reached from as `KEY/fs`.
    ///
    /// # Errors
    /// It has no entry in the caller's mount namespace any more.
    pub fn directory(&self) -> Result<RootDir> {
        let copy = self.directory.try_clone();
        copy.map(|file| RootDir::from(OwnedFd::from(file)))
            .map_err(|error| failed(&self.path, &error))
    }

    /// Opens the tree of a layer; nothing where the layer is not there.
    ///
    /// # Errors
    /// What is there cannot be entered.
    pub fn tree(&self, key: &LayerKey) -> Result<Option<RootDir>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self
            .directory()?
            .open_plain(&key.tree(), flags, Mode::empty())
        {
            Ok(tree) => Ok(Some(tree.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => {
                Err(
                    Error::sys("open layer", self.path.join(key.tree()).display(), errno)
                        .hint("needs root; check --data"),
                )
            }
        }
    }

    /// The layers that are complete, in order.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn list(&self) -> Result<Vec<LayerKey>> {
        let mut keys: Vec<_> = self
            .names()?
            .iter()
            .filter_map(|name| LayerKey::read(name))
            .collect();
        keys.sort();
        Ok(keys)
    }

    pub(super) fn directory_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Every name in the directory that is text.
    fn names(&self) -> Result<Vec<String>> {
        let failed = |errno| {
            Error::sys("list layers", self.path.display(), errno).hint("check the disk it is on")
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing =
            Dir::openat(&self.directory, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            match entry.map_err(failed)?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY)
        .open(path)
}

fn open_below(directory: &File, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map(File::from)
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::io("open layers", path.display(), error)
        .hint("--data has to be a directory of the caller's, or a place where one can be made")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rights;

    #[test]
    fn layers_are_found_by_their_keys() {
        let data = std::env::temp_dir().join(format!("layers-{}", std::process::id()));
        assert!(Layers::open(&data).unwrap().is_none());
        let layers = Layers::make(&data).unwrap();
        let key = |digit: &str| {
            LayerKey::new(
                &format!("sha256:{}", digit.repeat(64)),
                Basis::Alone,
                Rights::Root,
            )
            .unwrap()
        };
        for name in [key("b").as_str(), key("a").as_str(), ".x.tmp", "x"] {
            std::fs::create_dir_all(layers.path().join(name).join("fs")).unwrap();
        }
        assert_eq!(layers.list().unwrap(), [key("a"), key("b")]);
        assert!(layers.tree(&key("a")).unwrap().is_some());
        assert!(layers.tree(&key("c")).unwrap().is_none());
        // A link in the place of a tree leads nowhere.
        std::fs::remove_dir(layers.path().join(key("a").tree())).unwrap();
        std::os::unix::fs::symlink("/", layers.path().join(key("a").tree())).unwrap();
        assert!(layers.tree(&key("a")).is_err());
        std::fs::remove_dir_all(&data).unwrap();
    }

    #[test]
    fn who_removes_waits_for_who_relies_on_layers() {
        let data = std::env::temp_dir().join(format!("layers-lock-{}", std::process::id()));
        let layers = Layers::make(&data).unwrap();
        let first = layers.hold().unwrap();
        let second = layers.hold().unwrap();
        let probe = || open_below(&layers.directory, ".").unwrap();
        assert!(probe().try_lock().is_err());
        drop(first);
        assert!(probe().try_lock().is_err());
        drop(second);
        let alone = layers.hold_alone().unwrap();
        assert!(probe().try_lock_shared().is_err());
        drop(alone);
        // A child that another test has just forked holds it until it executes something.
        assert!(lock::take(&probe(), File::try_lock, lock::DEADLINE).unwrap());
        std::fs::remove_dir_all(&data).unwrap();
    }
}
