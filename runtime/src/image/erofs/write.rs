//! Writes inodes and data where the layout has them, with one buffer, whatever the size of the files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek};
use sha2::{Digest, Sha256};
use shim::{Error, Result};

use super::format::{BLOCK, Data, Dirent, HOLE, Inode, Superblock, directory, narrow};
use super::layout::{Place, chunk_bits, chunk_size, listing, size};
use super::scan::{Content, Tree, failed};
use super::walk::Walk;

/// What is read at once.
const BUFFER: usize = 128 << 10;

/// A file that becomes an EROFS image. It must be empty: what is not written there is zero.
pub(super) struct Writer<'o> {
    out: &'o File,
    tree: &'o Tree,
    places: &'o [Place],
    /// The first block that is free.
    next: u32,
    /// Of all inodes and directories.
    hash: Sha256,
    chunked: bool,
    buffer: Vec<u8>,
}

impl<'o> Writer<'o> {
    pub(super) fn new(
        out: &'o File,
        tree: &'o Tree,
        places: &'o [Place],
        first_block: u64,
    ) -> Result<Self> {
        Ok(Self {
            out,
            tree,
            places,
            next: narrow(first_block / BLOCK as u64).map_err(too_large)?,
            hash: Sha256::new(),
            chunked: false,
            buffer: vec![0; BUFFER],
        })
    }

    /// Everything but the superblock, in the order of the tree.
    pub(super) fn tree(&mut self, root: impl std::os::fd::AsFd) -> Result<()> {
        let tree = self.tree;
        let mut walk = Walk::at_root(root).map_err(|errno| failed("/", errno))?;
        let mut written = vec![false; tree.nodes.len()];
        for number in &tree.directories {
            walk.go(tree, *number)?;
            let Some(here) = tree.directory(*number) else {
                continue;
            };
            let listing = listing(here, *number);
            let entries: Vec<_> = listing
                .into_iter()
                .map(|(name, node)| Dirent {
                    name,
                    nid: self.places[node].nid(),
                    mode: tree.nodes[node].mode,
                })
                .collect();
            let bytes = directory(&entries).map_err(too_large)?;
            self.hash.update(&bytes);
            self.bytes(*number, &bytes)?;
            for (name, node) in &here.entries {
                if tree.directory(*node).is_none() && !std::mem::replace(&mut written[*node], true)
                {
                    self.node(&walk, *number, name, *node)?;
                }
            }
        }
        Ok(())
    }

