//! `cargo xtask build`: the release binaries, checked to be what is shipped: each one static position-independent file.

use std::path::{Path, PathBuf};

use crate::{Result, elf, programs};

/// Builds start-container and start-container-pull, and prints their paths and sizes.
pub(crate) fn run() -> Result<()> {
    release_binary()?;
    release_pull().map(drop)
}

/// Builds start-container, checks it, and returns its path.
pub(crate) fn release_binary() -> Result<PathBuf> {
    checked(programs::build_release(
        "start-container",
        "start-container",
    )?)
}

/// The same for start-container-pull, which comes to lie beside it. Each is built by itself, so that what the one asks of
/// a library does not get into the other.
pub(crate) fn release_pull() -> Result<PathBuf> {
    checked(programs::build_release(
        "start-container-pull",
        "start-container-pull",
    )?)
}

/// That which `START_CONTAINER_BIN` names, or else the release binary.
pub(crate) fn release_binary_or_named() -> Result<PathBuf> {
    match std::env::var_os("START_CONTAINER_BIN") {
        Some(path) => Ok(path.into()),
        None => release_binary(),
    }
}

/// Checks that a program is one static file and prints its path and size.
pub(crate) fn checked(path: PathBuf) -> Result<PathBuf> {
    let file =
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    elf::check_static_pie(&file).map_err(|why| format!("{} {why}", path.display()))?;
    let kib = file.len().div_ceil(1024);
    println!(
        "{}  {kib} KiB, static-PIE, no interpreter",
        shown(&path).display()
    );
    Ok(path)
}

fn shown(path: &Path) -> &Path {
    path.strip_prefix(programs::top()).unwrap_or(path)
}
