//! What is mounted in a running container, as the kernel has it. The names in it are the container's to choose, so the
//! table shows them with control characters escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use procfs::process::{MountInfo, MountOptFields, Process};
use serde::Serialize;
use shim::error::OneLine;
use shim::{Error, Result};

use crate::leader::Running;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where, inside.
    pub target: PathBuf,
    /// A device or another name that its filesystem goes by; with the part of it that is shown, where that is not all.
    pub source: String,
    /// The filesystem.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the mount, not of the filesystem below it.
    pub options: Vec<String>,
    /// `private`, or some of `shared`, `slave`, `unbindable`.
    pub propagation: Vec<&'static str>,
}

/// Reads the mount table of PID 1.
///
/// # Errors
/// The container has ended.
pub fn read(running: &Running) -> Result<Vec<Line>> {
    let mut table = table_of(running)?;
    // The kernel lists them by their age. Of those on one target the one that is seen comes last, which need not be the
    // youngest: what arrives by propagation where something is mounted already is tucked underneath.
    let depths: BTreeMap<i32, usize> = table
        .iter()
        .map(|mount| (mount.mnt_id, depth(mount, &table)))
        .collect();
    table.sort_by_key(|mount| {
        (
            mount.mount_point.clone(),
            depths.get(&mount.mnt_id).copied(),
        )
    });
    Ok(table.into_iter().map(Line::new).collect())
}

/// How many mounts lie below this one on the same target.
fn depth(mount: &MountInfo, table: &[MountInfo]) -> usize {
    let below = |above: &&MountInfo| {
        let (parent, target) = (above.pid, above.mount_point.clone());
        let is_below = move |other: &&MountInfo| {
            other.mnt_id == parent && other.mount_point == target && other.mnt_id != other.pid
        };
        table.iter().find(is_below)
    };
    std::iter::successors(Some(mount), below).skip(1).count()
}

/// The same as the kernel has it.
pub(super) fn table_of(running: &Running) -> Result<Vec<MountInfo>> {
    let gone = || {
        Error::new("read the mounts of the container")
            .because("it has just ended")
            .hint("see: start-container subcontainer launch --help")
    };
    let pid = running.pid().ok_or_else(gone)?;
    let mut table = Vec::new();
    Process::new(pid.as_raw())
        .and_then(|process| process.open_relative("mountinfo"))
        .and_then(|mut file| Ok(file.read_to_end(&mut table)?))
        .map_err(|_| gone())?;
    // The number was the container's for as long as the handle says that it lives.
    if running.pid().is_none() {
        return Err(gone());
    }
    // A name inside need not be UTF-8, and shall not be able to keep this from working.
    let table = String::from_utf8_lossy(&table);
    let entries = table
        .lines()
        .filter_map(|line| MountInfo::from_line(line).ok());
    Ok(entries.collect())
}

impl Line {
    fn new(mount: MountInfo) -> Self {
        let target = target_of(&mount);
        let mut source = plain(mount.mount_source.unwrap_or_default().as_bytes());
        if mount.root != "/" {
            source.extend([b"[", plain(mount.root.as_bytes()).as_slice(), b"]"].concat());
        }
        let mut options: Vec<String> = mount
            .mount_options
            .into_iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name,
            })
            .collect();
        options.sort();
        let mut propagation: Vec<_> = mount
            .opt_fields
            .iter()
            .filter_map(|field| match field {
                MountOptFields::Shared(_) => Some("shared"),
                MountOptFields::Master(_) => Some("slave"),
                MountOptFields::Unbindable => Some("unbindable"),
                MountOptFields::PropagateFrom(_) => None,
            })
            .collect();
        if propagation.is_empty() {
            propagation.push("private");
        }
        Self {
            target,
            source: text(source),
            kind: mount.fs_type,
            options,
            propagation,
        }
    }
}

/// Where it is.
pub(super) fn target_of(mount: &MountInfo) -> PathBuf {
    text(plain(mount.mount_point.as_os_str().as_bytes())).into()
}

/// A field of mountinfo without the kernel's escapes: `\040` and the like (proc_pid_mountinfo(5)).
fn plain(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, more)) = rest.split_first() {
        let octal = more
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, after) = match code.filter(|_| first == b'\\') {
            Some(code) => (code, more.get(3..).unwrap_or_default()),
            None => (first, more),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// For people: a heading, and a line per mount.
#[must_use]
pub fn table(lines: &[Line]) -> String {
    let escaped = |text: &str| OneLine(text).to_string();
    let mut rows = vec![["TARGET", "SOURCE", "TYPE", "OPTIONS"].map(str::to_owned)];
    rows.extend(lines.iter().map(|line| {
        let options = line
            .options
            .iter()
            .map(String::as_str)
            .chain(line.propagation.iter().copied())
            .collect::<Vec<_>>()
            .join(",");
        [
            escaped(&line.target.to_string_lossy()),
            escaped(&line.source),
            escaped(&line.kind),
            escaped(&options),
        ]
    }));
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [target, source, kind, options] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{target:0$}  {source:1$}  {kind:2$}  {options}",
            widths[0], widths[1], widths[2]
        );
    }
    text
}

/// For programs.
///
/// # Errors
/// None that can happen: every value is text.
pub fn json(lines: &[Line]) -> Result<String> {
    let mut text = serde_json::to_string_pretty(lines)
        .map_err(|error| Error::new("print the mounts as JSON").because(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_top_is_deeper() {
        let line = |text: &str| MountInfo::from_line(text).unwrap();
        let table = [
            line("1 1 0:1 / / rw - rootfs none rw"),
            line("102 62 0:49 / /proc rw - proc none rw"),
            line("62 1 0:49 / /proc ro - proc none rw"),
            line("103 102 0:49 /sys /proc/sys ro - proc none rw"),
        ];
        let depths = table.iter().map(|mount| depth(mount, &table));
        assert_eq!(depths.collect::<Vec<_>>(), [0, 1, 0, 0]);
    }

    #[test]
    fn names_are_without_the_kernels_escapes() {
        for (field, name) in [
            (&b"/plain"[..], &b"/plain"[..]),
            (b"/a\\040b\\011\\012", b"/a b\t\n"),
            (b"/back\\134040", b"/back\\040"),
            (b"/no\\4", b"/no\\4"),
            (b"/\xff\\0400", b"/\xff 0"),
        ] {
            assert_eq!(plain(field), name);
        }
    }
}
