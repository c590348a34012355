//! What a program may have left behind: mounts, processes, files. Reads only.
//!
//! Everything is asked with respect to one directory and one process, so that what else happens on the machine at the
//! same time is neither blamed nor credited: mounts that name the directory, and descendants of the process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::Result;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// The whole line, which also names its root and source.
    pub(crate) line: String,
}

/// All mounts that this process sees, in the order in which they were made.
pub(crate) fn mounts() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("read /proc/self/mountinfo: {error}"))?;
    Ok(text.lines().filter_map(mount).collect())
}

/// The mounts that have to do with `dir`: mounted below it, or made of something below it.
pub(crate) fn mounts_of(dir: &Path) -> Result<Vec<Mount>> {
    let name = dir.to_string_lossy();
    let mut mounts = mounts()?;
    mounts.retain(|mount| mount.line.contains(&*name));
    Ok(mounts)
}

fn mount(line: &str) -> Option<Mount> {
    Some(Mount {
        point: unescape(line.split(' ').nth(4)?),
        line: line.to_string(),
    })
}

/// Blank, tab, newline and backslash stand as `\ooo` in mountinfo; see proc_pid_mountinfo(5).
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Name and parent of a process.
struct Process {
    parent: u32,
    name: String,
}

/// All processes below `root`, as pid and name. With `root` a subreaper nothing that it started can hide from this.
pub(crate) fn descendants(root: u32) -> Result<BTreeMap<u32, String>> {
    let entries = fs::read_dir("/proc").map_err(|error| format!("read /proc: {error}"))?;
    let mut all: BTreeMap<u32, Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, process(&String::from_utf8_lossy(&stat))?))
        })
        .collect();
    let mut found = BTreeMap::new();
    let mut todo = vec![root];
    while let Some(parent) = todo.pop() {
        let children: Vec<u32> = all
            .iter()
            .filter(|(_, process)| process.parent == parent)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in children {
            if let Some(process) = all.remove(&pid) {
                found.insert(pid, process.name);
                todo.push(pid);
            }
        }
    }
    Ok(found)
}

/// `PID (NAME) STATE PPID …`, where NAME may contain anything, also a parenthesis; see proc_pid_stat(5).
fn process(stat: &str) -> Option<Process> {
    let (front, back) = stat.rsplit_once(") ")?;
    let (_, name) = front.split_once(" (")?;
    Some(Process {
        parent: back.split(' ').nth(1)?.parse().ok()?,
        name: name.to_string(),
    })
}

/// Everything below `dir` that is not a directory, and each directory whose path contains `word`; relative, sorted.
/// A missing `dir` has nothing in it.
pub(crate) fn files(dir: &Path, word: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        let unreadable = |error| format!("read {}: {error}", next.display());
        let entries = match fs::read_dir(&next) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let is_dir = entry.file_type().map_err(unreadable)?.is_dir();
            let path = entry.path();
            let relative = path.strip_prefix(dir).unwrap_or(&path);
            if !is_dir || relative.to_string_lossy().contains(word) {
                found.push(relative.to_path_buf());
            }
            if is_dir {
                todo.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_blanks_is_read() {
        let line = r"36 35 98:0 /a /mnt\040one\134two rw shared:1 - ext4 /dev/sda rw";
        let mount = mount(line).expect("a mount");
        assert_eq!(mount.point, Path::new("/mnt one\\two"));
    }

    #[test]
    fn a_process_name_cannot_shift_the_fields() {
        let process = process("12 (a) S 1) R 7 12 12 0").expect("a process");
        assert_eq!((process.parent, process.name.as_str()), (7, "a) S 1"));
    }

    #[test]
    fn children_and_grandchildren_are_found() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "cat; true"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("start sh");
        let below = descendants(std::process::id()).expect("read processes");
        assert!(below.contains_key(&child.id()), "{below:?}");
        drop(child.stdin.take());
        child.wait().expect("wait for sh");
        let below = descendants(std::process::id()).expect("read processes");
        assert!(!below.contains_key(&child.id()), "{below:?}");
    }

    #[test]
    fn files_and_named_directories_are_listed() {
        let dir = std::env::temp_dir().join(format!("xtask-traces-{}", std::process::id()));
        fs::create_dir_all(dir.join("leaders")).expect("make directories");
        fs::create_dir_all(dir.join("containers/abc")).expect("make directories");
        fs::write(dir.join("leaders/record"), "x").expect("write");
        let found = files(&dir, "abc");
        fs::remove_dir_all(&dir).expect("remove");
        let expected = [
            PathBuf::from("containers/abc"),
            PathBuf::from("leaders/record"),
        ];
        assert_eq!(found, Ok(expected.into()));
        assert_eq!(files(&dir, "abc"), Ok(Vec::new()));
    }
}
