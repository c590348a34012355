//! Who unpacks a layer: the directory `DATA/layers/.NAME.tmp`, locked (flock(2)) as long as its importer lives.
//!
//! Another importer of the same layer waits for the lock. Afterwards it finds the layer, or, where the first one has failed
//! or was killed, takes its place. Whatever is under such a name and not locked is a dead one's.

use std::collections::hash_map::RandomState;
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, syncfs, unlinkat};
use shim::{Error, Result};

use super::info::Info;
use super::{LayerKey, Layers, open_below};
use crate::image::disk::{disk_hint, remove};
use crate::image::unpack::lower::white_out;

/// The right to unpack a layer; removed with what is in it unless that was published.
#[derive(Debug)]
pub(crate) struct Claim<'layers> {
    layers: &'layers Layers,
    name: String,
    directory: File,
}

/// A place where a layer is unpacked.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its name in the claim.
    name: String,
    /// What becomes `KEY`.
    directory: File,
    /// What becomes `KEY/fs`.
    pub(crate) tree: File,
}

impl Layers {
    /// Waits until nobody else unpacks what goes by `name` (a DiffID and how it is unpacked).
    pub(crate) fn claim(&self, name: &str) -> Result<Claim<'_>> {
        let name = format!(".{name}.tmp");
        let failed = |errno| self.failed("claim layer", &name, errno);
        loop {
            match mkdirat(&self.directory, name.as_str(), Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let directory = match open_below(&self.directory, &name) {
                Ok(directory) => directory,
                // Whoever had it has just removed it.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            match directory.lock() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(errno_of(&error))),
            }
            if !self.is_still(&name, &directory).map_err(failed)? {
                continue;
            }
            // What a dead one left is of no use: nobody knows how far it came.
            remove::empty_but(self.directory_fd(), name.as_bytes(), remove::Keep::Nothing)
                .map_err(failed)?;
            return Ok(Claim {
                layers: self,
                name,
                directory,
            });
        }
    }

    /// A claim to something that has no name yet.
    pub(crate) fn claim_new(&self) -> Result<Claim<'_>> {
        let random = RandomState::new().build_hasher().finish();
        self.claim(&format!("new-{random:016x}"))
    }

    /// Whether a layer here can hide what those below it have. An overlay, and with it the root filesystem of many a
    /// container, refuses the device that says so with EPERM (`ovl_mknod` in fs/overlayfs/dir.c). Whatever else is the
    /// matter, an import finds out by itself.
    pub(crate) fn can_hide(&self) -> bool {
        let Ok(claim) = self.claim_new() else {
            return true;
        };
        white_out(&claim.directory, b"whiteout") != Err(Errno::EPERM)
    }

    /// Removes what dead importers have left.
    pub(crate) fn clean(&self) -> Result<()> {
        for name in self.names()? {
            if !(name.starts_with('.') && name.ends_with(".tmp")) {
                continue;
            }
            let Ok(directory) = open_below(&self.directory, &name) else {
                continue;
            };
            match directory.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    return Err(self.failed("claim layer", &name, errno_of(&error)));
                }
            }
            remove::remove(&self.directory, name.as_bytes())
                .map_err(|errno| self.failed("remove what a killed import left", &name, errno))?;
        }
        Ok(())
    }

    /// Waits until all that was written is on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        syncfs(&self.directory).map_err(|errno| self.failed("write to disk", "", errno))
    }

    /// Waits until the names in the directory are on disk.
    pub(crate) fn sync_names(&self) -> Result<()> {
        fsync(&self.directory).map_err(|errno| self.failed("write to disk", "", errno))
    }

    fn is_still(&self, name: &str, directory: &File) -> nix::Result<bool> {
        let held = fstat(directory)?;
        match fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// A failure to do `op` to a name in the store.
    pub(crate) fn failed(&self, op: &'static str, name: &str, errno: Errno) -> Error {
        disk_hint(Error::sys(op, self.path.join(name).display(), errno), errno)
    }
}

