//! Which base directories have images that stand on the layers of a data directory: `DATA/bases/HASH`, the path as it is.
//!
//! Layers are shared by bases, so who removes layers has to look at the records of all of them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use shim::{Error, Result};

use crate::image::disk::Fresh;
use crate::image::store::temporary;
use crate::image::stream::sha256;

/// A base directory that a data directory knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Base {
    /// As it was when something was imported to it: absolute.
    pub path: PathBuf,
    /// Whether its `images` is there; its disk may not be mounted.
    pub there: bool,
}

/// Writes down that `base`, an absolute path, has images that stand on layers of `data`. To be called before an image's
/// record is written, with the layers held.
///
/// # Errors
/// It cannot be written.
pub fn remember_base(data: &Path, base: &Path) -> Result<()> {
    let bytes = base.as_os_str().as_bytes();
    let path = entry(data, base);
    let is_written = || fs::read(&path).is_ok_and(|there| there == bytes);
    if is_written() {
        return Ok(());
    }
    let directory = data.join("bases");
    let write = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let directory = File::open(&directory)?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut fresh = Fresh::make(directory.as_fd(), temporary("base", ""), mode)?;
        fresh.file.write_all(bytes)?;
        fresh.file.sync_all()?;
        match fresh.publish(name(base).as_bytes(), path.exists()) {
            // Somebody else was quicker.
            Err(Errno::EEXIST) if is_written() => {}
            other => other?,
        }
        directory.sync_all()
    };
    write().map_err(|error| {
        Error::io("write down base directory", path.display(), &error)
            .hint("check the space and the permissions of the data directory, --data")
    })
}

/// The base directories that `data` knows, in order.
///
/// # Errors
/// Those of reading the directory.
pub fn bases(data: &Path) -> Result<Vec<Base>> {
    let directory = data.join("bases");
    let read = || -> io::Result<Vec<Base>> {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut bases = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_name().as_bytes().starts_with(b".") {
                continue;
            }
            let path = PathBuf::from(OsString::from_vec(fs::read(entry.path())?));
            let there = path.join("images").is_dir();
            bases.push(Base { path, there });
        }
        bases.sort();
        Ok(bases)
    };
    read().map_err(|error| {
        Error::io("list base directories", directory.display(), &error)
            .hint("needs root; check --data")
    })
}

/// Forgets a base directory: no image of it counts any more. Says whether it was known.
///
/// # Errors
/// It cannot be removed.
pub fn forget_base(data: &Path, base: &Path) -> Result<bool> {
    match fs::remove_file(entry(data, base)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("forget base directory", base.display(), &error)
            .hint("needs root; check --data")),
    }
}

fn entry(data: &Path, base: &Path) -> PathBuf {
    data.join("bases").join(name(base))
}

fn name(base: &Path) -> String {
    sha256(base.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_remembered_until_they_are_forgotten() {
        let top = std::env::temp_dir().join(format!("bases-{}", std::process::id()));
        let data = top.join("data");
        let there = top.join("there");
        let gone = top.join(std::ffi::OsStr::from_bytes(b"gone\xff\n"));
        fs::create_dir_all(there.join("images")).unwrap();
        assert_eq!(bases(&data), Ok(Vec::new()));
        for base in [&there, &gone, &there] {
            remember_base(&data, base).unwrap();
        }
        let known = |path: &PathBuf, there| Base {
            path: path.clone(),
            there,
        };
        assert_eq!(
            bases(&data),
            Ok(vec![known(&gone, false), known(&there, true)])
        );
        assert_eq!(forget_base(&data, &gone), Ok(true));
        assert_eq!(forget_base(&data, &gone), Ok(false));
        assert_eq!(bases(&data), Ok(vec![known(&there, true)]));
        fs::remove_dir_all(&top).unwrap();
    }
}
