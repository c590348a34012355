//! The part of `inspect` that is about mounts: the table, and what of /proc and /sys it hides or protects.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use procfs::process::{MountInfo, MountOptFields, Process};
use procfs::{ProcError, ProcResult};
use serde::Serialize;
use shim::RootDir;

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
    read_only: Vec<String>,
    /// All, in the order of `/proc/PID/mountinfo`: of several on one path the last one is seen.
    mounts: Vec<Mount>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Masked {
    path: String,
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

#[derive(Debug, Serialize)]
struct Mount {
    /// Where, inside.
    target: String,
    /// proc_pid_mountinfo(5): "type", and "subtype" after a dot.
    filesystem: String,
    /// What the filesystem calls its device; empty where there is none.
    source: String,
    /// The directory of the filesystem that is mounted.
    root: String,
    /// Of this mount: `ro` or `rw`, `nosuid`, `nodev`, `noexec`, `idmapped`, ...; sorted.
    options: BTreeSet<String>,
    /// `shared`, `slave`, `shared,slave`, `private` or `unbindable` (mount_namespaces(7)).
    propagation: &'static str,
}

impl Mount {
    fn new(info: &MountInfo) -> Self {
        let is = |wanted: fn(&MountOptFields) -> bool| info.opt_fields.iter().any(wanted);
        let shared = is(|field| matches!(field, MountOptFields::Shared(_)));
        let slave = is(|field| matches!(field, MountOptFields::Master(_)));
        let unbindable = is(|field| matches!(field, MountOptFields::Unbindable));
        let options = info.mount_options.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        Self {
            target: unescape(&info.mount_point.to_string_lossy()),
            filesystem: info.fs_type.clone(),
            source: unescape(info.mount_source.as_deref().unwrap_or_default()),
            root: unescape(&info.root),
            options: options.collect(),
            propagation: match (shared, slave, unbindable) {
                (true, true, _) => "shared,slave",
                (true, false, _) => "shared",
                (false, true, _) => "slave",
                (false, false, true) => "unbindable",
                (false, false, false) => "private",
            },
        }
    }

    fn is_readonly(&self) -> bool {
        self.options.contains("ro")
    }
}

pub(super) fn read(process: &Process) -> ProcResult<Report> {
    let mut table = Vec::new();
    let mut file = process.open_relative("mountinfo")?;
    file.read_to_end(&mut table)
        .map_err(|error| ProcError::Io(error, Some("mountinfo".into())))?;
    // A name inside need not be UTF-8, and shall not be able to keep this from working.
    let mounts = String::from_utf8_lossy(&table)
        .lines()
        .map(|line| MountInfo::from_line(line).map(|info| Mount::new(&info)))
        .collect::<ProcResult<Vec<Mount>>>()?;
    // The leader's own root: a magic link that leads into its mount namespace.
    let root = RootDir::from(std::os::fd::OwnedFd::from(process.open_relative("root")?));
    Ok(report(mounts, |path| is_null_device(&root, path)))
}

/// Makes the report; `is_null` says whether what is seen at a path inside is the null device.
fn report(mounts: Vec<Mount>, is_null: impl Fn(&str) -> bool) -> Report {
    let mut masked: Vec<Masked> = Vec::new();
    let mut read_only = BTreeSet::new();
    let of_kernel =
        |mount: &&Mount| mount.target.starts_with("/proc/") || mount.target.starts_with("/sys/");
    for mount in mounts.iter().filter(of_kernel) {
        let cover = match mount.filesystem.as_str() {
            "proc" | "sysfs" => None,
            "tmpfs" if mount.is_readonly() && mount.root == "/" => Some(Cover::EmptyDirectory),
            _ => is_null(&mount.target).then_some(Cover::NullDevice),
        };
        if let Some(by) = cover {
            masked.push(Masked {
                path: mount.target.clone(),
                by,
            });
        } else if mount.is_readonly() {
            read_only.insert(mount.target.clone());
        }
    }
    masked.sort_by(|a, b| a.path.cmp(&b.path));
    let root = mounts.iter().rfind(|mount| mount.target == "/");
    Report {
        root_read_only: root.is_some_and(Mount::is_readonly),
        masked,
        read_only: read_only.into_iter().collect(),
        mounts,
    }
}

/// Looks with O_PATH, which opens no device.
fn is_null_device(root: &RootDir, path: &str) -> bool {
    let inside = Path::new(path.trim_start_matches('/'));
    let Ok(fd) = root.open_plain(inside, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) else {
        return false;
    };
    fstat(&fd).is_ok_and(|stat| {
        stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits()
            && stat.st_rdev == makedev(NULL.0, NULL.1)
    })
}

/// Spaces, tabs, newlines and backslashes stand in the table as three octal digits (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
600 500 0:50 / / ro,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/l
601 600 0:51 / /proc rw,nosuid,nodev,noexec - proc proc rw
602 601 0:51 /sys /proc/sys ro,nosuid - proc proc rw
603 601 0:5 /null /proc/kcore rw,nosuid master:7 - devtmpfs udev rw
604 601 0:60 / /proc/acpi ro,nosuid unbindable - tmpfs tmpfs rw,size=0k
605 600 8:1 /a\\040b /mnt/x\\134y rw,idmapped shared:3 - ext4 /dev/sda1 rw
606 601 0:61 / /proc/swapped rw - tmpfs none rw
";

    #[test]
    fn a_table_tells_what_is_hidden_and_what_is_protected() {
        let mounts = TABLE
            .lines()
            .map(|line| Mount::new(&MountInfo::from_line(line).unwrap()))
            .collect();
        let report = report(mounts, |path| path == "/proc/kcore");
        assert!(report.root_read_only);
        assert_eq!(report.read_only, ["/proc/sys"]);
        let masked = |path: &str, by| Masked {
            path: path.to_owned(),
            by,
        };
        assert_eq!(
            report.masked,
            [
                masked("/proc/acpi", Cover::EmptyDirectory),
                masked("/proc/kcore", Cover::NullDevice),
            ]
        );
        let propagation: Vec<_> = report
            .mounts
            .iter()
            .map(|mount| mount.propagation)
            .collect();
        assert_eq!(
            propagation,
            [
                "shared,slave",
                "private",
                "private",
                "slave",
                "unbindable",
                "shared",
                "private"
            ]
        );
        let volume = report.mounts.get(5).unwrap();
        assert_eq!(
            (volume.root.as_str(), volume.target.as_str()),
            ("/a b", "/mnt/x\\y")
        );
        assert!(volume.options.contains("idmapped"));
    }

    #[test]
    fn escapes_are_octal_and_anything_else_stays() {
        for (text, plain) in [
            ("/plain", "/plain"),
            ("/a\\040b\\011\\012\\134", "/a b\t\n\\"),
            ("/a\\04", "/a\\04"),
            ("/a\\", "/a\\"),
            ("\\999", "\\999"),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }
}
