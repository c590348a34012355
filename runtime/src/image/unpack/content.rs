//! The digest of a file's content, while it is written and while it is looked at again.
//!
//! A file of a few bytes may have holes of exabytes, so what costs nothing to store must cost nothing to hash: blocks of
//! zeros, holes or not, are counted. A file without such a block has the SHA-256 of its bytes; any other that of the digest of its
//! other bytes and the list of these blocks.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use sha2::{Digest, Sha256};

use crate::image::stream::hex;

/// The unit in which zeros are counted; blocks lie at its multiples.
const BLOCK: u64 = 64 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// How much of a file is read at once.
const CHUNK: usize = 128 << 10;

/// The running digest of a file.
#[derive(Default)]
pub(in crate::image) struct Content {
    hash: Sha256,
    length: u64,
    /// How many bytes of the current block have come, all of them zeros; they are in no digest yet.
    zeros: u64,
    /// Number of the first block of zeros that is in no digest yet, and how many there are.
    run: (u64, u64),
    runs: Option<Sha256>,
}

impl Content {
    /// The digest of a whole file.
    pub(in crate::image) fn of(file: &File) -> io::Result<String> {
        let mut content = Self::default();
        let length = file.metadata()?.len();
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = file.read_at(&mut buffer, content.length)?;
            if count == 0 {
                content.hole_until(length);
                return Ok(content.finish());
            }
            content.update(&buffer[..count]);
            // Only zeros: perhaps because nothing is there for a while.
            let mut blocks = buffer[..count].chunks(ZEROS.len());
            if blocks.all(|block| *block == ZEROS[..block.len()]) {
                match lseek(file.as_fd(), content.length.cast_signed(), Whence::SeekData) {
                    Ok(data) => content.hole_until(data.unsigned_abs()),
                    // No more data; or a filesystem that does not tell, whose zeros are read.
                    Err(Errno::ENXIO) => content.hole_until(length),
                    Err(_) => {}
                }
            }
        }
    }

    /// The next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let rest = BLOCK - self.length % BLOCK;
            let count = usize::try_from(rest).unwrap_or(bytes.len());
            let (piece, after) = bytes.split_at(count.min(bytes.len()));
            let so_far = self.length % BLOCK;
            if self.zeros == so_far && *piece == ZEROS[..piece.len()] {
                self.zeros += piece.len() as u64;
            } else {
                self.flush();
                self.hash.update(piece);
            }
            self.length += piece.len() as u64;
            if self.zeros == BLOCK {
                self.zeros = 0;
                self.count(self.length / BLOCK - 1, 1);
            }
            bytes = after;
        }
    }

    /// Nothing up to `offset`.
    pub(super) fn hole_until(&mut self, offset: u64) {
        while self.length < offset {
            let rest = offset - self.length;
            if self.length.is_multiple_of(BLOCK) && rest >= BLOCK {
                let blocks = rest / BLOCK;
                self.count(self.length / BLOCK, blocks);
                self.length += blocks * BLOCK;
            } else {
                let rest = rest.min(BLOCK - self.length % BLOCK);
                let rest = usize::try_from(rest).unwrap_or(ZEROS.len());
                self.update(&ZEROS[..rest.min(ZEROS.len())]);
            }
        }
    }

    /// Lower-case hex of the digest.
    pub(super) fn finish(mut self) -> String {
        self.flush();
        let data = self.hash.finalize();
        match self.runs {
            None => hex(&data),
            Some(runs) => hex(&runs.chain_update(data).finalize()),
        }
    }

    /// Adds `blocks` blocks of zeros, of which `first` is the first.
    fn count(&mut self, first: u64, blocks: u64) {
        if self.run.1 > 0 && self.run.0 + self.run.1 == first {
            self.run.1 += blocks;
            return;
        }
        self.end_run();
        self.run = (first, blocks);
    }

    fn end_run(&mut self) {
        let (first, blocks) = std::mem::take(&mut self.run);
        if blocks > 0 {
            let runs = self.runs.get_or_insert_default();
            runs.update(first.to_le_bytes());
            runs.update(blocks.to_le_bytes());
        }
    }

    /// What was held back is part of a block that is no block of zeros.
    fn flush(&mut self) {
        self.end_run();
        let zeros = usize::try_from(std::mem::take(&mut self.zeros)).unwrap_or(ZEROS.len());
        self.hash.update(&ZEROS[..zeros]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::stream::sha256;

    /// The same bytes in pieces of several sizes, with their zeros as holes, and from a file with holes.
    fn in_every_way(bytes: &[u8]) -> String {
        let mut whole = Content::default();
        whole.update(bytes);
        let digest = whole.finish();
        for size in [1, 7, 4096, 65_536, 100_000] {
            let (mut pieces, mut holes) = (Content::default(), Content::default());
            for piece in bytes.chunks(size) {
                pieces.update(piece);
                if piece.iter().all(|byte| *byte == 0) {
                    let end = holes.length + piece.len() as u64;
                    holes.hole_until(end);
                } else {
                    holes.update(piece);
                }
            }
            assert_eq!(pieces.finish(), digest, "{size}");
            assert_eq!(holes.finish(), digest, "{size}");
        }
        let path = std::env::temp_dir().join(format!("content-{}", sha256(bytes)));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = file.unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (number, piece) in bytes.chunks(4096).enumerate() {
            if piece.iter().any(|byte| *byte != 0) {
                file.write_all_at(piece, (number * 4096) as u64).unwrap();
            }
        }
        assert_eq!(Content::of(&file).unwrap(), digest);
        std::fs::remove_file(path).unwrap();
        digest
    }

    #[test]
    fn the_digest_is_one_however_the_bytes_come() {
        let text = b"text".repeat(50_000);
        assert_eq!(in_every_way(&text), sha256(&text));
        assert_eq!(in_every_way(&[0; 100]), sha256(&[0; 100]));
        assert_eq!(in_every_way(b""), sha256(b""));
        let block = ZEROS.to_vec();
        let mut seen = std::collections::BTreeSet::new();
        for parts in [
            vec![block.clone()],
            vec![block.clone(), block.clone()],
            vec![block.clone(), b"x".to_vec()],
            vec![b"x".to_vec(), block.clone()],
            vec![b"x".to_vec(), block.clone(), block.clone(), b"y".to_vec()],
            vec![
                text.clone(),
                block.clone(),
                block.clone(),
                block.clone(),
                text,
            ],
            vec![block, vec![0; 10]],
        ] {
            assert!(seen.insert(in_every_way(&parts.concat())));
        }
    }

    #[test]
    fn a_hole_of_exabytes_takes_no_time() {
        let mut content = Content::default();
        content.update(b"start");
        content.hole_until(i64::MAX.unsigned_abs() - 1);
        content.update(b"end");
        let digest = content.finish();
        let mut other = Content::default();
        other.update(b"start");
        other.hole_until(i64::MAX.unsigned_abs() - BLOCK - 1);
        other.update(b"end");
        assert_ne!(digest, other.finish());
    }
}
