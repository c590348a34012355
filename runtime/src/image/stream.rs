//! Byte streams: a part of a file, its SHA-256 on the way, and what decompresses it.
//!
//! Compression is told from the first bytes, never from a name or a media type, because both lie in practice.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// How much is read from a file at once, in bytes.
const CHUNK: usize = 128 << 10;
/// The largest window a zstd frame may ask for, as a power of two: 128 MiB, the most that `zstd -d` grants unasked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A part of a file, read without moving the file's own position, so that several may share it.
#[derive(Debug, Clone)]
pub(super) struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    /// The `length` bytes of `file` from `start`.
    pub(super) fn new(file: Arc<File>, start: u64, length: u64) -> Self {
        Self {
            file,
            position: start,
            end: start.saturating_add(length),
        }
    }

    /// The whole of `file`, as long as it is now.
    pub(super) fn whole(file: Arc<File>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::new(file, 0, length))
    }

    /// A part of this part.
    pub(super) fn part(&self, start: u64, length: u64) -> Self {
        let start = self.position.saturating_add(start).min(self.end);
        Self {
            file: Arc::clone(&self.file),
            position: start,
            end: start.saturating_add(length).min(self.end),
        }
    }

    /// How many bytes are left in it.
    pub(super) fn length(&self) -> u64 {
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
pub(super) fn skip_section(reader: &mut BufReader<Section>, count: u64) -> io::Result<()> {
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
pub(super) fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// It is not.
    None,
    /// gzip members, RFC 1952.
    Gzip,
    /// zstd frames, RFC 8878.
    Zstd,
}

impl Compression {
    /// Told from the first bytes of a stream. What is known and not supported is an error that names it.
    pub(super) fn of(start: &[u8]) -> Result<Self, &'static str> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame first, as seekable and split zstd files have it.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("it is compressed with xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, ..] => {
                Err("it is compressed with bzip2")
            }
            [b'P', b'K', 3, 4, ..] => Err("it is a zip file"),
            _ => Ok(Self::None),
        }
    }
}

/// What decompresses `stream`.
pub(super) fn decoder<'a>(
    stream: impl BufRead + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(stream),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// A buffer of the usual size around `reader`.
pub(super) fn buffered<R: Read>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(CHUNK, reader)
}

/// The first bytes of a section, up to `N`, padded with zeros.
pub(super) fn start_of<const N: usize>(mut reader: impl Read) -> io::Result<([u8; N], usize)> {
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
    fn compression_is_told_from_the_first_bytes() {
        assert_eq!(Compression::of(b"\x1f\x8b\x08\0"), Ok(Compression::Gzip));
        assert_eq!(Compression::of(b"\x28\xb5\x2f\xfd"), Ok(Compression::Zstd));
        assert_eq!(Compression::of(b"\x5a\x2a\x4d\x18"), Ok(Compression::Zstd));
        assert_eq!(Compression::of(b""), Ok(Compression::None));
        assert_eq!(Compression::of(b"etc/passwd"), Ok(Compression::None));
        assert!(Compression::of(b"\xfd7zXZ\0\0\0").is_err());
        assert!(Compression::of(b"BZh91AY&SY").is_err());
    }

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
