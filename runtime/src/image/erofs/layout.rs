//! Decides where each inode lies, before anything is written: a directory names what is in it by where that lies.
//!
//! Behind the superblock come all inodes, each with its attributes and the last, partial block of its data ("tail") if
//! that leaves less unused than a block of its own; then come the blocks. A large file has room for a map of chunks
//! behind its inode, so that those that are all zeros need no blocks.

use super::format::{BLOCK, INODE, MAP_ENTRY, SLOT, directory_size};
use super::scan::{Content, Directory, Node, Tree};

/// Files from this size on are looked through for zeros.
const LARGE: u64 = 1 << 20;
/// Chunks have 64 KiB, or as much as it takes for so many of them.
const CHUNK_BITS: u8 = 4;
const CHUNKS_MAX: u64 = 1 << 16;

/// Where one inode lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// In bytes from the start of the file.
    pub(super) at: u64,
    /// Whether its tail lies behind it.
    pub(super) inline: bool,
}

impl Place {
    /// What directories know it by.
    pub(super) fn nid(self) -> u64 {
        self.at / SLOT
    }
}

/// The names in a directory in the order in which they are stored, `.` and `..` among them.
pub(super) fn listing(directory: &Directory, own: usize) -> Vec<(&[u8], usize)> {
    let dots = [(&b"."[..], own), (&b".."[..], directory.parent)];
    let entries = directory
        .entries
        .iter()
        .map(|(name, node)| (&**name, *node));
    let mut all: Vec<_> = entries.chain(dots).collect();
    all.sort_unstable();
    all
}

/// How many blocks a chunk of this file has, as a power of two; none where the file is too small to be looked through.
pub(super) fn chunk_bits(size: u64) -> Option<u8> {
    let mut bits = CHUNK_BITS;
    while size.div_ceil(chunk_size(bits)) > CHUNKS_MAX {
        bits += 1;
    }
    (size >= LARGE).then_some(bits)
}

/// Bytes in such a chunk.
pub(super) fn chunk_size(bits: u8) -> u64 {
    (BLOCK as u64) << bits
}

/// The length of an inode with its attributes.
fn head(node: &Node) -> u64 {
    (INODE + node.xattrs.len()) as u64
}

/// Where all inodes lie, by their number in the tree, and where the first block after them begins.
pub(super) fn places(tree: &Tree) -> (Vec<Place>, u64) {
    let mut at = BLOCK as u64;
    let mut places = Vec::with_capacity(tree.nodes.len());
    for (number, node) in tree.nodes.iter().enumerate() {
        let head = head(node);
        let (place, behind) = match &node.content {
            Content::File(size) if chunk_bits(*size).is_some() => {
                let map =
                    chunk_bits(*size).map_or(0, |bits| size.div_ceil(chunk_size(bits)) * MAP_ENTRY);
                (Place { at, inline: false }, map)
            }
            content => {
                let tail = size(content, number) % BLOCK as u64;
                let place = with_tail(at, head, tail);
                (place, if place.inline { tail } else { 0 })
            }
        };
        places.push(place);
        at = (place.at + head + behind).next_multiple_of(SLOT);
    }
    (places, at.next_multiple_of(BLOCK as u64))
}

/// How many bytes of data it has.
pub(super) fn size(content: &Content, number: usize) -> u64 {
    match content {
        Content::Directory(directory) => {
            let listing = listing(directory, number);
            directory_size(listing.into_iter().map(|(name, _)| name))
        }
        Content::File(size) => *size,
        Content::Symlink(target) => target.len() as u64,
        Content::Special(_) => 0,
    }
}

/// A tail may not go over the end of a block. Where it would, the inode begins with the next block if that leaves less
/// unused than giving the tail a block.
fn with_tail(at: u64, head: u64, tail: u64) -> Place {
    let block = BLOCK as u64;
    let fits = |at: u64| (at + head) % block + tail <= block;
    let next = at.next_multiple_of(block);
    let (at, inline) = if tail == 0 {
        (at, false)
    } else if fits(at) {
        (at, true)
    } else if fits(next) && next - at < block - tail {
        (next, true)
    } else {
        (at, false)
    };
    Place { at, inline }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_never_goes_over_the_end_of_a_block() {
        let block = BLOCK as u64;
        let mut moved = 0;
        for at in (block..3 * block).step_by(32) {
            for head in [64, 64 + 16, 4096 + 32, 9000] {
                for tail in [0, 1, 31, 32, 500, 2048, 4032, 4095] {
                    let place = with_tail(at, head, tail);
                    assert_eq!(place.at % SLOT, 0);
                    if place.inline {
                        let (first, last) = (place.at + head, place.at + head + tail - 1);
                        assert_eq!(first / block, last / block, "{at} {head} {tail}");
                    }
                    moved += u32::from(place.at != at);
                }
            }
        }
        assert!(moved > 0, "no inode was moved to the next block");
    }

    #[test]
    fn a_map_of_chunks_stays_small() {
        assert_eq!(chunk_bits(LARGE - 1), None);
        assert_eq!(chunk_bits(LARGE), Some(CHUNK_BITS));
        for size in [4 << 30, (4 << 30) + 1, 1 << 40, u64::MAX >> 8] {
            let bits = chunk_bits(size).unwrap();
            assert!(size.div_ceil(chunk_size(bits)) <= CHUNKS_MAX, "{size}");
        }
    }
}
