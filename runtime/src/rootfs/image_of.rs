//! Which image a root filesystem was made from: what create-fs wrote down.

use std::path::Path;

use super::{Places, Record};
use crate::config::Dirs;
use crate::ids::{Guid, ImageId};

/// The image of the root filesystem at `rootfs` (absolute, free of symlinks); none where create-fs knows nothing of it.
#[must_use]
pub fn image_of(dirs: &Dirs, rootfs: &Path) -> Option<ImageId> {
    let guid = Guid::new(rootfs.file_name()?).ok()?;
    let record = Places::new(dirs, guid.as_str()).records.join(guid.as_str());
    let record: Record = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
    // Another directory may have the same name, and the base may be a symlink.
    let same = std::fs::canonicalize(&record.rootfs).is_ok_and(|path| path == rootfs);
    ImageId::new(record.image).ok().filter(|_| same)
}
