//! Streams of bytes: parts of files and their digests (`bytes`), what compression hides in them (`decompress`, with the
//! bounds of `window`), and both in a thread of their own beside who reads (`pipe`).

mod bytes;
mod decompress;
pub(super) mod pipe;
mod window;

pub(super) use bytes::{Section, buffered, hex, sha256, skip_section, start_of};
pub(super) use decompress::{Compression, Undecodable, decoder};
