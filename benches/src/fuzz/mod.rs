//! A fuzzer for what reads images: archives, layers and documents made to be almost right are imported into a directory in
//! memory, and after each what must always hold is checked.
//!
//! What must hold: the process lives; nothing outside the store has changed; an import that fails says why in one line
//! and a hint, and leaves nothing; as one directory and as layers an image fails or is the same tree; one input takes no more than [`TIME_MAX`], and all of them no more than [`MEMORY_MAX`].

pub mod archive;
pub mod documents;
mod place;
pub mod random;

pub use place::{MEMORY_MAX, Place, TIME_MAX};

use std::path::{Path, PathBuf};

/// Where the inputs that are kept are.
#[must_use]
pub fn corpus(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/corpus")
        .join(kind)
}

/// The inputs that are kept, in the order of their names.
///
/// # Errors
/// They cannot be read.
pub fn seeds(kind: &str) -> Result<Vec<Vec<u8>>, String> {
    let dir = corpus(kind);
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let entries = std::fs::read_dir(&dir).map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).map_err(failed))
        .collect()
}
