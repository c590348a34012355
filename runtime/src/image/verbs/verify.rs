//! `image verify`: reads back all that an image stands on, and compares it with what was written down at the import.
//!
//! A record of a layer that was changed together with the layer is not found out: what is checked is the disk, not the
//! owner of the data directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::Serialize;
use shim::{Error, Result};

use crate::image::archive::show;
use crate::image::store::layers::contents::{self, Entry};
use crate::image::store::layers::scan::{Failed, scan};
use crate::image::store::layers::{LayerKey, Layers};
use crate::image::store::{Document, Record};
use crate::image::stream::sha256;
use crate::image::unpack::lower::Marks;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many layers were read.
    pub layers: usize,
    /// How many names were compared.
    pub names: usize,
    /// All that is other than it was.
    pub problems: Vec<Problem>,
}

/// Something that is other than it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The layer; none where it is the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerKey>,
    /// The name in the layer; none where it is the layer as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong.
    pub what: String,
}

/// A name of a tree: what it is, and its inode number.
type Found = BTreeMap<Vec<u8>, (Entry, u64)>;

/// Compares image `id` below `base` with what it was.
///
/// # Errors
/// An image that is not there, or of which nothing was written down.
pub fn verify(base: &Path, id: &str) -> Result<Verified> {
    let Some(record) = Record::read(base, id)? else {
        return Err(unverifiable(base, id));
    };
    let mut verified = Verified::default();
    for document in [&record.manifest, &record.config].into_iter().flatten() {
        if !holds(document) {
            verified.problem(
                None,
                None,
                format!("the text of {} is another", document.digest),
            );
        }
    }
    let layers = Layers::open(&record.data)?;
    let held = layers.as_ref().map(Layers::hold).transpose()?;
    let mut keys: Vec<&LayerKey> = record.keys().collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        match &layers {
            Some(layers) => verified.layer(layers, key)?,
            None => verified.problem(Some(key), None, "it is missing"),
        }
    }
    drop(held);
    Ok(verified)
}

fn holds(document: &Document) -> bool {
    document.digest.strip_prefix("sha256:") == Some(&sha256(document.text.as_bytes()))
}

fn unverifiable(base: &Path, id: &str) -> Error {
    let images = base.join("images");
    let error = Error::new("verify image").on(id);
    let there = |name: String| images.join(name).exists();
    if there(id.to_owned()) {
        return error
            .because("it is a plain directory, of whose content nothing was written down")
            .hint("import it without --flat");
    }
    if there(format!("{id}.squashfs")) || there(format!("{id}.erofs")) {
        return error
            .because("it is a filesystem image, whose content is not written down here")
            .hint("fs-verity protects such a file: create-fs --verity");
    }
    error
        .because(format!("{} has no such image", images.display()))
        .hint("start-container image list")
}

impl Verified {
    fn problem(&mut self, layer: Option<&LayerKey>, path: Option<&[u8]>, what: impl Into<String>) {
        self.problems.push(Problem {
            layer: layer.cloned(),
            path: path.map(|path| format!("/{}", show(path))),
            what: what.into(),
        });
    }

    fn layer(&mut self, layers: &Layers, key: &LayerKey) -> Result<()> {
        self.layers += 1;
        let Some(tree) = layers.tree(key)? else {
            self.problem(Some(key), None, "it is missing");
            return Ok(());
        };
        match layers.info(key) {
            Ok(Some(info)) if info.diff_id == key.diff_id() => {}
            Ok(Some(_)) => self.problem(Some(key), None, "its record is of another layer"),
            Ok(None) => self.problem(Some(key), None, "its record is missing"),
            Err(_) => self.problem(Some(key), None, "its record is damaged"),
        }
        let recorded = match read_contents(layers, key) {
            Ok(recorded) => recorded,
            Err(why) => {
                self.problem(Some(key), None, why);
                return Ok(());
            }
        };
        let mut found = Found::new();
        let scanned = scan(
            &OwnedFd::from(tree),
            Marks::of_key(key),
            usize::MAX,
            |path, entry, inode| {
                found.insert(path.to_vec(), (entry, inode));
            },
        );
        if let Err(Failed(path, errno)) = scanned {
            self.problem(
                Some(key),
                Some(&path),
                format!("it cannot be read: {errno}"),
            );
            return Ok(());
        }
        self.compare(key, &recorded, &found);
        Ok(())
    }

    fn compare(&mut self, key: &LayerKey, recorded: &BTreeMap<Vec<u8>, Entry>, found: &Found) {
        for (path, was) in recorded {
            self.names += 1;
            let Some((is, inode)) = found.get(path) else {
                self.problem(Some(key), Some(path), "it is missing");
                continue;
            };
            if was.kind == "hard" {
                let other = was.link.as_deref().unwrap_or_default();
                if found.get(other).is_none_or(|(_, other)| other != inode) {
                    let what = format!("it is not another name of /{} any more", show(other));
                    self.problem(Some(key), Some(path), what);
                }
                continue;
            }
            // The tree's first name of a file has what all have.
            let is = match is.kind {
                "hard" => is
                    .link
                    .as_ref()
                    .and_then(|first| found.get(first))
                    .map_or(is, |(first, _)| first),
                _ => is,
            };
            if let Some(what) = difference(was, is) {
                self.problem(Some(key), Some(path), what);
            }
        }
        for path in found.keys().filter(|path| !recorded.contains_key(*path)) {
            self.problem(Some(key), Some(path), "it was not there");
        }
    }
}

fn read_contents(layers: &Layers, key: &LayerKey) -> Result<BTreeMap<Vec<u8>, Entry>, String> {
    let path = Path::new(key.as_str()).join("contents");
    let open = || {
        let directory = layers.directory().map_err(|_| Errno::EIO)?;
        directory.open_plain(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
    };
    let file =
        open().map_err(|errno| format!("the list of what was in it cannot be opened: {errno}"))?;
    match contents::read(File::from(file)) {
        Ok(Ok(entries)) => Ok(entries),
        Ok(Err(line)) => Err(format!(
            "the list of what was in it is damaged in line {line}"
        )),
        Err(error) => Err(format!(
            "the list of what was in it cannot be read: {error}"
        )),
    }
}

/// What is other, in words; what was not written down is not compared.
fn difference(was: &Entry, is: &Entry) -> Option<String> {
    if was.kind != is.kind {
        return Some(format!("it was {} and is {}", was.kind, is.kind));
    }
    if was.opaque != is.opaque {
        return Some("what it hides is other".into());
    }
    // A directory that nobody lists is as the import has made it.
    let implied = was.kind == "dir" && was.mode.is_none();
    let mut other = Vec::new();
    let mut check = |what: &'static str, differs: bool| {
        if differs {
            other.push(what);
        }
    };
    check("mode", was.mode.is_some() && was.mode != is.mode);
    check("owner", was.owner.is_some() && was.owner != is.owner);
    check("time", was.time.is_some() && was.time != is.time);
    check("size", was.size.is_some() && was.size != is.size);
    check("content", was.sha256.is_some() && was.sha256 != is.sha256);
    check("target", was.link.is_some() && was.link != is.link);
    check("device", was.device.is_some() && was.device != is.device);
    check("attributes", !implied && was.xattrs != is.xattrs);
    (!other.is_empty()).then(|| format!("other {}", other.join(", ")))
}