impl Claim<'_> {
    /// Makes a place to unpack to; each of a claim needs another name.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        let make = || {
            mkdirat(&self.directory, name, Mode::S_IRWXU)?;
            let directory = open_below(&self.directory, name)?;
            mkdirat(&directory, "fs", Mode::S_IRWXU)?;
            let tree = open_below(&directory, "fs")?;
            Ok(Place {
                name: name.to_owned(),
                directory,
                tree,
            })
        };
        make().map_err(|errno| self.layers.failed("make directory", &self.name, errno))
    }

    /// Takes a layer away, to be removed with the claim.
    pub(crate) fn take(&self, key: &LayerKey) -> Result<()> {
        let (from, to) = (&self.layers.directory, &self.directory);
        let flags = RenameFlags::RENAME_NOREPLACE;
        renameat2(from, key.as_str(), to, key.as_str(), flags)
            .map_err(|errno| self.layers.failed("remove layer", key.as_str(), errno))
    }

    /// Makes what was unpacked a layer. Says whether it is; otherwise somebody else has made the same one.
    pub(crate) fn publish(&self, place: &Place, key: &LayerKey) -> Result<bool> {
        let (from, to) = (&self.directory, &self.layers.directory);
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(from, place.name.as_str(), to, key.as_str(), flags) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(self.layers.failed("give name", key.as_str(), errno)),
        }
    }
}

impl Place {
    /// Makes a file beside the tree.
    pub(crate) fn create(&self, name: &str) -> nix::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        openat(&self.directory, name, flags, mode).map(File::from)
    }

    /// Writes the layer's record.
    pub(crate) fn write_info(&self, info: &Info) -> Result<()> {
        let text = info.text()?;
        let written = self.create("layer.json").map_err(io::Error::from);
        written
            .and_then(|mut file| file.write_all(&text))
            .map_err(|error| {
                let errno = errno_of(&error);
                disk_hint(
                    Error::sys("write record of layer", &self.name, errno),
                    errno,
                )
            })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // While it is locked. What cannot be removed now, the next import removes.
        let name = self.name.as_str();
        let empty = unlinkat(&self.layers.directory, name, UnlinkatFlags::RemoveDir);
        if empty.is_err() {
            let _ = remove::remove(&self.layers.directory, name.as_bytes());
        }
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rights;
    use crate::image::store::layers::Basis;

    #[test]
    fn one_claims_a_layer_and_the_next_takes_over() {
        let data = std::env::temp_dir().join(format!("claim-{}", std::process::id()));
        let layers = Layers::make(&data).unwrap();
        let key = LayerKey::new(
            &format!("sha256:{}", "a".repeat(64)),
            Basis::Alone,
            Rights::Root,
        )
        .unwrap();
        // A dead one's.
        std::fs::create_dir_all(layers.path().join(".a.tmp/0/fs/x")).unwrap();
        std::fs::create_dir_all(layers.path().join(".b.tmp/0/fs/x")).unwrap();
        let first = layers.claim("a").unwrap();
        assert_eq!(
            std::fs::read_dir(layers.path().join(".a.tmp"))
                .unwrap()
                .count(),
            0
        );
        let place = first.place("0").unwrap();
        // What is alive is not removed, what is dead is.
        layers.clean().unwrap();
        assert_eq!(layers.names().unwrap(), [".a.tmp"]);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let claim = layers.claim("a").unwrap();
                (layers.list().unwrap(), claim.name.clone())
            });
            assert!(first.publish(&place, &key).unwrap());
            drop(first);
            assert_eq!(
                second.join().unwrap(),
                (vec![key.clone()], ".a.tmp".to_owned())
            );
        });
        let again = layers.claim("a").unwrap();
        let place = again.place("0").unwrap();
        assert!(!again.publish(&place, &key).unwrap());
        drop(again);
        assert_eq!(layers.names().unwrap(), [key.as_str()]);
        std::fs::remove_dir_all(&data).unwrap();
    }
}
