//! EROFS on disk: the superblock, inodes, attributes and directory blocks as bytes (fs/erofs/erofs_fs.h of Linux).
//!
//! All numbers are little-endian. A block is 4096 bytes; an inode has its number from where it lies, in units of 32 bytes
//! from the start of the file. Only extended inodes are written: a compact one has no time of its own.

use nix::errno::Errno;

/// Bytes in a block.
pub(super) const BLOCK: usize = 4096;
/// What inodes are aligned to, and counted in.
pub(super) const SLOT: u64 = 32;
/// Bytes of an extended inode.
pub(super) const INODE: usize = 64;
/// The address of a chunk that is all zeros.
pub(super) const HOLE: u32 = u32::MAX;
/// Bytes per chunk in the map of a file with holes.
pub(super) const MAP_ENTRY: u64 = 4;
/// A name in a directory, in bytes (NAME_MAX).
pub(super) const NAME_MAX: usize = 255;

const MAGIC: u32 = 0xE0F5_E1E2;
const SUPERBLOCK_AT: usize = 1024;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED_FILE: u32 = 4;
const DIRENT: usize = 12;
const XATTR_HEADER: usize = 12;

/// How an inode's data is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// Whole blocks from this one on.
    Plain(u32),
    /// The same, and what is left of the last block behind the inode.
    Inline(u32),
    /// A map of chunks behind the inode; chunks have `2^bits` blocks.
    Chunks { bits: u8 },
    /// There is none; a device has its number here.
    Device(u32),
}

/// All that an inode says.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    /// A number for programs that know 32 bits only.
    pub(super) number: u32,
    /// The length of the attributes that follow.
    pub(super) xattrs: usize,
    pub(super) data: Data,
}

impl Inode {
    pub(super) fn encode(&self) -> Result<[u8; INODE], Errno> {
        let (layout, union) = match self.data {
            Data::Plain(block) => (0_u16, block),
            Data::Inline(block) => (2, block),
            Data::Chunks { bits } => (4, u32::from(bits)),
            Data::Device(number) => (0, number),
        };
        let mut bytes = [0; INODE];
        put(&mut bytes, 0, &(layout << 1 | 1).to_le_bytes());
        put(&mut bytes, 2, &xattr_count(self.xattrs)?.to_le_bytes());
        put(&mut bytes, 4, &narrow::<u16>(self.mode)?.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &union.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.uid.to_le_bytes());
        put(&mut bytes, 28, &self.gid.to_le_bytes());
        put(&mut bytes, 32, &self.mtime.0.to_le_bytes());
        put(&mut bytes, 40, &self.mtime.1.to_le_bytes());
        put(&mut bytes, 44, &self.links.to_le_bytes());
        Ok(bytes)
    }
}

/// What the superblock says beside what never changes.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) root: u64,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
    pub(super) chunked: bool,
}

impl Superblock {
    /// The first block of the file, with its checksum.
    pub(super) fn encode(&self) -> Result<[u8; BLOCK], Errno> {
        let mut block = [0; BLOCK];
        let at = |offset| SUPERBLOCK_AT + offset;
        let incompat = if self.chunked {
            INCOMPAT_CHUNKED_FILE
        } else {
            0
        };
        put(&mut block, at(0), &MAGIC.to_le_bytes());
        put(
            &mut block,
            at(8),
            &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes(),
        );
        put(&mut block, at(12), &[12]);
        put(&mut block, at(14), &narrow::<u16>(self.root)?.to_le_bytes());
        put(&mut block, at(16), &self.inodes.to_le_bytes());
        put(&mut block, at(36), &self.blocks.to_le_bytes());
        put(&mut block, at(48), &self.uuid);
        put(&mut block, at(80), &incompat.to_le_bytes());
        let sum = crc32c(&block[SUPERBLOCK_AT..]);
        put(&mut block, at(4), &sum.to_le_bytes());
        Ok(block)
    }
}

/// CRC-32C without the final inversion, as the kernel's `crc32c(~0, …)` has it. Bit by bit: it is 3 KiB once.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            let carry = if sum & 1 == 1 { POLYNOMIAL } else { 0 };
            sum >> 1 ^ carry
        })
    })
}

/// A name of an attribute, without what its index stands for. None where EROFS has no index for it.
fn xattr_index(name: &[u8]) -> Option<(u8, &[u8])> {
    const PREFIXES: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
    match name {
        b"system.posix_acl_access" => Some((2, b"")),
        b"system.posix_acl_default" => Some((3, b"")),
        _ => PREFIXES
            .iter()
            .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?))),
    }
}

/// How an inode says how long its attributes are: their header counts as one, and the rest in units of four.
fn xattr_count(length: usize) -> Result<u16, Errno> {
    narrow(
        length
            .checked_sub(XATTR_HEADER)
            .map_or(0, |rest| rest / 4 + 1),
    )
}

