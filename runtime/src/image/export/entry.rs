//! One member of an archive, as bytes: an ustar header, and before it what that has no room for (pax(1)).

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::image::disk::listing::Attributes;

/// Members are stored in pieces of this size.
const BLOCK: usize = 512;
/// What an ustar header has room for, in a name and in a link.
const NAME: usize = 100;

/// What is known of a member but for its content.
#[derive(Debug)]
pub(super) struct Entry<'e> {
    /// Without a slash at its start; with one at the end of a directory's.
    pub(super) path: &'e [u8],
    pub(super) kind: EntryType,
    /// Permissions.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub(super) time: (i64, i64),
    /// Of a file's content.
    pub(super) size: u64,
    /// What a symbolic or hard link leads to.
    pub(super) link: &'e [u8],
    /// The numbers of a device.
    pub(super) device: (u32, u32),
    pub(super) attributes: &'e Attributes,
}

impl<'e> Entry<'e> {
    /// An empty file of nobody in particular.
    pub(super) fn file(path: &'e [u8], size: u64) -> Self {
        const NONE: &Attributes = &Vec::new();
        Self {
            path,
            kind: EntryType::Regular,
            mode: 0o644,
            owner: (0, 0),
            time: (0, 0),
            size,
            link: b"",
            device: (0, 0),
            attributes: NONE,
        }
    }

    /// Writes all that comes before the content.
    pub(super) fn write(&self, mut out: impl Write) -> io::Result<()> {
        // A record's name ends there.
        if self.attributes.iter().any(|(name, _)| name.contains(&b'=')) {
            let path = String::from_utf8_lossy(self.path);
            let why =
                format!("an attribute of /{path} has = in its name, which no archive can tell");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let records = self.records();
        if !records.is_empty() {
            let mut header = header(EntryType::XHeader, b"PaxHeader")?;
            header.set_size(records.len() as u64);
            header.set_mode(0o644);
            finish(header, &mut out)?;
            out.write_all(&records)?;
            pad(&mut out, records.len() as u64)?;
        }
        let mut header = header(self.kind, self.path)?;
        header.set_mode(self.mode);
        header.set_uid(self.owner.0.into());
        header.set_gid(self.owner.1.into());
        header.set_mtime(u64::try_from(self.time.0).unwrap_or(0));
        header.set_size(self.size);
        if !self.link.is_empty() {
            let shown = self.link.get(..NAME).unwrap_or(self.link);
            header.set_link_name_literal(shown)?;
        }
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(self.device.0)?;
            header.set_device_minor(self.device.1)?;
        }
        finish(header, out)
    }

    /// What the header has no room for, or not exactly.
    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let exact = |text: &[u8]| text.len() <= NAME && text.is_ascii();
        if !exact(self.path) {
            record(&mut records, b"path", self.path);
        }
        if !exact(self.link) {
            record(&mut records, b"linkpath", self.link);
        }
        let (seconds, nanoseconds) = self.time;
        if nanoseconds != 0 || seconds < 0 {
            // The kernel counts nanoseconds upwards from the second, the text from zero.
            let negative = seconds < 0;
            let (seconds, nanoseconds) = match (negative, nanoseconds) {
                (true, 1..) => (-(seconds + 1), 1_000_000_000 - nanoseconds),
                (true, _) => (-seconds, 0),
                (false, _) => (seconds, nanoseconds),
            };
            let sign = if negative { "-" } else { "" };
            let time = format!("{sign}{seconds}.{nanoseconds:09}");
            record(&mut records, b"mtime", time.as_bytes());
        }
        for (name, value) in self.attributes {
            record(&mut records, &[b"SCHILY.xattr.", &**name].concat(), value);
        }
        records
    }
}

/// A record says its own length first, with the digits of that.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// With the start of a name that may be too long for it.
fn header(kind: EntryType, path: &[u8]) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    let field = &mut header
        .as_ustar_mut()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?
        .name;
    let shown = path.get(..NAME).unwrap_or(path);
    field[..shown.len()].copy_from_slice(shown);
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    Ok(header)
}

fn finish(mut header: Header, mut out: impl Write) -> io::Result<()> {
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Writes content of exactly `size` bytes.
pub(super) fn content(mut out: impl Write, from: impl Read, size: u64) -> io::Result<()> {
    if io::copy(&mut from.take(size), &mut out)? != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    pad(out, size)
}

/// Fills the last piece.
pub(super) fn pad(mut out: impl Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    let missing = if over == 0 { 0 } else { BLOCK - over };
    out.write_all(&[0; BLOCK][..missing])
}

/// Two empty pieces.
pub(super) fn end(mut out: impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let attributes = vec![(b"user.a".to_vec(), b"\0=\xff".to_vec())];
        let long = vec![b'l'; 300];
        for (path, link, time) in [
            (&b"a/b"[..], &b""[..], (1, 0)),
            (&long, b"../x//y/./", (i64::from(u32::MAX), 7)),
            (b"\xff\xfe", &long, (-1, 250_000_000)),
            (&[b'p'; 100], &[b'q'; 100], (-5, 0)),
        ] {
            let kind = if link.is_empty() {
                EntryType::Regular
            } else {
                EntryType::Symlink
            };
            let entry = Entry {
                kind,
                link,
                time,
                owner: (3_000_000_000, 5),
                attributes: &attributes,
                ..Entry::file(path, 3)
            };
            let mut bytes = Vec::new();
            entry.write(&mut bytes).unwrap();
            content(&mut bytes, &b"abcd"[..], 3).unwrap();
            end(&mut bytes).unwrap();
            assert_eq!(bytes.len() % BLOCK, 0);
            let mut archive = tar::Archive::new(&*bytes);
            let mut members = archive.entries().unwrap();
            let mut member = members.next().unwrap().unwrap();
            assert_eq!(&*member.path_bytes(), path);
            assert_eq!(member.link_name_bytes().as_deref().unwrap_or(b""), link);
            assert_eq!(member.header().uid().unwrap(), 3_000_000_000);
            let records: Vec<_> = member
                .pax_extensions()
                .unwrap()
                .unwrap()
                .map(|record| {
                    let record = record.unwrap();
                    (record.key_bytes().to_vec(), record.value_bytes().to_vec())
                })
                .collect();
            let mtime = match time {
                (1, 0) => None,
                (-1, _) => Some(&b"-0.750000000"[..]),
                (-5, _) => Some(&b"-5.000000000"[..]),
                _ => Some(&b"4294967295.000000007"[..]),
            };
            let found = records.iter().find(|(key, _)| key == b"mtime");
            assert_eq!(found.map(|(_, value)| &**value), mtime);
            drop(records);
            let mut text = Vec::new();
            member.read_to_end(&mut text).unwrap();
            assert_eq!(text, b"abc");
            assert!(members.next().is_none());
        }
        assert!(content(Vec::new(), &b"ab"[..], 3).is_err());
        let ambiguous = vec![(b"user.a=b".to_vec(), Vec::new())];
        let entry = Entry {
            attributes: &ambiguous,
            ..Entry::file(b"x", 0)
        };
        assert!(entry.write(Vec::new()).is_err());
    }

    #[test]
    fn a_record_counts_its_own_digits() {
        for length in [1, 85, 86, 90, 91, 979, 980, 990] {
            let mut out = Vec::new();
            record(&mut out, b"key", &vec![b'v'; length]);
            let digits = out.split(|byte| *byte == b' ').next().unwrap();
            let said: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
            assert_eq!(said, out.len());
        }
    }
}
