//! Unpacks one layer: into a place of the store that has no name yet, and, for a source that is one layer, up to its name.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use shim::{Error, Result};

use super::layered::Unpacked;
use crate::image::archive::show;
use crate::image::disk::disk_hint;
use crate::image::disk::flush::{self, Flusher};
use crate::image::limits::TABLES;
use crate::image::store::layers::chain::nothing;
use crate::image::store::layers::claim::Place;
use crate::image::store::layers::contents::{Contents, Entry};
use crate::image::store::layers::scan::{Failed, scan};
use crate::image::store::layers::{Basis, Info, LayerKey, Layers};
use crate::image::unpack::lower::{Lower, Marks, Source};
use crate::image::unpack::{LeftOut, Rights, Tree, Unpacker};

/// Makes a layer of what `apply` brings, whose DiffID it only knows at the end. The store must be held.
pub(super) fn unpack_one(
    layers: &Layers,
    rights: Rights,
    durable: bool,
    apply: impl FnOnce(&mut Unpacker<'_>) -> Result<String>,
) -> Result<Unpacked> {
    let claim = layers.claim_new()?;
    let place = claim.place("0")?;
    let below: Source<'_> = Box::new(|| Ok(Vec::new()));
    let (filled, info) = flush::to_disk(
        durable,
        || layers.sync(),
        |flusher| {
            let (filled, diff_id) = fill(layers, (&place, rights, flusher), TABLES, below, apply)?;
            let info = filled.info(&diff_id);
            place.write_info(&info)?;
            Ok((filled, info))
        },
    )?;
    let nothing = nothing();
    let basis = match (filled.literal_marks, filled.depends) {
        (true, _) => Basis::Literal,
        (false, true) => Basis::On(&nothing),
        (false, false) => Basis::Alone,
    };
    let key = LayerKey::new(&info.diff_id, basis, rights)?;
    claim.publish(&place, &key)?;
    if durable {
        layers.sync_names()?;
    }
    Ok(Unpacked {
        members: info.members,
        bytes: info.size,
        left_out: filled.left_out,
        layers: vec![(key, info)],
    })
}

/// Fills a place with what `apply` brings; says whether the layers below had a say in it. What has to be known meanwhile
/// may take `room` bytes of memory.
pub(super) fn fill<T>(
    layers: &Layers,
    (place, rights, flusher): (&Place, Rights, &Flusher),
    room: usize,
    below: Source<'_>,
    apply: impl FnOnce(&mut Unpacker<'_>) -> Result<T>,
) -> Result<(Filled, T)> {
    let failed = |errno| layers.failed("make directory", "", errno);
    let marks = Marks::of(rights);
    let root = open_again(&place.tree).map_err(failed)?;
    let tree = Tree::layer(root, Lower::new(below, marks), marks, room).map_err(failed)?;
    let contents = place.create("contents").map_err(failed)?;
    let mut unpacker = Unpacker::new(tree, rights, Contents::new(Some(contents)), flusher);
    let applied = apply(&mut unpacker)?;
    unpacker.settle()?;
    let scanned_root = open_again(&place.tree).map_err(failed)?;
    let opaque_root = marks.is_opaque(&scanned_root).map_err(failed)?;
    if !unpacker.lists_root {
        let root = Entry {
            kind: "dir",
            ..Entry::default()
        };
        unpacker.contents.add(b"", &root);
    }
    if unpacker.tree.removed {
        let contents = &mut unpacker.contents;
        contents.restart();
        scan(&scanned_root, marks, room / 4, |path, entry, _| {
            contents.add(path, &entry)
        })
        .map_err(|Failed(path, errno)| {
            disk_hint(Error::sys("list layer", show(&path), errno), errno)
        })?;
    }
    let filled = Filled {
        members: unpacker.members,
        size: unpacker.bytes,
        lists_root: unpacker.lists_root,
        opaque_root,
        left_out: unpacker.left_out,
        depends: unpacker.tree.depends,
        literal_marks: unpacker.literal_marks,
    };
    unpacker
        .contents
        .finish()
        .map_err(|error| Error::io("write contents of layer", "", &error))
        .map_err(|error| match error.raw_errno() {
            Some(errno) => disk_hint(error, errno),
            None => error,
        })?;
    Ok((filled, applied))
}

/// What is known of a layer that was unpacked.
pub(super) struct Filled {
    members: u64,
    size: u64,
    lists_root: bool,
    opaque_root: bool,
    left_out: LeftOut,
    pub(super) depends: bool,
    literal_marks: bool,
}

impl Filled {
    pub(super) fn info(&self, diff_id: &str) -> Info {
        Info {
            version: 1,
            diff_id: diff_id.to_owned(),
            members: self.members,
            size: self.size,
            lists_root: self.lists_root,
            opaque_root: self.opaque_root,
            devices_left_out: self.left_out.devices,
            attributes_left_out: self.left_out.attributes,
        }
    }
}

pub(super) fn open_again(directory: impl AsFd) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(directory, ".", flags, Mode::empty())
}
