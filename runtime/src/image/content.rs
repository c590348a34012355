//! The digest of a file's content while it is written, its holes included.

use sha2::{Digest, Sha256};

use super::stream::hex;

/// What a hole reads as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The running digest of a file.
#[derive(Default)]
pub(super) struct Content {
    hash: Sha256,
    length: u64,
}

impl Content {
    /// The next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Nothing up to `offset`.
    pub(super) fn hole_until(&mut self, offset: u64) {
        while self.length < offset {
            let rest = usize::try_from(offset - self.length).unwrap_or(ZEROS.len());
            self.update(&ZEROS[..rest.min(ZEROS.len())]);
        }
    }

    /// Lower-case hex of the digest.
    pub(super) fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}
