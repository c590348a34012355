//! Reads passwd(5) and group(5) of a root filesystem, line by line, in bounded memory. Decides nothing about users.
//!
//! A line that is not in the format is skipped, as the C libraries do: too few fields, an empty name, an id that is not
//! a strict decimal number, a NUL byte, or `#` at the beginning. Missing fields at the end of a passwd line are empty.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use shim::{Error, RootDir};

use crate::decimal;
use crate::regular::Source;

/// Largest file that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;
/// Longest line that is read, in bytes without its newline.
const LINE_LIMIT: usize = 64 << 10;
/// What is read at first; a usual passwd fits.
const FIRST_READ: usize = 4 << 10;

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Passwd,
    Group,
}

impl Table {
    /// The path as processes inside see it.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Passwd => "/etc/passwd",
            Self::Group => "/etc/group",
        }
    }

    fn source(self) -> Source<'static> {
        Source {
            op: "read in the root filesystem",
            name: Path::new(self.path()),
            limit: FILE_LIMIT,
        }
    }
}

/// Opens one of the two files; none where it does not exist.
pub(super) fn open(root: &RootDir, table: Table) -> shim::Result<Option<Lines<File>>> {
    let source = table.source();
    match root.open_inside(table.path(), OFlag::O_PATH) {
        Ok(seen) => Ok(Some(Lines::new(source.open(&seen)?, table))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(source.error().errno(errno).hint(
            "the path must lead to a regular file inside the root filesystem, or to nothing",
        )),
    }
}

/// The lines of a file, one at a time, in a buffer that never grows beyond one longest line.
pub(super) struct Lines<R> {
    input: R,
    table: Table,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    total: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R, table: Table) -> Self {
        Self {
            input,
            table,
            buffer: vec![0; FIRST_READ],
            start: 0,
            end: 0,
            total: 0,
        }
    }

    /// A failure with this file.
    pub(super) fn error(&self) -> Error {
        self.table.source().error()
    }

    /// The next line without its newline; a last line may lack it.
    pub(super) fn next(&mut self) -> shim::Result<Option<&[u8]>> {
        let mut searched = self.start;
        loop {
            let unseen = self.buffer.get(searched..self.end).unwrap_or_default();
            if let Some(length) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.start..searched + length;
                self.start = line.end + 1;
                return Ok(self.buffer.get(line));
            }
            searched = self.end - self.start;
            if self.fill()? == 0 {
                let rest = self.start..self.end;
                self.start = self.end;
                return Ok(self.buffer.get(rest).filter(|line| !line.is_empty()));
            }
        }
    }

    /// Moves what is unread to the front and reads on; the number of new bytes, 0 at the end of the file.
    fn fill(&mut self) -> shim::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            if self.end > LINE_LIMIT {
                return Err(self
                    .error()
                    .because(format!("has a line longer than {LINE_LIMIT} bytes"))
                    .hint("shorten the line, or give the user and the group as numbers"));
            }
            let length = (2 * self.end).min(LINE_LIMIT + 1);
            self.buffer.resize(length, 0);
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = loop {
            match self.input.read(space) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.table.source().read_failed(&error)),
            }
        };
        self.end += count;
        self.total = self.total.saturating_add(count as u64);
        if self.total > FILE_LIMIT {
            return Err(self.table.source().too_large());
        }
        Ok(count)
    }
}

/// A line of passwd(5): `name:password:uid:gid:gecos:home:shell`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PasswdEntry<'a> {
    pub(super) name: &'a [u8],
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: &'a [u8],
}

/// A line of group(5): `name:password:gid:member,member`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupEntry<'a> {
    pub(super) name: &'a [u8],
    pub(super) gid: u32,
    members: &'a [u8],
}

impl GroupEntry<'_> {
    /// Whether the user is a member.
    pub(super) fn lists(&self, user: &[u8]) -> bool {
        self.members
            .split(|byte| *byte == b',')
            .any(|member| member == user)
    }
}

