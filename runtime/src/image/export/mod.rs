//! `image export`: an image as an archive that others can read, or that is imported elsewhere.
//!
//! Layers are written as layers, with their marks; an image that is one tree, a directory or a mounted file, is one layer.
//! The digest of a layer stands before it in the archive, so each is read twice: once to learn the digest, once to write.
//! The same image gives the same bytes.

mod bundle;
mod entry;
mod tree;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use serde::Serialize;
use shim::error::errno_of;
use shim::{Error, Result};

use self::tree::{Meaning, Packed, pack, unwritable};
use crate::config::Dirs;
use crate::ids::ImageId;
use crate::image::disk::Fresh;
use crate::image::store::layers::{Held, Layers};
use crate::image::store::{Found, Record, temporary};
use crate::json;
use crate::rootfs;

/// A descriptor that is there could not be had twice.
const OPEN_FILES: &str = "raise the limit of open files, ulimit -n";

/// What kind of archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// An OCI image layout.
    #[default]
    Oci,
    /// What `docker load` reads.
    Docker,
    /// The merged tree alone.
    Rootfs,
}

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The image.
    pub id: ImageId,
    /// The archive; none for stdout.
    pub file: Option<PathBuf>,
    /// What kind.
    pub format: ExportFormat,
    /// A file that is there is replaced.
    pub replace: bool,
}

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Where it is, as asked for.
    pub file: Option<String>,
    /// What it is.
    pub format: ExportFormat,
    /// The digest of the manifest, of an OCI image layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// How many layers are in it.
    pub layers: usize,
    /// How many files, directories and so on.
    pub members: u64,
    /// What could not be exported, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Exported {
    /// The same as JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        json::pretty(self)
    }
}

/// Exports an image. A file appears when it is complete and on disk.
///
/// # Errors
/// No such image, a layer that is missing, whatever cannot be read or written. Nothing of a file is left then.
pub fn export(dirs: &Dirs, request: &ExportRequest) -> Result<Exported> {
    let Some(path) = &request.file else {
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err(Error::new("write archive")
                .on("stdout")
                .because("it is a terminal")
                .hint("name a file, or lead stdout to one"));
        }
        return write(dirs, request, stdout.lock());
    };
    let failed = |errno| {
        Error::sys("make file", path.display(), errno)
            .hint("name a file in a directory that can be written to; --replace replaces one")
    };
    let name = path
        .file_name()
        .ok_or_else(|| failed(nix::errno::Errno::EISDIR))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = File::open(parent).map_err(|error| failed(errno_of(&error)))?;
    if !request.replace && path.symlink_metadata().is_ok() {
        return Err(failed(nix::errno::Errno::EEXIST));
    }
    let mode = Mode::from_bits_truncate(0o666);
    let fresh = Fresh::make(parent.as_fd(), temporary("export", ""), mode).map_err(failed)?;
    let exported = write(dirs, request, &fresh.file)?;
    let written = fresh.file.sync_all();
    written.map_err(|error| failed(errno_of(&error)))?;
    fresh
        .publish(name.as_bytes(), request.replace)
        .and_then(|()| nix::unistd::fsync(&parent))
        .map_err(failed)?;
    Ok(exported)
}

fn write(dirs: &Dirs, request: &ExportRequest, out: impl Write) -> Result<Exported> {
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let exported = match request.format {
        ExportFormat::Rootfs => {
            let source = Source::merged(dirs, &request.id)?;
            let packed = source.layers[0].pack(&mut out)?;
            exported(request, None, 1, packed)
        }
        format => {
            let source = Source::open(dirs, &request.id)?;
            let (digest, packed) = bundle::write(dirs, &request.id, &source, format, &mut out)?;
            exported(request, digest, source.layers.len(), packed)
        }
    };
    out.flush().map_err(|error| unwritable(&error))?;
    Ok(exported)
}

fn exported(
    request: &ExportRequest,
    digest: Option<String>,
    layers: usize,
    packed: Packed,
) -> Exported {
    Exported {
        file: request.file.as_ref().map(|file| file.display().to_string()),
        format: request.format,
        digest,
        layers,
        members: packed.members,
        warning: (packed.sockets > 0).then(|| {
            let count = packed.sockets;
            format!("left out, having no place in an archive: {count} sockets")
        }),
    }
}

/// What is exported.
struct Source {
    /// Lowest first.
    layers: Vec<Tree>,
    record: Option<Record>,
    /// Keeps the layers where they are.
    _held: Option<Held>,
}

/// One tree of it.
struct Tree {
    root: OwnedFd,
    /// What the root directory itself is.
    top: OwnedFd,
    meaning: Meaning,
    /// Keeps what is mounted for it.
    _merged: Option<rootfs::Merged>,
}

impl Tree {
    fn pack(&self, out: impl Write) -> Result<Packed> {
        pack(&self.root, &self.top, self.meaning, out)
    }
}

impl Source {
    /// As the image is: in layers, or as one.
    fn open(dirs: &Dirs, id: &ImageId) -> Result<Self> {
        let Some(record) = Found::of(&dirs.base, id)?.record else {
            return Self::merged(dirs, id);
        };
        let missing = |what: String| {
            Error::new("find layers of image")
                .on(id)
                .because(format!("{} has no {what}", dirs.data.display()))
                .hint(format!(
                    "it was imported with --data {}; give the same, or import it again",
                    record.data.display()
                ))
        };
        let layers = Layers::open(&dirs.data)?.ok_or_else(|| missing("layers".to_owned()))?;
        let held = layers.hold()?;
        let mut trees = Vec::new();
        for key in record.keys() {
            let info = layers.info(key)?;
            let root = layers.tree(key)?;
            let root = root.ok_or_else(|| missing(format!("layer {key}")))?;
            let failed =
                |error: std::io::Error| Error::io("open layer", key, &error).hint(OPEN_FILES);
            let root = OwnedFd::from(root);
            trees.push(Tree {
                top: root.try_clone().map_err(failed)?,
                root,
                meaning: Meaning::Layer {
                    // One that was put there by hand has no record.
                    lists_root: info.is_none_or(|info| info.lists_root),
                },
                _merged: None,
            });
        }
        Ok(Self {
            layers: trees,
            record: Some(record),
            _held: Some(held),
        })
    }

    /// As a container sees it.
    fn merged(dirs: &Dirs, id: &ImageId) -> Result<Self> {
        let merged = rootfs::merged(dirs, id.as_str())?;
        let failed = |error: std::io::Error| Error::io("open image", id, &error).hint(OPEN_FILES);
        let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(failed);
        let tree = Tree {
            root: copy(merged.root.as_fd())?,
            top: copy(merged.top.as_fd())?,
            meaning: Meaning::Whole,
            _merged: Some(merged),
        };
        Ok(Self {
            layers: vec![tree],
            record: Found::of(&dirs.base, id)?.record,
            _held: None,
        })
    }
}
