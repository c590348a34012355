//! Undoes compression: tells which one it is, bounds the memory for it, and says what is wrong with a stream.
//!
//! Compression is told from the first bytes, never from a name or a media type, because both lie in practice. Where a
//! stream has several parts (gzip members, zstd frames, xz and bzip2 streams), all are read, as the programs of these names
//! do. Zeros behind the last one of gzip, xz and bzip2 are padding, as tapes and fixed block sizes leave it; anything else
//! there is an error, because one reader would see it and another would not.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};
use std::marker::PhantomData;
use std::rc::Rc;

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use super::window::{xz_dictionary, zstd_expected, zstd_window};
use crate::image::limits::{Limits, Size};

/// What XzReader counts besides the dictionary, in KiB.
const XZ_STATE_KIB: u64 = 104;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Compression {
    /// It is not.
    None,
    /// gzip members, RFC 1952.
    Gzip,
    /// zstd frames, RFC 8878.
    Zstd,
    /// xz streams, <https://tukaani.org/xz/xz-file-format.txt>.
    Xz,
    /// bzip2 streams.
    Bzip2,
}

impl Compression {
    /// Told from the first bytes of a stream. What is known and not supported is an error that names it.
    pub(in crate::image) fn of(start: &[u8]) -> Result<Self, &'static str> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A skippable frame first, as seekable and split zstd files have it.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Self::Xz),
            // A block's magic number, or that of the end where there is no block.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, 0x41 | 0x72, ..] => Ok(Self::Bzip2),
            [b'P', b'K', 3, 4, ..] => Err("it is a zip file"),
            [b'L', b'Z', b'I', b'P', ..] => Err("it is compressed with lzip"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err("it is compressed with lz4"),
            [0x5d, 0, 0, _, _, 0xff, 0xff, ..] => Err("it is compressed with lzma"),
            [0x1f, 0x9d, ..] => Err("it is compressed with compress"),
            _ => Ok(Self::None),
        }
    }

    /// The program that makes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// How much memory a stream that begins so is going to take, as far as that can be known.
    pub(in crate::image) fn expected(self, start: &[u8]) -> Option<u64> {
        match self {
            Self::Zstd => zstd_expected(start),
            // A later part may have the largest blocks.
            Self::Bzip2 => self.window(b"BZh9"),
            other => other.window(start),
        }
    }

    /// How much memory a stream that begins so says that it takes; the rest of it may take more.
    fn window(self, start: &[u8]) -> Option<u64> {
        match self {
            Self::None => Some(0),
            Self::Gzip => Some(32 << 10),
            Self::Zstd => zstd_window(start),
            Self::Xz => xz_dictionary(start),
            // Four bytes for each byte of a block.
            Self::Bzip2 => start
                .get(3)
                .map(|level| u64::from(level.saturating_sub(b'0')) * 400_000),
        }
    }
}

/// Why a stream cannot be decompressed.
#[derive(Debug)]
pub(in crate::image) enum Undecodable {
    /// It ends in the middle.
    Truncated(Compression),
    /// It is not what its maker made.
    Damaged(Compression, String),
    /// Its window is larger than is allowed: how large where that is known, and what is allowed.
    Window(Option<u64>, u64),
    /// It becomes more than so many bytes, and so many times what it is.
    Ratio(u64, u64),
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(compression) => {
                write!(f, "the {} data ends too early", compression.name())
            }
            Self::Damaged(compression, why) => {
                write!(f, "the {} data is damaged: {why}", compression.name())
            }
            Self::Window(Some(needed), allowed) => write!(
                f,
                "decompressing it takes a window of {}, and {} are allowed",
                Size(*needed),
                Size(*allowed)
            ),
            Self::Window(None, allowed) => write!(
                f,
                "decompressing it takes a window of more than the {} that are allowed",
                Size(*allowed)
            ),
            Self::Ratio(most, ratio) => write!(
                f,
                "it unpacks to more than {} and {ratio} times its own size",
                Size(*most)
            ),
        }
    }
}

impl StdError for Undecodable {}