    /// The superblock, last: a file without it is no image.
    pub(super) fn finish(self) -> Result<()> {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.hash.finalize()[..16]);
        // Version 8 of RFC 9562: a number of the maker's own making.
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        let superblock = Superblock {
            root: self.places.first().map_or(0, |root| root.nid()),
            inodes: self.tree.nodes.len() as u64,
            blocks: self.next,
            uuid,
            chunked: self.chunked,
        };
        let block = superblock.encode().map_err(too_large)?;
        self.out
            .set_len(u64::from(self.next) * BLOCK as u64)
            .and_then(|()| self.out.write_all_at(&block, 0))
            .map_err(|error| not_written(&error))
    }

    /// What is no directory.
    fn node(&mut self, walk: &Walk, directory: usize, name: &[u8], number: usize) -> Result<()> {
        match &self.tree.nodes[number].content {
            Content::Symlink(target) => self.bytes(number, target),
            Content::Special(device) => self.inode(number, Data::Device(*device), &[]),
            Content::Directory(_) => Ok(()),
            Content::File(size) => {
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let path = || self.tree.path(directory, name);
                let file = openat(walk, name, flags, Mode::empty())
                    .map_err(|errno| failed(path(), errno))?;
                let mut source = Source {
                    file: file.into(),
                    left: *size,
                };
                self.check(&source, number)
                    .and_then(|()| self.file(&mut source, number, *size))
                    .and_then(|()| self.check(&source, number))
                    .map_err(|trouble| match trouble {
                        Trouble::Source(error) => failed(path(), errno_or_cut(&error)),
                        Trouble::Ours(error) => error,
                    })
            }
        }
    }

    /// Whether the file is still what the tree says.
    fn check(&self, source: &Source, number: usize) -> Result<(), Trouble> {
        let node = &self.tree.nodes[number];
        let now = source.file.metadata()?;
        let size = size(&node.content, number);
        let same = now.is_file()
            && now.len() == size
            && (now.mtime(), now.mtime_nsec()) == (node.mtime.0, i64::from(node.mtime.1));
        if same {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(nix::libc::ESTALE).into())
        }
    }

    /// What is in memory: a directory, a link's target.
    fn bytes(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        let inline = self.places[number].inline;
        let whole = if inline {
            bytes.len() / BLOCK * BLOCK
        } else {
            bytes.len()
        };
        let (blocks, tail) = bytes.split_at(whole);
        let first = self.next;
        if !blocks.is_empty() {
            self.at(self.end(), blocks)?;
            self.take(blocks.len() as u64)?;
        }
        self.inode(number, placed(inline, first), tail)
    }

    fn file(&mut self, source: &mut Source, number: usize, size: u64) -> Result<(), Trouble> {
        if let Some(bits) = chunk_bits(size) {
            return self.large_file(source, number, bits);
        }
        let inline = self.places[number].inline;
        let tail = if inline { size % BLOCK as u64 } else { 0 };
        let first = self.next;
        let mut at = self.end();
        let mut blocks = size - tail;
        let mut buffer = std::mem::take(&mut self.buffer);
        while blocks > 0 {
            let piece = source.read(&mut buffer, blocks)?;
            self.at(at, piece)?;
            at += piece.len() as u64;
            blocks -= piece.len() as u64;
        }
        self.take(size - tail)?;
        let tail = source.read(&mut buffer, tail)?;
        let done = self.inode(number, placed(inline, first), tail);
        self.buffer = buffer;
        Ok(done?)
    }

    /// Chunk by chunk: one that is all zeros gets no blocks. The others follow each other, so that a file without such
    /// chunks needs no map.
    fn large_file(&mut self, source: &mut Source, number: usize, bits: u8) -> Result<(), Trouble> {
        let mut map = Vec::new();
        let first = self.next;
        let mut buffer = std::mem::take(&mut self.buffer);
        while source.left > 0 {
            let chunk = chunk_size(bits).min(source.left);
            let (mut done, mut zero) = (0, !source.has_data(chunk)?);
            if zero {
                source.left -= chunk;
            } else {
                zero = true;
                while done < chunk {
                    let piece = source.read(&mut buffer, chunk - done)?;
                    if piece.iter().any(|byte| *byte != 0) {
                        zero = false;
                        self.at(self.end() + done, piece)?;
                    }
                    done += piece.len() as u64;
                }
            }
            map.push(if zero { HOLE } else { self.next });
            if !zero {
                self.take(chunk)?;
            }
        }
        self.buffer = buffer;
        if !map.contains(&HOLE) {
            return Ok(self.inode(number, Data::Plain(first), &[])?);
        }
        self.chunked = true;
        let map: Vec<u8> = map.into_iter().flat_map(u32::to_le_bytes).collect();
        Ok(self.inode(number, Data::Chunks { bits }, &map)?)
    }

    /// An inode, its attributes, and what lies behind them.
    fn inode(&mut self, number: usize, data: Data, behind: &[u8]) -> Result<()> {
        let node = &self.tree.nodes[number];
        let inode = Inode {
            mode: node.mode,
            links: node.links,
            uid: node.uid,
            gid: node.gid,
            size: size(&node.content, number),
            mtime: node.mtime,
            number: u32::try_from(number + 1).unwrap_or(u32::MAX),
            xattrs: node.xattrs.len(),
            data,
        };
        let mut bytes = inode.encode().map_err(too_large)?.to_vec();
        bytes.extend(&*node.xattrs);
        self.hash.update(&bytes);
        bytes.extend(behind);
        self.at(self.places[number].at, &bytes)
    }

    /// Where the first free block begins.
    fn end(&self) -> u64 {
        u64::from(self.next) * BLOCK as u64
    }

    /// Makes so many bytes from the first free block on be in use.
    fn take(&mut self, bytes: u64) -> Result<()> {
        let blocks: u32 = narrow(bytes.div_ceil(BLOCK as u64)).map_err(too_large)?;
        // The last number means a hole.
        let next = self.next.checked_add(blocks).filter(|next| *next < HOLE);
        self.next = next.ok_or_else(|| too_large(Errno::EFBIG))?;
        Ok(())
    }

    fn at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all_at(bytes, at)
            .map_err(|error| not_written(&error))
    }
}

fn placed(inline: bool, first: u32) -> Data {
    if inline {
        Data::Inline(first)
    } else {
        Data::Plain(first)
    }
}

/// A file that is read once, from its start.
struct Source {
    file: File,
    left: u64,
}

impl Source {
    /// The next bytes, as many as fit, but not more than `at_most`.
    fn read<'b>(&mut self, buffer: &'b mut [u8], at_most: u64) -> Result<&'b [u8], Trouble> {
        let wanted = usize::try_from(at_most)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.file.read_exact(&mut buffer[..wanted])?;
        self.left -= wanted as u64;
        Ok(&buffer[..wanted])
    }

    /// Whether there may be anything but zeros in the next `length` bytes; goes behind them if not. Filesystems that do
    /// not know have data everywhere (lseek(2)).
    fn has_data(&mut self, length: u64) -> Result<bool, Trouble> {
        let here = lseek(&self.file, 0, Whence::SeekCur).map_err(io::Error::from)?;
        let end = here + i64::try_from(length).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
        let data = match lseek(&self.file, here, Whence::SeekData) {
            Ok(data) => data,
            Err(Errno::ENXIO) => end,
            Err(_) => here,
        };
        let back = if data < end { here } else { end };
        lseek(&self.file, back, Whence::SeekSet).map_err(io::Error::from)?;
        Ok(data < end)
    }
}

/// Whose failure it is: the file's that is read, or the image's that is written.
enum Trouble {
    Source(io::Error),
    Ours(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

fn errno_or_cut(error: &io::Error) -> Errno {
    match error.raw_os_error() {
        Some(raw) => Errno::from_raw(raw),
        // It ended before its size: it was cut meanwhile.
        None => Errno::ESTALE,
    }
}

fn too_large(errno: Errno) -> Error {
    Error::new("pack image")
        .errno(errno)
        .because("it is larger than EROFS can be: 16 TiB")
        .hint("leave out what is large")
}

fn not_written(error: &io::Error) -> Error {
    Error::io("write", "the EROFS image", error)
        .hint("check the space where it is written, and its file size limit")
}