/// The attributes of an inode as they follow it. The second result counts those that EROFS has no place for.
pub(super) fn xattrs(attributes: &[(Vec<u8>, Vec<u8>)]) -> Result<(Vec<u8>, usize), Errno> {
    let mut bytes = vec![0; XATTR_HEADER];
    let mut left_out = 0;
    for (name, value) in attributes {
        let Some((index, rest)) = xattr_index(name) else {
            left_out += 1;
            continue;
        };
        bytes.push(narrow::<u8>(rest.len())?);
        bytes.push(index);
        bytes.extend(narrow::<u16>(value.len())?.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if bytes.len() == XATTR_HEADER {
        bytes.clear();
    }
    xattr_count(bytes.len())?;
    Ok((bytes, left_out))
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dirent<'n> {
    pub(super) name: &'n [u8],
    pub(super) nid: u64,
    /// The mode of what it leads to.
    pub(super) mode: u32,
}

/// How many bytes a directory with these names has; they are in order.
pub(super) fn directory_size<'n>(names: impl Iterator<Item = &'n [u8]>) -> u64 {
    let (mut full, mut used) = (0, 0);
    for name in names {
        let more = DIRENT + name.len();
        if used + more > BLOCK {
            full += BLOCK as u64;
            used = 0;
        }
        used += more;
    }
    full + used as u64
}

/// The same directory as bytes: in each block first all the fixed parts, then all the names.
pub(super) fn directory(entries: &[Dirent<'_>]) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = rest.iter().take_while(|entry| {
            used += DIRENT + entry.name.len();
            used <= BLOCK
        });
        let (now, later) = rest.split_at(fits.count());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut name_at = now.len() * DIRENT;
        for entry in now {
            bytes.extend(entry.nid.to_le_bytes());
            bytes.extend(narrow::<u16>(name_at)?.to_le_bytes());
            bytes.extend([file_type(entry.mode), 0]);
            name_at += entry.name.len();
        }
        for entry in now {
            bytes.extend(entry.name);
        }
        rest = later;
    }
    Ok(bytes)
}

fn file_type(mode: u32) -> u8 {
    match mode & nix::libc::S_IFMT {
        nix::libc::S_IFREG => 1,
        nix::libc::S_IFDIR => 2,
        nix::libc::S_IFCHR => 3,
        nix::libc::S_IFBLK => 4,
        nix::libc::S_IFIFO => 5,
        nix::libc::S_IFSOCK => 6,
        nix::libc::S_IFLNK => 7,
        _ => 0,
    }
}

/// A device's number as the kernel has it in 32 bits (`new_encode_dev`).
pub(super) fn device(number: u64) -> Result<u32, Errno> {
    let major: u32 = narrow(nix::sys::stat::major(number))?;
    let minor: u32 = narrow(nix::sys::stat::minor(number))?;
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Errno::EOVERFLOW);
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A number that has to fit where the format has it.
pub(super) fn narrow<T>(number: impl TryInto<T>) -> Result<T, Errno> {
    number.try_into().map_err(|_| Errno::EOVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_kernels() {
        // The check value of CRC-32C is 0xE3069283, which is inverted at the end.
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn directories_have_the_size_that_was_promised() {
        let names: Vec<Vec<u8>> = (0..2000_usize)
            .map(|n| vec![b'a'; 1 + n * 7 % NAME_MAX])
            .collect();
        for count in [0, 1, 2, 15, 16, 17, 300, 2000] {
            let entries: Vec<_> = names[..count]
                .iter()
                .map(|name| Dirent {
                    name,
                    nid: 7,
                    mode: nix::libc::S_IFREG,
                })
                .collect();
            let size = directory_size(entries.iter().map(|entry| entry.name));
            assert_eq!(directory(&entries).unwrap().len() as u64, size, "{count}");
        }
    }

    #[test]
    fn what_the_format_has_no_room_for_is_refused() {
        let value = |letter, length| ([b"user.", &[letter][..]].concat(), vec![0; length]);
        assert_eq!(xattrs(&[value(b'x', 65_536)]), Err(Errno::EOVERFLOW));
        let many: Vec<_> = (b'a'..=b'e').map(|letter| value(letter, 60_000)).collect();
        assert!(xattrs(&many[..4]).is_ok());
        assert_eq!(xattrs(&many), Err(Errno::EOVERFLOW));
        let foreign = (b"system.nfs4_acl".to_vec(), vec![1]);
        assert_eq!(xattrs(&[foreign]), Ok((Vec::new(), 1)));
        assert_eq!(device(nix::libc::makedev(4096, 0)), Err(Errno::EOVERFLOW));
        assert_eq!(device(nix::libc::makedev(8, 300)), Ok(0x0010_082C));
    }
}
