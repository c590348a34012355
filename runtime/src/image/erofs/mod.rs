//! Writes a tree as one EROFS file, uncompressed, for the kernel to mount.
//!
//! First everything but the content of files is read (`scan`), then it is decided where everything will lie (`layout`),
//! then all is written in one pass (`write`). `format` has the bytes. The same tree gives the same bytes, wherever it is
//! and whenever it is packed: what depends on the place (inode numbers, the order of a directory, holes) is not used.

mod format;
mod layout;
mod scan;
mod walk;
mod write;

use std::fs::File;
use std::os::fd::AsFd;

use shim::Result;

use write::Writer;

/// What was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed {
    /// How many inodes the image has: two names of one file count once.
    pub(super) inodes: u64,
    /// How many attributes EROFS has no place for.
    pub(super) left_out: usize,
}

/// Writes the tree below the directory `root` into the empty file `out`. What that directory itself is, `top` says.
pub(super) fn pack(root: impl AsFd, top: impl AsFd, out: &File) -> Result<Packed> {
    let tree = scan::scan(&root, &top)?;
    let (places, first_block) = layout::places(&tree);
    let mut writer = Writer::new(out, &tree, &places, first_block)?;
    writer.tree(&root)?;
    writer.finish()?;
    Ok(Packed {
        inodes: tree.nodes.len() as u64,
        left_out: tree.left_out,
    })
}
