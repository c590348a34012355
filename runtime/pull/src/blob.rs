//! Fetches one blob into its part, from where the part ends, and verifies it.

use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use oci_client::client::{BlobResponse, SizedStream};
use runtime::image::parts::{Claim, Part};
use runtime::image::{Part as Told, Piece, Work};
use sha2::{Digest as _, Sha256};
use shim::{Error, Result};
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::{Failure, Trouble};
use crate::patience::Failures;
use crate::registry::Registry;

/// What a registry has to send within the time that it may be silent, in bytes: a trickle is silence, too.
const TRICKLE: u64 = 16 << 10;
/// How much has to come for earlier failures to be forgotten.
const FORWARD: u64 = 1 << 20;
/// How often a part is looked at that somebody else is writing to.
const LOOK: Duration = Duration::from_millis(50);

/// A blob that is being fetched.
struct Fetch<'r> {
    registry: &'r Registry,
    piece: &'r Piece,
    part: Part,
    told: Told,
    /// How much of it there is, and the hash of that.
    length: u64,
    hash: Sha256,
}

/// Fetches a blob, or what is missing of it. Its content is verified; others may have the part from then on.
pub(crate) async fn fetch(registry: &Registry, piece: &Piece) -> Result<Part, Failure> {
    let part = claim(registry, piece).await?;
    let mut fetch = Fetch {
        registry,
        piece,
        part,
        told: registry
            .progress
            .part(Work::Fetch, &piece.digest, Some(piece.size)),
        length: 0,
        hash: Sha256::new(),
    };
    match fetch.run().await {
        Ok(()) => {
            fetch.part.release()?;
            fetch.told.done();
            Ok(fetch.part)
        }
        Err(failure) => {
            // What another try can go on with is kept.
            if !failure.may_pass {
                registry.parts.remove(&fetch.part)?;
            }
            Err(failure)
        }
    }
}

/// Waits while another pull fetches the same blob, as long as it comes forward.
async fn claim(registry: &Registry, piece: &Piece) -> Result<Part, Failure> {
    let silence = registry.patience.silence;
    let mut seen = None;
    let mut end = Instant::now() + silence;
    loop {
        match registry.parts.claim(&piece.digest)? {
            Claim::Ours(part) => return Ok(part),
            Claim::Busy(length) if seen != Some(length) => {
                seen = Some(length);
                end = Instant::now() + silence;
            }
            Claim::Busy(_) if Instant::now() < end => {}
            Claim::Busy(_) => {
                return Err(Error::new("fetch blob")
                    .on(&piece.digest)
                    .because(format!(
                        "another pull has it and has not come forward for {} s",
                        silence.as_secs()
                    ))
                    .hint(format!(
                        "see who has a file in {} open with fuser",
                        registry.parts.path().display()
                    ))
                    .into());
            }
        }
        sleep(LOOK).await;
    }
}

