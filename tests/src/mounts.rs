//! Mounts that a test makes itself: where nobody else sees them, and layers merged by the kernel and nobody else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// From here on what this thread mounts is seen by it alone, and ends with it.
///
/// # Errors
/// Those of unshare(2) and mount(2): it needs root.
pub fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

/// Mounts `layers`, the uppermost first, as one read-only tree at `merged`; `options` are for the overlay. Who calls
/// unmounts it. `merged` is made where it is missing, and an empty directory beside it.
///
/// # Errors
/// A directory cannot be made, or the kernel does not take the layers.
pub fn merge(
    layers: impl IntoIterator<Item = PathBuf>,
    merged: &Path,
    options: &str,
) -> io::Result<()> {
    // Without an upper layer an overlay has two lower ones at least.
    let empty = merged.with_extension("empty");
    for directory in [merged, &empty] {
        fs::create_dir_all(directory)?;
    }
    let layers: Vec<String> = layers
        .into_iter()
        .chain([empty])
        .map(|layer| layer.display().to_string())
        .collect();
    let options = format!("lowerdir={}{options}", layers.join(":"));
    let kind = Some("overlay");
    let options = Some(options.as_str());
    Ok(mount(kind, merged, kind, MsFlags::MS_RDONLY, options)?)
}
