//! The fs-verity digest of a file, `sha256:HEX`: one number for all its content, which a kernel that has it switched on
//! for the file checks at every read (Documentation/filesystems/fsverity.rst).
//!
//! Where the kernel has it not, the same digest is computed here, by reading all of the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use shim::{Error, sys};

use crate::regular;

const BLOCK: usize = 4096;
const HASH: usize = 32;
/// The most that is read at once, in blocks.
const BLOCKS: usize = 32;

/// A digest with SHA-256, blocks of 4096 bytes and no salt: what `fsverity digest` prints if not told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; HASH]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || {
            Error::new("read fs-verity digest")
                .on(text)
                .because("it is not sha256: and 64 hexadecimal digits")
                .hint("fsverity digest FILE and image build-erofs --json print one")
        };
        let hex = text
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 2 * HASH);
        let hex = hex.ok_or_else(refuse)?.as_bytes();
        let mut digest = [0; HASH];
        for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (high, low) = digit(0).zip(digit(1)).ok_or_else(refuse)?;
            *byte = u8::try_from(high << 4 | low).map_err(|_| refuse())?;
        }
        Ok(Self(digest))
    }
}

impl Digest {
    /// The words for a file that has digest `found` and should have this one.
    pub(crate) fn differs(self, path: impl fmt::Display, found: Self) -> Error {
        Error::new("check digest of")
            .on(path)
            .because(format!("it is {found} and not {self}"))
            .hint(
                "the file is not the one that was meant: fetch it again, and from where you trust",
            )
    }

    /// What the kernel holds the file to; nothing where it does not.
    ///
    /// # Errors
    /// Any but that the kernel or the filesystem has no fs-verity, or that it is not on for this file.
    pub(crate) fn measured(file: &File) -> Result<Option<Self>, Errno> {
        match sys::verity::measure(file) {
            Ok(digest) => Ok(Some(Self(digest))),
            Err(Errno::ENODATA | Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EOVERFLOW) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads all of a file, from its start.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn of(mut file: impl Read) -> io::Result<Self> {
        let mut tree = Tree::default();
        let mut buffer = vec![0; BLOCKS * BLOCK];
        let mut size: u64 = 0;
        loop {
            let length = fill(&mut file, &mut buffer)?;
            let (data, rest) = buffer.split_at_mut(length);
            size += data.len() as u64;
            // The last block counts as if zeros filled it up.
            let padding = length.next_multiple_of(BLOCK) - length;
            rest[..padding].fill(0);
            for block in buffer[..length + padding].chunks(BLOCK) {
                tree.add(0, hash(block));
            }
            if length < buffer.len() {
                return Ok(Self(describe(size, tree.root())));
            }
        }
    }
}

/// Which digest an image's file must have for a root filesystem to be made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The one that it was imported with.
    Recorded,
    /// This one.
    Exactly(Digest),
}

/// What was found out about an image's file when it was imported: `ID.verity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Its digest.
    pub digest: Digest,
    /// Who has checked it since.
    #[serde(rename = "checked")]
    pub since: Since,
}

/// How much a digest that was right once is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Since {
    /// The kernel checks whatever is read of the file.
    #[serde(rename = "by the kernel, at every read")]
    Kernel,
    /// It was right when the image was imported.
    #[serde(rename = "at import only")]
    Import,
}

impl Recorded {
    /// The name of the file beside image `id`.
    #[must_use]
    pub fn file_name(id: &str) -> String {
        format!("{id}.verity")
    }

    /// What is in that file: the digest, and `kernel` or `import`.
    pub(crate) fn text(self) -> String {
        let since = match self.since {
            Since::Kernel => "kernel",
            Since::Import => "import",
        };
        format!("{} {since}\n", self.digest)
    }