impl Fetch<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        self.take_up()?;
        let mut resumed = self.length > 0;
        loop {
            self.complete().await?;
            let found = self.found();
            if found == self.piece.digest {
                return Ok(());
            }
            if !resumed {
                return Err(self
                    .bad(format!(
                        "it should have the digest {} and has {found}",
                        self.piece.digest
                    ))
                    .into());
            }
            // What was there before may have been no beginning of it.
            resumed = false;
            self.start_over()?;
        }
    }

    /// Fetches what is missing.
    async fn complete(&mut self) -> Result<(), Failure> {
        let mut failures = Failures::default();
        let mut forward = self.length;
        while self.length < self.piece.size {
            if let Err(failure) = self.rest().await {
                if self.length >= forward + FORWARD {
                    failures.forget();
                    forward = self.length;
                }
                failures.again(failure).await?;
            }
        }
        Ok(())
    }

    /// Asks for the rest once, and takes what comes of it.
    async fn rest(&mut self) -> Result<(), Failure> {
        let registry = self.registry;
        let client = registry.client().await?;
        let (reference, digest) = (&registry.plan.reference, self.piece.digest.as_str());
        let (mut stream, mut known) = match self.length {
            0 => {
                let whole = client.pull_blob_stream(reference, digest);
                let whole = registry.patience.whole(whole).await;
                (whole.map_err(|trouble| self.failed(&trouble))?, 0)
            }
            from => {
                let rest = client.pull_blob_stream_partial(reference, digest, from, None);
                let rest = registry.patience.whole(rest).await;
                match rest.map_err(|trouble| self.failed(&trouble))? {
                    BlobResponse::Partial(stream) => (stream, 0),
                    // Not every registry knows ranges: it sends again what is there.
                    BlobResponse::Full(stream) => (stream, from),
                }
            }
        };
        let mut window = Window::new(registry.patience.silence);
        while let Some(mut bytes) = self.next(&mut stream, &window).await? {
            window.came(bytes.len() as u64);
            let skip = usize::try_from(known)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            known -= skip as u64;
            bytes.advance(skip);
            if bytes.len() as u64 > self.piece.size - self.length {
                return Err(self
                    .bad(format!("more than {} bytes came", self.piece.size))
                    .into());
            }
            self.part
                .file
                .write_all(&bytes)
                .map_err(|error| self.unwritable(&error))?;
            self.hash.update(&bytes);
            self.length += bytes.len() as u64;
            self.told.advance(bytes.len() as u64);
        }
        if self.length == self.piece.size {
            return Ok(());
        }
        let early = ErrorKind::UnexpectedEof.into();
        Err(self.failed(&Trouble::BrokenOff(early)))
    }

    async fn next(
        &self,
        stream: &mut SizedStream,
        window: &Window,
    ) -> Result<Option<Bytes>, Failure> {
        match timeout_at(window.end, stream.next()).await {
            Err(_) => Err(self.failed(&Trouble::Silent(window.silence))),
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(self.failed(&Trouble::BrokenOff(error))),
        }
    }

    /// Reads what an earlier pull has left.
    fn take_up(&mut self) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.part.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.hash.update(&buffer[..count]);
                    self.length += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unwritable(&error)),
            }
        }
        if self.length > self.piece.size {
            self.start_over()?;
        }
        self.told.advance(self.length);
        Ok(())
    }

    fn start_over(&mut self) -> Result<()> {
        let file = &mut self.part.file;
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .map_err(|error| self.unwritable(&error))?;
        self.length = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    fn found(&self) -> String {
        shown(self.hash.clone())
    }

    fn failed(&self, trouble: &Trouble) -> Failure {
        let (digest, plan) = (&self.piece.digest, &self.registry.plan);
        let failure = Failure::of("fetch blob", digest, trouble, plan);
        // A registry that was there a moment ago may be starting again.
        Failure {
            may_pass: failure.may_pass || failure.refused,
            ..failure
        }
    }

    fn bad(&self, why: String) -> Error {
        Error::new("fetch blob")
            .on(&self.piece.digest)
            .because(why)
            .hint("the registry, or somebody on the way to it, has changed it")
    }

    fn unwritable(&self, error: &std::io::Error) -> Error {
        Error::io("write blob", &self.piece.digest, error).hint(format!(
            "blobs are kept in {} while they come; free some space, or choose another directory with --data",
            self.registry.parts.path().display()
        ))
    }
}

/// The digest of `data`, `sha256:` and hex.
pub(crate) fn sha256(data: &[u8]) -> String {
    shown(Sha256::new().chain_update(data))
}

fn shown(hash: Sha256) -> String {
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// The time in which something has to come.
struct Window {
    silence: Duration,
    end: Instant,
    came: u64,
}

impl Window {
    fn new(silence: Duration) -> Self {
        Self {
            silence,
            end: Instant::now() + silence,
            came: 0,
        }
    }

    fn came(&mut self, bytes: u64) {
        self.came += bytes;
        if self.came >= TRICKLE {
            *self = Self::new(self.silence);
        }
    }
}