/// What decompresses `stream`, within the window and the ratio of `limits`.
pub(in crate::image) fn decoder<'a>(
    mut stream: impl BufRead + 'a,
    compression: Compression,
    limits: &Limits,
) -> io::Result<Box<dyn Read + 'a>> {
    let window = limits.window;
    let start = peek(&mut stream)?;
    let needed = compression.window(start);
    if needed.is_some_and(|needed| needed > window) {
        return Err(io::Error::other(Undecodable::Window(needed, window)));
    }
    let stored = Rc::new(Cell::new(0));
    let stream = Counted {
        inner: stream,
        count: Rc::clone(&stored),
    };
    let inner: Box<dyn Read + 'a> = match compression {
        Compression::None => return Ok(Box::new(stream.inner)),
        Compression::Gzip => Box::new(Parts::<_, GzDecoder<_>>::new(stream)),
        Compression::Bzip2 => Box::new(Parts::<_, BzDecoder<_>>::new(stream)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
            decoder.window_log_max(window.max(1024).ilog2())?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let limit = u32::try_from((window >> 10) + XZ_STATE_KIB).unwrap_or(u32::MAX);
            Box::new(XzReader::new_mem_limit(stream, true, limit))
        }
    };
    Ok(Box::new(Decoder {
        inner: Some(inner),
        compression,
        limits: *limits,
        stored,
        plain: 0,
    }))
}

/// Counts what is taken out of a buffered stream.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.count.set(self.count.get() + count as u64);
    }
}

/// A decoder that says what is wrong, and that is not asked again afterwards.
struct Decoder<'a> {
    inner: Option<Box<dyn Read + 'a>>,
    compression: Compression,
    limits: Limits,
    /// How much was read, and how much it became.
    stored: Rc<Cell<u64>>,
    plain: u64,
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else {
            return Err(ErrorKind::InvalidData.into());
        };
        match inner.read(buffer) {
            Ok(count) => {
                self.plain += count as u64;
                let Limits {
                    any_ratio, ratio, ..
                } = self.limits;
                if self.plain > any_ratio && self.plain > self.stored.get().saturating_mul(ratio) {
                    self.inner = None;
                    return Err(io::Error::other(Undecodable::Ratio(any_ratio, ratio)));
                }
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.inner = None;
                Err(self.explained(error))
            }
        }
    }
}

impl Decoder<'_> {
    fn explained(&self, error: io::Error) -> io::Error {
        if error.raw_os_error().is_some() {
            return error;
        }
        let text = error.to_string();
        // zstd has no kind of error for it, only this text (ZSTD_error_frameParameter_windowTooLarge).
        let window =
            error.kind() == ErrorKind::OutOfMemory || text.contains("too much memory for decoding");
        let why = if window {
            Undecodable::Window(None, self.limits.window)
        } else if error.kind() == ErrorKind::UnexpectedEof {
            Undecodable::Truncated(self.compression)
        } else {
            Undecodable::Damaged(self.compression, text)
        };
        io::Error::other(why)
    }
}

/// A decoder of one part of a stream.
trait Part<R>: Read {
    /// The first byte that every part has.
    const FIRST: u8;
    fn begin(reader: R) -> Self;
    fn end(self) -> R;
}

impl<R: BufRead> Part<R> for GzDecoder<R> {
    const FIRST: u8 = 0x1f;

    fn begin(reader: R) -> Self {
        Self::new(reader)
    }

    fn end(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> Part<R> for BzDecoder<R> {
    const FIRST: u8 = b'B';

    fn begin(reader: R) -> Self {
        Self::new(reader)
    }

    fn end(self) -> R {
        self.into_inner()
    }
}

/// All parts of a stream, one after the other, and zeros behind the last one.
struct Parts<R, P> {
    part: Option<P>,
    reader: PhantomData<R>,
}

impl<R: BufRead, P: Part<R>> Parts<R, P> {
    fn new(reader: R) -> Self {
        Self {
            part: Some(P::begin(reader)),
            reader: PhantomData,
        }
    }
}

impl<R: BufRead, P: Part<R>> Read for Parts<R, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = &mut self.part {
            match part.read(buffer)? {
                0 if !buffer.is_empty() => {}
                count => return Ok(count),
            }
            let Some(mut reader) = self.part.take().map(P::end) else {
                break;
            };
            match peek(&mut reader)?.first() {
                None => {}
                Some(0) => only_zeros(&mut reader)?,
                Some(first) if *first == P::FIRST => self.part = Some(P::begin(reader)),
                Some(_) => return Err(something_follows()),
            }
        }
        Ok(0)
    }
}

/// What comes next, without taking it.
fn peek(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    while let Err(error) = reader.fill_buf() {
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // What is there is only handed out: nothing is read again.
    reader.fill_buf()
}

fn only_zeros(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let padding = peek(reader)?;
        if padding.is_empty() {
            return Ok(());
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(something_follows());
        }
        let length = padding.len();
        reader.consume(length);
    }
}

fn something_follows() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "something else follows it")
}

#[cfg(test)]
#[path = "decompress_tests.rs"]
mod tests;
