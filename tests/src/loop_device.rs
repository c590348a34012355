//! A loop device of a test (loop(4)): a block device that nobody else uses.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};

use crate::run::Run;
use crate::world::tool;

/// A loop device over a file, taken away at the end.
#[derive(Debug)]
pub struct LoopDevice {
    path: String,
}

impl LoopDevice {
    /// The next free one.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn over(file: &Path) -> Self {
        let losetup = Run::new(tool("losetup")).cmd(["-f", "--show"]);
        Self {
            path: losetup.cmd([file]).text(),
        }
    }

    /// Major and minor number.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn numbers(&self) -> (u64, u64) {
        let number = fs::metadata(&self.path).expect("stat").rdev();
        (major(number), minor(number))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Run::new(tool("losetup")).cmd(["-d", &self.path]).done();
    }
}
