//! A directory tree outside every root filesystem that nothing may touch: its listing is taken and compared.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::host::mounts_below;
use crate::image::write_file;

/// The tree and its listing at the beginning.
#[derive(Debug)]
pub struct Sentinel {
    /// Its top.
    pub dir: PathBuf,
    listing: Vec<String>,
}

impl Sentinel {
    /// Makes a small tree at `dir` that looks like what an attacker wants: users, a device directory, an empty one.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        for name in ["proc", "dev", "sys", "etc", "empty", "secret"] {
            fs::create_dir_all(dir.join(name)).expect("directory");
        }
        write_file(
            dir.join("etc/passwd"),
            "evil:x:0:0::/root:/bin/sh\nvictim:x:1234:1234::/:/bin/sh\n",
        );
        write_file(dir.join("etc/group"), "evil:x:0:\nvictim:x:1234:\n");
        write_file(dir.join("etc/hostname"), "outside\n");
        write_file(dir.join("secret/key"), "do not read\n");
        fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o700)).expect("mode");
        let listing = listing(&dir);
        Self { dir, listing }
    }

    /// The same, but it belongs to `uid`, who could change it.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn owned_by(mut self, uid: u32) -> Self {
        let mut open = vec![self.dir.clone()];
        while let Some(path) = open.pop() {
            chown(&path, Some(uid), Some(uid)).expect("chown");
            if path.is_dir() {
                let entries = fs::read_dir(&path).expect("list").flatten();
                open.extend(entries.map(|entry| entry.path()));
            }
        }
        self.listing = listing(&self.dir);
        self
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// Compares it with the beginning, and looks for mounts on it.
    ///
    /// # Panics
    /// When anything differs.
    pub fn assert_same(&self) {
        let mounts = mounts_below(&self.dir);
        assert!(
            mounts.is_empty(),
            "mounted outside the root filesystem: {mounts:?}"
        );
        assert_eq!(
            listing(&self.dir),
            self.listing,
            "the tree outside the root filesystem has changed"
        );
    }
}

/// Path, mode, owner, size, time and content of everything below `dir`.
fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).expect("stat");
        let content = if meta.is_file() {
            format!("{:x}", Sha256::digest(fs::read(&path).expect("read")))
        } else {
            String::new()
        };
        lines.push(format!(
            "{} {:o} {}:{} {} {}.{} {content}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .expect("list")
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
    }
    lines.sort();
    lines
}
