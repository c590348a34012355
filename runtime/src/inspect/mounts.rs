//! The part of `inspect` that is about mounts: the table, and what of /proc and /sys it hides or protects.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use procfs::process::Process;
use serde::Serialize;
use shim::{Result, RootDir};

use crate::leader::Running;
use crate::mounts::list::{self, Line};

/// The null device: Documentation/admin-guide/devices.txt.
const NULL: (u64, u64) = (1, 3);

/// What is found about mounts.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether the mount of the root filesystem is read-only.
    root_read_only: bool,
    /// What of /proc and /sys is hidden.
    masked: Vec<Masked>,
    /// What of /proc and /sys is there and cannot be written to; with all that is below it.
    read_only: Vec<PathBuf>,
    /// All, as `subcontainer mount list --json` has them: of several on one path the last one is seen.
    mounts: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Masked {
    path: PathBuf,
    /// `null-device` or `empty-directory`.
    by: Cover,
}

/// What hides a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Cover {
    NullDevice,
    EmptyDirectory,
}

pub(super) fn read(running: &Running, process: &Process) -> Result<Report> {
    let mounts = list::read(running)?;
    // The leader's own root: a magic link that leads into its mount namespace.
    let root = process
        .open_relative("root")
        .map_err(|error| super::unreadable(process.pid, &error))?;
    let root = RootDir::from(OwnedFd::from(root));
    Ok(report(mounts, |path| is_null_device(&root, path)))
}

fn is_readonly(mount: &Line) -> bool {
    mount.options.iter().any(|option| option == "ro")
}

/// Makes the report; `is_null` says whether what is seen at a path inside is the null device.
fn report(mounts: Vec<Line>, is_null: impl Fn(&Path) -> bool) -> Report {
    let mut masked: Vec<Masked> = Vec::new();
    let mut read_only = BTreeSet::new();
    let of_kernel = |mount: &&Line| {
        let below = |dir| mount.target.starts_with(dir) && mount.target != Path::new(dir);
        below("/proc") || below("/sys")
    };
    for mount in mounts.iter().filter(of_kernel) {
        let cover = match mount.kind.as_str() {
            "proc" | "sysfs" => None,
            // Where /dev is a tmpfs, the null device is on one too.
            _ if is_null(&mount.target) => Some(Cover::NullDevice),
            "tmpfs" if is_readonly(mount) => Some(Cover::EmptyDirectory),
            _ => None,
        };
        if let Some(by) = cover {
            masked.push(Masked {
                path: mount.target.clone(),
                by,
            });
        } else if is_readonly(mount) {
            read_only.insert(mount.target.clone());
        }
    }
    masked.sort_by(|a, b| a.path.cmp(&b.path));
    let root = mounts.iter().rfind(|mount| mount.target == Path::new("/"));
    Report {
        root_read_only: root.is_some_and(is_readonly),
        masked,
        read_only: read_only.into_iter().collect(),
        mounts,
    }
}

/// Looks with O_PATH, which opens no device.
fn is_null_device(root: &RootDir, path: &Path) -> bool {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let Ok(fd) = root.open_plain(inside, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) else {
        return false;
    };
    fstat(&fd).is_ok_and(|stat| {
        stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits()
            && stat.st_rdev == makedev(NULL.0, NULL.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_what_is_hidden_and_what_is_protected() {
        let line = |target: &str, kind: &str, options: &str| Line {
            target: target.into(),
            source: String::new(),
            kind: kind.to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
            propagation: vec!["private"],
        };
        let report = report(
            vec![
                line("/", "overlay", "rw"),
                line("/", "overlay", "relatime,ro"),
                line("/proc", "proc", "nosuid,ro"),
                line("/proc/sys", "proc", "nosuid,ro"),
                line("/proc/kcore", "devtmpfs", "nosuid,rw"),
                line("/proc/acpi", "tmpfs", "nosuid,ro"),
                line("/proc/swapped", "tmpfs", "rw"),
                line("/sys/fs/cgroup", "cgroup2", "ro"),
                line("/processes/x", "ext4", "ro"),
            ],
            |path| path == Path::new("/proc/kcore"),
        );
        assert!(report.root_read_only);
        assert_eq!(
            report.read_only,
            [Path::new("/proc/sys"), Path::new("/sys/fs/cgroup")]
        );
        let masked = |path: &str, by| Masked {
            path: path.into(),
            by,
        };
        assert_eq!(
            report.masked,
            [
                masked("/proc/acpi", Cover::EmptyDirectory),
                masked("/proc/kcore", Cover::NullDevice),
            ]
        );
        assert_eq!(report.mounts.len(), 9);
    }
}
