//! The three directories that every verb on images and root filesystems works in (`--base`, `--state`, `--data`).

use std::path::PathBuf;

/// Where things are. Chosen by whoever runs us, hence trusted, other than what lies below a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Images, and the root filesystems as clients see them.
    pub base: PathBuf,
    /// Records that end with the boot; root's alone.
    pub state: PathBuf,
    /// Layers and writable uppers; root's alone.
    pub data: PathBuf,
}