pub(super) fn passwd_entry(line: &[u8]) -> Option<PasswdEntry<'_>> {
    let mut fields = fields(line)?;
    let name = fields.next().filter(|name| !name.is_empty())?;
    fields.next()?;
    let uid = decimal::id(fields.next()?)?;
    let gid = decimal::id(fields.next()?)?;
    fields.next();
    let home = fields.next().unwrap_or_default();
    Some(PasswdEntry {
        name,
        uid,
        gid,
        home,
    })
}

pub(super) fn group_entry(line: &[u8]) -> Option<GroupEntry<'_>> {
    let mut fields = fields(line)?;
    let name = fields.next().filter(|name| !name.is_empty())?;
    fields.next()?;
    let gid = decimal::id(fields.next()?)?;
    let members = fields.next().unwrap_or_default();
    Some(GroupEntry { name, gid, members })
}

fn fields(line: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let text = !line.starts_with(b"#") && !line.contains(&0);
    text.then(|| line.split(|byte| *byte == b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `step` bytes at a time and is interrupted before each.
    struct Slow<'a>(&'a [u8], usize, bool);

    impl Read for Slow<'_> {
        fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = self.1.min(space.len()).min(self.0.len());
            let (now, later) = self.0.split_at(count);
            space[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn lines(text: &[u8], step: usize) -> shim::Result<Vec<Vec<u8>>> {
        let mut lines = Lines::new(Slow(text, step, false), Table::Passwd);
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(line.to_vec());
        }
        Ok(all)
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let long = "x".repeat(LINE_LIMIT);
        let texts = [
            "",
            "\n",
            "a",
            "a\n",
            "a\n\nb",
            "\na:b\r\nc\n",
            &format!("{long}\n{long}\nend"),
        ];
        for text in texts {
            let expected: Vec<Vec<u8>> = text
                .split_terminator('\n')
                .map(|line| line.as_bytes().to_vec())
                .collect();
            for step in [1, 2, 3, 4095, 4096, 4097, usize::MAX] {
                if step == 1 && text.len() > LINE_LIMIT {
                    continue;
                }
                assert_eq!(lines(text.as_bytes(), step).unwrap(), expected, "{step}");
            }
        }
    }

    #[test]
    fn an_endless_line_and_an_endless_file_end() {
        let endless = std::io::repeat(b'x');
        let error = Lines::new(endless, Table::Group).next().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("has a line longer than 65536 bytes"),
            "{error}"
        );

        let mut endless = Lines::new(std::io::repeat(b'\n'), Table::Group);
        let error = loop {
            match endless.next() {
                Ok(line) => assert_eq!(line, Some(&b""[..])),
                Err(error) => break error,
            }
        };
        assert!(
            error.to_string().contains("larger than 16777216 bytes"),
            "{error}"
        );
        assert!(endless.buffer.len() <= LINE_LIMIT + 1);
    }

    #[test]
    fn entries() {
        let entry = passwd_entry(b"a:x:1:2:Mr. A:/home/a:/bin/sh").unwrap();
        assert_eq!(
            (entry.name, entry.uid, entry.gid, entry.home),
            (&b"a"[..], 1, 2, &b"/home/a"[..])
        );
        assert_eq!(passwd_entry(b"a:x:1:2").unwrap().home, b"");
        for malformed in [
            &b""[..],
            b"a",
            b"a:x",
            b"a:x:1",
            b":x:1:2::/:",
            b"a:x::2::/:",
            b"a:x:01:2::/:",
            b"a:x:1:-2::/:",
            b"a:x: 1:2::/:",
            b"a:x:4294967295:0::/:",
            b"a:x:0:4294967295::/:",
            b"a:x:4294967296:0::/:",
            b"#a:x:1:2::/:",
            b"a:x:1:2::/\0:",
            b"+::::::",
            b"a:x:0x0:0::/:",
        ] {
            assert_eq!(passwd_entry(malformed), None, "{malformed:?}");
        }
        let group = group_entry(b"g:x:7:ann,bob").unwrap();
        assert!(group.lists(b"ann") && group.lists(b"bob"));
        assert!(!group.lists(b"an") && !group.lists(b"ann,bob") && !group.lists(b""));
        assert!(!group_entry(b"g:x:7").unwrap().lists(b"ann"));
        assert_eq!(group_entry(b"g:x:-7:ann"), None);
    }
}
