//! Byte streams: a part of a file, and its SHA-256 on the way.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// How much is read from a file at once, in bytes.
const CHUNK: usize = 128 << 10;

/// A part of a file, read without moving the file's own position, so that several may share it.
#[derive(Debug, Clone)]
pub(in crate::image) struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    /// The `length` bytes of `file` from `start`.
    pub(in crate::image) fn new(file: Arc<File>, start: u64, length: u64) -> Self {
        Self {
            file,
            position: start,
            end: start.saturating_add(length),
        }
    }

    /// The whole of `file`, as long as it is now.
    pub(in crate::image) fn whole(file: Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::new(file, 0, length))
    }

    /// A part of this part.
    pub(in crate::image) fn part(&self, start: u64, length: u64) -> Self {
        let start = self.position.saturating_add(start).min(self.end);
        Self {
            file: Arc::clone(&self.file),
            position: start,
            end: start.saturating_add(length).min(self.end),
        }
    }

    /// How many bytes are left in it.
    pub(in crate::image) fn length(&self) -> u64 {
        self.end - self.position
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.position)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Passes over bytes of a buffered section without reading them.
pub(in crate::image) fn skip_section(
    reader: &mut BufReader<Section>,
    count: u64,
) -> io::Result<()> {
    let buffered = reader.buffer().len();
    let from_buffer = usize::try_from(count).unwrap_or(usize::MAX).min(buffered);
    reader.consume(from_buffer);
    let rest = count - from_buffer as u64;
    let section = reader.get_mut();
    if rest > section.length() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    section.position += rest;
    Ok(())
}

/// The running SHA-256 and length of a stream, readable while something else owns the stream.
#[derive(Clone, Default)]
pub(super) struct Tally(Rc<RefCell<(Sha256, u64)>>);

impl Tally {
    /// Lower-case hex of the digest, and the number of bytes.
    pub(super) fn finish(&self) -> (String, u64) {
        let state = self.0.borrow();
        (hex(&state.0.clone().finalize()), state.1)
    }
}

/// Counts and hashes whatever is read through it.
pub(super) struct Hashed<R> {
    inner: R,
    tally: Tally,
}

impl<R: Read> Hashed<R> {
    /// The stream and its tally.
    pub(super) fn new(inner: R) -> (Self, Tally) {
        let tally = Tally::default();
        (
            Self {
                inner,
                tally: tally.clone(),
            },
            tally,
        )
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut state = self.tally.0.borrow_mut();
        state.0.update(&buffer[..count]);
        state.1 += count as u64;
        Ok(count)
    }
}

/// The SHA-256 of `data` in lower-case hex.
pub(in crate::image) fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// Lower-case hex.
pub(in crate::image) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

/// A buffer of the usual size around `reader`.
pub(in crate::image) fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(CHUNK, reader)
}

/// The first bytes of a section, up to `N`, padded with zeros.
pub(in crate::image) fn start_of<const N: usize>(
    mut reader: impl Read,
) -> io::Result<([u8; N], usize)> {
    let mut start = [0; N];
    let mut filled = 0;
    while filled < N {
        match reader.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((start, filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_what_passes() {
        let (mut stream, tally) = Hashed::new(&b"abc"[..]);
        io::copy(&mut stream, &mut io::sink()).unwrap();
        let (digest, length) = tally.finish();
        assert_eq!(
            digest,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest, sha256(b"abc"));
        assert_eq!(length, 3);
    }
}
