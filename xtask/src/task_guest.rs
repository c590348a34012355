//! `cargo xtask guest`: the static program that test images contain (`tests/src/bin/guest`).

use std::path::PathBuf;

use crate::{Result, programs, task_build};

/// Builds the guest program and prints its path and size.
pub(crate) fn run() -> Result<()> {
    program().map(drop)
}

/// Builds the guest program, checks that it runs in an empty image, and returns its path.
pub(crate) fn program() -> Result<PathBuf> {
    task_build::checked(programs::build_release("tests", "guest")?)
}