    /// What is known of image `id` in the directory `images`; nothing where it was imported without a digest.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn read(images: &Path, id: &str) -> Result<Option<Self>, Error> {
        let path = images.join(Self::file_name(id));
        let source = regular::Source {
            op: "read digest of image",
            name: &path,
            limit: 200,
        };
        let seen = match source.look() {
            Ok(seen) => seen,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(source.error().errno(errno).hint("check --base")),
        };
        let text = source.read(source.open(&seen)?)?;
        let text = String::from_utf8_lossy(&text);
        let damaged = || {
            source
                .error()
                .because("it is damaged")
                .hint("import the image again, with --replace and --verity")
        };
        let (digest, since) = text.trim_end().split_once(' ').ok_or_else(damaged)?;
        Ok(Some(Self {
            digest: digest.parse()?,
            since: match since {
                "kernel" => Since::Kernel,
                "import" => Since::Import,
                _ => return Err(damaged()),
            },
        }))
    }
}

/// Reads until the buffer is full or the file has ended.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn hash(bytes: &[u8]) -> [u8; HASH] {
    Sha256::digest(bytes).into()
}

/// Hashes of blocks, of blocks of hashes, and so on, of which only the last block at each level is kept.
#[derive(Default)]
struct Tree {
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// The hashes in its last block.
    block: Vec<u8>,
    /// How many it has had.
    count: u64,
}

impl Tree {
    fn add(&mut self, at: usize, hash_below: [u8; HASH]) {
        if self.levels.len() == at {
            self.levels.push(Level::default());
        }
        let level = &mut self.levels[at];
        level.block.extend(hash_below);
        level.count += 1;
        if level.block.len() == BLOCK {
            let full = hash(&level.block);
            level.block.clear();
            self.add(at + 1, full);
        }
    }

    /// The one hash of the topmost level; zeros for an empty file.
    fn root(mut self) -> [u8; HASH] {
        let mut at = 0;
        while let Some(level) = self.levels.get_mut(at) {
            let mut block = std::mem::take(&mut level.block);
            if level.count == 1 {
                let mut root = [0; HASH];
                root.copy_from_slice(&block[..HASH]);
                return root;
            }
            if !block.is_empty() {
                block.resize(BLOCK, 0);
                self.add(at + 1, hash(&block));
            }
            at += 1;
        }
        [0; HASH]
    }
}

/// The hash of the kernel's `struct fsverity_descriptor`.
fn describe(size: u64, root: [u8; HASH]) -> [u8; HASH] {
    let mut descriptor = [0; 256];
    // Version 1, SHA-256, blocks of 2^12 bytes.
    descriptor[..3].copy_from_slice(&[1, 1, 12]);
    descriptor[8..16].copy_from_slice(&size.to_le_bytes());
    descriptor[16..16 + HASH].copy_from_slice(&root);
    hash(&descriptor)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Sizes on both sides of every border: of a block, of a block of hashes, and of a block of blocks of these.
    #[test]
    fn it_is_what_fsverity_prints() {
        let path = std::env::temp_dir().join(format!("verity-{}", std::process::id()));
        for size in [
            0,
            1,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            128 * BLOCK - 1,
            128 * BLOCK,
            128 * BLOCK + 1,
            128 * 128 * BLOCK,
            128 * 128 * BLOCK + 1,
        ] {
            let content: Vec<u8> = (0..=250).cycle().take(size).collect();
            std::fs::write(&path, content).unwrap();
            let printed = Command::new("fsverity")
                .args(["digest", "--compact"])
                .arg(&path)
                .output()
                .expect("fsverity is needed");
            let printed = String::from_utf8(printed.stdout).unwrap();
            let digest = Digest::of(File::open(&path).unwrap()).unwrap();
            assert_eq!(
                digest.to_string(),
                format!("sha256:{}", printed.trim()),
                "{size}"
            );
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let long = format!("sha256:{}", "0".repeat(65));
        let odd = format!("sha256:{}é{}", "0".repeat(31), "0".repeat(31));
        let signed = format!("sha256:+{}", "0".repeat(63));
        for text in ["", "sha256:", "sha512:00", &long, &odd, &signed] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }
}
