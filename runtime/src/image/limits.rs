//! What an image may take of the machine, so that a few kilobytes cannot fill its disk or its memory.
//!
//! Bytes and files are counted over all of an image from what the archives' headers say, before the data is read: a header
//! that claims too much is refused at once. Holes take no space and are not counted.
//!
//! Memory is shared among the layers that are unpacked at the same time. What does not fit one's share is no reason to
//! refuse an image: it is unpacked again, layer by layer, each with all of the memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use shim::{Error, Result};

use crate::decimal::decimal;
use crate::suggest::{Wrong, shown};

/// What decompressing all layers that are unpacked at the same time may take, in bytes; more only where `max_window` says
/// so of one.
const STREAMS: u64 = 36 << 20;
/// What decompressing one layer takes besides its window, in bytes: buffers and state.
const STREAM: u64 = 3 << 20;
/// What all layers that are unpacked at the same time may keep of themselves, in bytes, before it goes to disk.
pub(super) const TABLES: usize = 8 << 20;

/// The most that one image may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `max_size`: bytes of data in all files of all layers.
    pub size: u64,
    /// `max_files`: members of all layers.
    pub files: u64,
    /// `max_ratio`: bytes that one compressed byte becomes, in a stream that becomes more than `any_ratio`.
    pub ratio: u64,
    /// Bytes that a stream may become whatever the ratio: a disk image of zeros is nothing bad.
    pub any_ratio: u64,
    /// `max_window`: bytes of memory that decompressing one layer may take.
    pub window: u64,
}

impl Default for Limits {
    /// What no image in use is known to need, and a disk of an appliance has; with this window an import stays below 64 MiB
    /// (`xz -8`, `zstd -19` and `zstd --ultra -20` fit).
    fn default() -> Self {
        Self {
            size: 256 << 30,
            files: 10_000_000,
            ratio: 200,
            any_ratio: 8 << 30,
            window: 32 << 20,
        }
    }
}

/// What a command line or the configuration says of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitArgs {
    /// `max_size`
    pub size: Option<u64>,
    /// `max_files`
    pub files: Option<u64>,
    /// `max_ratio`
    pub ratio: Option<u64>,
    /// `max_window`
    pub window: Option<u64>,
}

impl Limits {
    /// These, where `args` says nothing else.
    #[must_use]
    pub fn with(self, args: &LimitArgs) -> Self {
        Self {
            size: args.size.unwrap_or(self.size),
            files: args.files.unwrap_or(self.files),
            ratio: args.ratio.unwrap_or(self.ratio),
            window: args.window.unwrap_or(self.window),
            ..self
        }
    }
}

/// Reads a limit: a number above 0 with k, m, g or t after it if you like (units of 1024), or `none`.
pub(crate) fn parse_limit(text: &str) -> Result<u64, Wrong> {
    if text == "none" {
        return Ok(u64::MAX);
    }
    let unit = text
        .bytes()
        .last()
        .map(|letter| letter.to_ascii_lowercase());
    let shift = match unit {
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        _ => 0,
    };
    let digits = &text[..text.len() - usize::from(shift > 0)];
    match decimal(digits.as_bytes()) {
        Some(number @ 1..) => Ok(u64::from(number) << shift),
        _ => Err(Wrong::new(
            format!("\"{}\" is no limit", shown(text.as_ref())),
            "give a number above 0, with k, m, g or t after it if you like, or none",
        )),
    }
}

/// What one image has taken so far; copies count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    pub(super) limits: Limits,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: AtomicU64,
    files: AtomicU64,
    /// Something of the image has failed.
    given_up: AtomicBool,
    /// How many layers share the memory; none is one as well.
    sharing: AtomicUsize,
    /// Something does not fit its share of the memory.
    wants_all: AtomicBool,
}

