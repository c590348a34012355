//! `image build-erofs`: one EROFS file of an image, or of a directory, with what the image says about how it is run in
//! two files beside it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use serde::Serialize;
use shim::error::errno_of;
use shim::{Error, Result, RootDir};

use crate::config::Dirs;
use crate::ids::ImageId;
use crate::image::disk::Fresh;
use crate::image::erofs;
use crate::image::store::temporary;
use crate::json;
use crate::rootfs;
use crate::verity::Digest;

/// What is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErofsSource {
    /// An image of the store.
    Image(ImageId),
    /// A directory of the host: a word with a slash.
    Directory(PathBuf),
}

/// What to pack, and where to.
#[derive(Debug, Clone)]
pub struct ErofsRequest {
    /// What.
    pub source: ErofsSource,
    /// The file.
    pub file: PathBuf,
    /// A file that is there is replaced.
    pub replace: bool,
    /// Its digest is wanted, for which it is read once more.
    pub digest: bool,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltErofs {
    /// Where it is, as asked for.
    pub file: String,
    /// Bytes in it.
    pub size: u64,
    /// How many inodes it has: two names of one file count once.
    pub inodes: u64,
    /// Its fs-verity digest, where it was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verity: Option<String>,
    /// What could not be packed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl BuiltErofs {
    /// The same as JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        json::pretty(self)
    }
}

/// Packs it. The file appears when it is complete and on disk.
///
/// # Errors
/// Whatever cannot be read or is too large for EROFS, a source that changes meanwhile, and a file that cannot be
/// written. Nothing of the image is left then.
pub fn build_erofs(dirs: &Dirs, request: &ErofsRequest) -> Result<BuiltErofs> {
    let failed = |errno| not_made(&request.file, errno);
    let name = request
        .file
        .file_name()
        .ok_or_else(|| failed(Errno::EISDIR))?;
    let parent = match request.file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = File::open(parent).map_err(|error| failed(errno_of(&error)))?;
    if !request.replace && request.file.symlink_metadata().is_ok() {
        return Err(failed(Errno::EEXIST));
    }
    let mut fresh = new_file(parent.as_fd(), "erofs").map_err(failed)?;
    let packed = match &request.source {
        ErofsSource::Image(id) => {
            let merged = rootfs::merged(dirs, id.as_str())?;
            erofs::pack(&merged.root, &merged.top, &fresh.file)?
        }
        ErofsSource::Directory(path) => {
            let root = RootDir::open(path).map_err(|errno| {
                Error::sys("open directory", path.display(), errno)
                    .hint("name a directory of the host")
            })?;
            erofs::pack(&root, &root, &fresh.file)?
        }
    };
    fresh
        .file
        .sync_all()
        .map_err(|error| failed(errno_of(&error)))?;
    let size = fresh.file.metadata().map_or(0, |metadata| metadata.len());
    let digest = request.digest.then(|| {
        fresh.file.seek(SeekFrom::Start(0))?;
        Digest::of(&fresh.file)
    });
    let digest = digest.transpose();
    let digest = digest.map_err(|error| failed(errno_of(&error)))?;
    if let ErofsSource::Image(id) = &request.source {
        beside(dirs, id.as_str(), parent.as_fd(), request)?;
    }
    fresh
        .publish(name.as_bytes(), request.replace)
        .and_then(|()| nix::unistd::fsync(&parent))
        .map_err(failed)?;
    Ok(BuiltErofs {
        file: request.file.display().to_string(),
        size,
        inodes: packed.inodes,
        verity: digest.map(|digest| digest.to_string()),
        warning: (packed.left_out > 0).then(|| {
            let count = packed.left_out;
            format!("left out, having no place in EROFS: {count} attributes")
        }),
    })
}

/// `NAME.env` and `NAME.json` beside `NAME.erofs`: what the image's are in the store. Import finds them there.
fn beside(dirs: &Dirs, id: &str, parent: BorrowedFd<'_>, request: &ErofsRequest) -> Result<()> {
    for suffix in ["env", "json"] {
        let from = dirs.base.join("images").join(format!("{id}.{suffix}"));
        let content = match std::fs::read(&from) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::io("read", from.display(), &error).hint("check --base"));
            }
        };
        let place = request.file.with_extension(suffix);
        let name = place.file_name().unwrap_or_default();
        let written = new_file(parent, "beside").and_then(|mut fresh| {
            let written = fresh.file.write_all(&content);
            written
                .and_then(|()| fresh.file.sync_all())
                .map_err(|error| errno_of(&error))?;
            fresh.publish(name.as_bytes(), request.replace)
        });
        written.map_err(|errno| not_made(&place, errno))?;
    }
    Ok(())
}

fn new_file<'d>(parent: BorrowedFd<'d>, what: &str) -> nix::Result<Fresh<'d>> {
    Fresh::make(parent, temporary(what, ""), Mode::from_bits_truncate(0o666))
}

fn not_made(path: &Path, errno: Errno) -> Error {
    let error = Error::sys("make file", path.display(), errno);
    match errno {
        Errno::EEXIST => error.hint("replace it with --replace, or name another file"),
        Errno::ENOSPC | Errno::EDQUOT => error.hint("make room there: nothing is compressed"),
        _ => error.hint("name a file in a directory that can be written to"),
    }
}
