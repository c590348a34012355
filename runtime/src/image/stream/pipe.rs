//! Reading, hashing and decompressing in one thread, beside the thread that parses and writes, with a bounded number of
//! buffers between them that are used again and again.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use sha2::{Digest, Sha256};

use super::bytes::{Hashed, buffered, hex};
use super::decompress::{Compression, Undecodable, decoder};
use crate::image::limits::{Budget, Limits};

/// The size of a buffer, in bytes.
const CHUNK: usize = 256 << 10;
/// How many buffers there are.
const CHUNKS: usize = 8;

/// The digests of a stream that was read to its end, in lower-case hex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::image) struct Digests {
    /// Of what is stored.
    pub(in crate::image) stored: String,
    /// Of what it is without compression.
    pub(in crate::image) plain: String,
}

/// The end of the pipe that is read: what was decompressed.
pub(in crate::image) struct Plain<'budget> {
    budget: &'budget Budget,
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

/// Hands what `stream` has, decompressed within the limits of `budget`, to `consume`. The digests are complete if it has
/// read to the end; what cannot be read it gets as an error, and one when the image was given up.
pub(in crate::image) fn through<'budget, T>(
    stream: impl Read + Send,
    compression: Compression,
    budget: &'budget Budget,
    consume: impl FnOnce(Plain<'budget>) -> shim::Result<T>,
) -> shim::Result<(T, Digests)> {
    let (full, chunks) = sync_channel(CHUNKS);
    let (empty, again) = channel();
    let plain = Plain {
        budget,
        full: chunks,
        empty,
        chunk: Vec::new(),
        position: 0,
    };
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let produced = produce(stream, compression, budget, &full, &again);
            produced.unwrap_or_else(|error| {
                // Nobody is left to tell it to where the reader has stopped.
                let _ = full.send(Err(error));
                Digests::default()
            })
        });
        let consumed = consume(plain);
        let digests = producer.join().unwrap_or_default();
        consumed.map(|value| (value, digests))
    })
}

fn produce(
    stream: impl Read,
    compression: Compression,
    budget: &Budget,
    full: &SyncSender<io::Result<Vec<u8>>>,
    again: &Receiver<Vec<u8>>,
) -> io::Result<Digests> {
    let mut hash = Sha256::new();
    let mut made = 0;
    let mut pass = |mut stream: Box<dyn Read + '_>| -> io::Result<()> {
        loop {
            let mut chunk = match again.try_recv() {
                Ok(chunk) => chunk,
                Err(_) if made < CHUNKS => {
                    made += 1;
                    vec![0; CHUNK]
                }
                // The reader has stopped.
                Err(_) => match again.recv() {
                    Ok(chunk) => chunk,
                    Err(_) => return Ok(()),
                },
            };
            chunk.resize(CHUNK, 0);
            let (count, end) = fill(&mut stream, &mut chunk);
            hash.update(&chunk[..count]);
            chunk.truncate(count);
            if count > 0 && full.send(Ok(chunk)).is_err() {
                return Ok(());
            }
            if let Some(end) = end {
                return end;
            }
        }
    };
    if compression == Compression::None {
        pass(Box::new(stream))?;
        let digest = hex(&hash.finalize());
        return Ok(Digests {
            stored: digest.clone(),
            plain: digest,
        });
    }
    let (stored, tally) = Hashed::new(stream);
    let share = Limits {
        window: budget.window(),
        ..budget.limits
    };
    decoder(buffered(stored), compression, &share)
        .and_then(pass)
        .inspect_err(|error| {
            if is_window(error) && share.window < budget.limits.window {
                budget.want_all();
            }
        })?;
    Ok(Digests {
        stored: tally.finish().0,
        plain: hex(&hash.finalize()),
    })
}

/// Whether a stream cannot be decompressed for want of memory.
fn is_window(error: &io::Error) -> bool {
    let why = error.get_ref().and_then(|why| why.downcast_ref());
    matches!(why, Some(Undecodable::Window(..)))
}

/// Reads until the buffer is full; or to the end of the stream, or as far as it can be read, and how that was.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Some(Ok(()))),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(Err(error))),
        }
    }
    (filled, None)
}

impl Read for Plain<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Plain<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() {
            let used = std::mem::take(&mut self.chunk);
            if used.capacity() > 0 {
                // The other side may have ended.
                let _ = self.empty.send(used);
            }
            self.position = 0;
            if self.budget.is_given_up() {
                return Err(io::Error::other("another part of the image has failed"));
            }
            // Without another side the stream has ended.
            if let Ok(chunk) = self.full.recv() {
                self.chunk = chunk?;
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.chunk.len());
    }
}