impl Budget {
    /// Nothing is taken yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Arc::default(),
        }
    }

    /// How many layers may be unpacked at the same time whose windows are at most this large.
    pub(in crate::image) fn side_by_side(window: u64) -> usize {
        let fit = STREAMS / window.saturating_add(STREAM);
        usize::try_from(fit).unwrap_or(usize::MAX).max(1)
    }

    /// Begins to unpack, so many layers at the same time; what was taken before does not count.
    pub(in crate::image) fn begin(&self, sharing: usize) {
        let taken = &self.taken;
        taken.bytes.store(0, Ordering::Relaxed);
        taken.files.store(0, Ordering::Relaxed);
        taken.given_up.store(false, Ordering::Relaxed);
        taken.sharing.store(sharing, Ordering::Relaxed);
        taken.wants_all.store(false, Ordering::Relaxed);
    }

    fn sharing(&self) -> usize {
        self.taken.sharing.load(Ordering::Relaxed).max(1)
    }

    /// The window that decompressing one layer may take now.
    pub(in crate::image) fn window(&self) -> u64 {
        match self.sharing() {
            1 => self.limits.window,
            sharing => (STREAMS / sharing as u64 - STREAM).min(self.limits.window),
        }
    }

    /// How many bytes one layer may keep of itself now.
    pub(in crate::image) fn table(&self) -> usize {
        TABLES / self.sharing()
    }

    /// What may be `alone` bytes, or pieces, for one layer, may now be so many.
    pub(in crate::image) fn part_of(&self, alone: usize) -> usize {
        match self.sharing() {
            1 => alone,
            _ => alone / 64,
        }
    }

    /// Something is larger than the share of a layer.
    pub(in crate::image) fn want_all(&self) {
        self.taken.wants_all.store(true, Ordering::Relaxed);
    }

    /// Whether a layer failed that would not if it were unpacked alone.
    pub(in crate::image) fn was_too_little(&self) -> bool {
        self.sharing() > 1 && self.taken.wants_all.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of data of the archive `label`.
    pub(super) fn take_bytes(&self, bytes: u64, label: &str) -> Result<()> {
        let most = self.limits.size;
        let before = self.taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= most {
            return Ok(());
        }
        let why = format!(
            "it unpacks to more than the {} that are allowed",
            Size(most)
        );
        Err(too_much(label, why, "--max-size=SIZE"))
    }

    /// Takes one member of the archive `label`.
    pub(super) fn take_file(&self, label: &str) -> Result<()> {
        let most = self.limits.files;
        if self.taken.files.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(());
        }
        let why = format!("it has more than the {most} files that are allowed");
        Err(too_much(label, why, "--max-files=N"))
    }

    /// Nothing more of the image is wanted: who reads a part of it stops.
    pub(in crate::image) fn give_up(&self) {
        self.taken.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is wanted.
    pub(in crate::image) fn is_given_up(&self) -> bool {
        self.taken.given_up.load(Ordering::Relaxed)
    }
}

fn too_much(label: &str, why: String, option: &str) -> Error {
    Error::new("read archive").on(label).because(why).hint(format!(
        "a small archive that unpacks to this much is rarely meant well; if it is, allow it with {option}"
    ))
}

/// A number of bytes for people: in the largest unit of which it is a whole number.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_count_together() {
        let budget = Budget::new(Limits {
            size: 10,
            files: 2,
            ..Limits::default()
        });
        let copy = budget.clone();
        assert!(budget.take_bytes(6, "a").is_ok());
        assert!(copy.take_bytes(4, "b").is_ok());
        let error = budget.take_bytes(1, "c").unwrap_err().to_string();
        assert!(error.contains("more than the 10 bytes"), "{error}");
        assert!(copy.take_bytes(u64::MAX, "d").is_err());
        assert!(copy.take_file("a").is_ok() && budget.take_file("b").is_ok());
        let error = copy.take_file("c").unwrap_err().to_string();
        assert!(error.contains("more than the 2 files"), "{error}");
    }

    #[test]
    fn memory_is_shared_and_one_alone_has_all() {
        let budget = Budget::default();
        let all = budget.limits.window;
        assert_eq!((budget.window(), budget.table()), (all, TABLES));
        for window in [0, 32 << 10, 3 << 20, 8 << 20, 15 << 20, all, u64::MAX] {
            let sharing = Budget::side_by_side(window);
            budget.begin(sharing);
            assert!(budget.window() >= window.min(all), "{window}");
            assert!(budget.window() <= all && budget.table() * sharing <= TABLES);
            let together = (budget.window() + STREAM) * sharing as u64;
            assert!(together <= STREAMS, "{window}: {together}");
            budget.want_all();
            assert_eq!(budget.was_too_little(), sharing > 1);
        }
        assert_eq!(Budget::side_by_side(8 << 20), 3);
        budget.begin(1);
        assert!(!budget.was_too_little());
    }

    #[test]
    fn limits_that_people_write() {
        for (text, value) in [
            ("1", 1),
            ("10000000", 10_000_000),
            ("3k", 3 << 10),
            ("64M", 64 << 20),
            ("256g", 256 << 30),
            ("2t", 2 << 40),
            ("4294967295t", 4_294_967_295 << 40),
            ("none", u64::MAX),
        ] {
            assert_eq!(parse_limit(text), Ok(value), "{text}");
        }
        for bad in [
            "",
            "0",
            "0k",
            "k",
            "1.5g",
            "-1",
            "1kb",
            "1 k",
            "4294967296",
            "None",
            "é",
        ] {
            assert!(parse_limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (1 << 10, "1 KiB"),
            (3 << 20, "3 MiB"),
            (256 << 30, "256 GiB"),
            (1 << 40, "1 TiB"),
            (1025, "1025 bytes"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
