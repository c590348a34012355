//! What is mounted in a running container, as the kernel has it. The names in it are the container's to choose, so the
//! table shows them with control characters escaped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use procfs::process::{MountInfo, MountOptFields, Process};
use serde::Serialize;
use shim::error::OneLine;
use shim::{Error, Result};

use crate::json;
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
    table_of(running).map(lines)
}

/// Sorted by target, and of several on one target the one that is seen last. The kernel lists them by their age, and what
/// arrives by propagation at a place that is taken is the younger one, but goes beneath.
fn lines(table: Vec<MountInfo>) -> Vec<Line> {
    let parents: HashMap<i32, i32> = table
        .iter()
        .map(|entry| (entry.mnt_id, entry.pid))
        .collect();
    let depth = |mount: i32| {
        // The first mount of all is its own parent.
        let parent = |child: &i32| parents.get(child).copied().filter(|one| one != child);
        std::iter::successors(Some(mount), parent)
            .take(parents.len())
            .count()
    };
    let mut lines: Vec<(usize, Line)> = table
        .into_iter()
        .map(|entry| (depth(entry.mnt_id), Line::new(entry)))
        .collect();
    lines.sort_by(|(depth, one), (other_depth, other)| {
        (&one.target, depth).cmp(&(&other.target, other_depth))
    });
    lines.into_iter().map(|(_, line)| line).collect()
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
    Ok(entries(&String::from_utf8_lossy(&table)))
}

pub(super) fn entries(table: &str) -> Vec<MountInfo> {
    let lines = table.lines();
    lines
        .filter_map(|line| MountInfo::from_line(line).ok())
        .collect()
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
    json::pretty(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn of_several_on_one_target_the_one_that_is_seen_is_last() {
        let table = "20 10 0:5 / / rw - overlay x rw\n\
                     30 40 0:6 / /proc rw - proc seen rw\n\
                     40 20 0:6 / /proc ro master:9 - proc beneath rw\n\
                     50 30 0:6 /sys /proc/sys ro - proc sys rw\n\
                     10 10 0:7 / / rw - rootfs first rw\n";
        let lines = lines(entries(table));
        let sources: Vec<_> = lines.into_iter().map(|line| line.source).collect();
        assert_eq!(sources, ["first", "x", "beneath", "seen", "sys[/sys]"]);
    }
}
