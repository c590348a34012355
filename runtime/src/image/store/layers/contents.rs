//! What is in a layer, `DATA/layers/KEY/contents`: a line for each name, in the manner of mtree(5), written while the layer
//! is unpacked, and compared with the tree by `image verify`.
//!
//! `PATH type=file mode=755 uid=0 gid=0 time=1.000000000 size=3 sha256=HEX xattr.NAME=HEX`. Bytes of names that are no plain
//! ASCII are `\ooo`, in octal. A later line of a path replaces an earlier one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};

/// A name in a layer, and all that is known of it. What is nothing is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `file`, `dir`, `link`, `char`, `block`, `fifo`, `hard` (another name of a file), `whiteout`.
    pub(crate) kind: &'static str,
    /// Permissions, of all but links.
    pub(crate) mode: Option<u32>,
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
    /// Seconds and nanoseconds.
    pub(crate) time: Option<(i64, i64)>,
    /// Of a file.
    pub(crate) size: Option<u64>,
    /// Of a file's content.
    pub(crate) sha256: Option<String>,
    /// What a symbolic link says, or what a hard link is another name of.
    pub(crate) link: Option<Vec<u8>>,
    /// The numbers of a device.
    pub(crate) device: Option<(u64, u64)>,
    /// Attributes, but for overlay's own.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether it hides what is below: a directory.
    pub(crate) opaque: bool,
}

const KINDS: [&str; 8] = [
    "file", "dir", "link", "char", "block", "fifo", "hard", "whiteout",
];

/// Writes a layer's contents, or nothing where nobody asked for them. A failure is kept until the end.
#[derive(Debug)]
pub(crate) struct Contents {
    out: Option<BufWriter<File>>,
    failed: Option<io::Error>,
    line: String,
}

impl Contents {
    /// Writes to `out`, if there is one.
    pub(crate) fn new(out: Option<File>) -> Self {
        Self {
            out: out.map(|file| BufWriter::with_capacity(64 << 10, file)),
            failed: None,
            line: String::new(),
        }
    }

    /// Whether anything is written.
    pub(crate) fn is_wanted(&self) -> bool {
        self.out.is_some()
    }

    /// Writes a line.
    pub(crate) fn add(&mut self, path: &[u8], entry: &Entry) {
        let Some(out) = &mut self.out else { return };
        self.line.clear();
        escape(&mut self.line, path);
        entry.write(&mut self.line);
        self.line.push('\n');
        if let Err(error) = out.write_all(self.line.as_bytes()) {
            self.failed.get_or_insert(error);
        }
    }

    /// A directory that hides what is below.
    pub(crate) fn opaque(&mut self, path: &[u8]) {
        let Some(out) = &mut self.out else { return };
        let mut line = String::new();
        escape(&mut line, path);
        if let Err(error) = out.write_all((line + " opaque\n").as_bytes()) {
            self.failed.get_or_insert(error);
        }
    }

    /// A name that is hidden.
    pub(crate) fn whiteout(&mut self, path: &[u8]) {
        let entry = Entry {
            kind: "whiteout",
            ..Entry::default()
        };
        self.add(path, &entry);
    }

    /// Forgets all that was written.
    pub(crate) fn restart(&mut self) {
        use std::io::Seek;
        let Some(out) = &mut self.out else { return };
        let again = out.rewind().and_then(|()| out.get_ref().set_len(0));
        if let Err(error) = again {
            self.failed.get_or_insert(error);
        }
    }

    /// Hands everything to the kernel.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match (self.failed.take(), self.out.take()) {
            (Some(error), _) => Err(error),
            (None, Some(mut out)) => out.flush(),
            (None, None) => Ok(()),
        }
    }
}

impl Entry {
    fn write(&self, line: &mut String) {
        let _ = write!(line, " type={}", self.kind);
        if let Some(mode) = self.mode {
            let _ = write!(line, " mode={mode:o}");
        }
        if let Some((uid, gid)) = self.owner {
            let _ = write!(line, " uid={uid} gid={gid}");
        }
        if let Some((seconds, nanoseconds)) = self.time {
            let _ = write!(line, " time={seconds}.{nanoseconds:09}");
        }
        if let Some(size) = self.size {
            let _ = write!(line, " size={size}");
        }
        if let Some(sha256) = &self.sha256 {
            let _ = write!(line, " sha256={sha256}");
        }
        if let Some(link) = &self.link {
            line.push_str(" link=");
            escape(line, link);
        }
        if let Some((major, minor)) = self.device {
            let _ = write!(line, " device={major},{minor}");
        }
        for (name, value) in &self.xattrs {
            line.push_str(" xattr.");
            escape(line, name);
            line.push('=');
            for byte in value {
                let _ = write!(line, "{byte:02x}");
            }
        }
        if self.opaque {
            line.push_str(" opaque");
        }
    }

    fn read(words: &mut std::str::Split<'_, char>) -> Option<Self> {
        let kind = words.next()?.strip_prefix("type=")?;
        let mut entry = Self {
            kind: KINDS.into_iter().find(|known| *known == kind)?,
            ..Self::default()
        };
        let (mut uid, mut gid) = (None, None);
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "mode" => entry.mode = Some(u32::from_str_radix(value, 8).ok()?),
                "uid" => uid = Some(value.parse().ok()?),
                "gid" => gid = Some(value.parse().ok()?),
                "time" => {
                    let (seconds, nanoseconds) = value.split_once('.')?;
                    entry.time = Some((seconds.parse().ok()?, nanoseconds.parse().ok()?));
                }
                "size" => entry.size = Some(value.parse().ok()?),
                "sha256" => entry.sha256 = Some(value.to_owned()),
                "link" => entry.link = Some(unescape(value)?),
                "device" => {
                    let (major, minor) = value.split_once(',')?;
                    entry.device = Some((major.parse().ok()?, minor.parse().ok()?));
                }
                "opaque" => entry.opaque = true,
                _ => {
                    let name = unescape(key.strip_prefix("xattr.")?)?;
                    entry.xattrs.insert(name, from_hex(value)?);
                }
            }
        }
        entry.owner = uid.zip(gid);
        Some(entry)
    }
}

/// Reads contents; the number of the first line that is none is the error.
pub(crate) fn read(file: File) -> io::Result<Result<BTreeMap<Vec<u8>, Entry>, usize>> {
    let mut entries: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    let mut opaque = Vec::new();
    for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line?;
        let read = || {
            let line = std::str::from_utf8(&line).ok()?;
            let mut words = line.split(' ');
            let path = unescape(words.next()?)?;
            if words.clone().eq(["opaque"]) {
                return Some((path, None));
            }
            Some((path, Some(Entry::read(&mut words)?)))
        };
        match read() {
            Some((path, Some(entry))) => {
                entries.insert(path, entry);
            }
            Some((path, None)) => opaque.push(path),
            None => return Ok(Err(number + 1)),
        }
    }
    for path in opaque {
        if let Some(entry) = entries.get_mut(&path) {
            entry.opaque = true;
        }
    }
    Ok(Ok(entries))
}

fn escape(line: &mut String, name: &[u8]) {
    if name.is_empty() {
        line.push('.');
    }
    for byte in name {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'\\' | b'=') => line.push(char::from(*byte)),
            _ => {
                let _ = write!(line, "\\{byte:03o}");
            }
        }
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    if text == "." {
        return Some(Vec::new());
    }
    let mut bytes = text.bytes();
    let mut name = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            name.push(byte);
            continue;
        }
        let mut value = 0_u32;
        for _ in 0..3 {
            value = value * 8 + char::from(bytes.next()?).to_digit(8)?;
        }
        name.push(u8::try_from(value).ok()?);
    }
    Some(name)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("contents-{}", std::process::id()));
        let every_byte: Vec<u8> = (0..=255).filter(|byte| *byte != b'/').collect();
        let full = Entry {
            kind: "file",
            mode: Some(0o4755),
            owner: Some((0, 4_294_967_294)),
            time: Some((-1, 5)),
            size: Some(3),
            sha256: Some("ab".into()),
            link: Some(b"a = b\\".to_vec()),
            device: Some((1, 2)),
            xattrs: BTreeMap::from([(b"user.a b=c".to_vec(), every_byte.clone())]),
            opaque: false,
        };
        let root = Entry {
            kind: "dir",
            ..Entry::default()
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        let mut contents = Contents::new(Some(file));
        contents.add(b"gone", &full);
        contents.restart();
        contents.add(&every_byte, &root);
        contents.add(&every_byte, &full);
        contents.opaque(b"");
        contents.add(b"", &root);
        contents.whiteout(b"w");
        contents.finish().unwrap();
        let read_back = read(File::open(&path).unwrap()).unwrap().unwrap();
        let opaque = Entry {
            opaque: true,
            ..root
        };
        let whiteout = Entry {
            kind: "whiteout",
            ..Entry::default()
        };
        assert_eq!(
            read_back,
            BTreeMap::from([
                (every_byte, full),
                (Vec::new(), opaque),
                (b"w".to_vec(), whiteout)
            ])
        );
        std::fs::write(&path, "a type=file\nb type=odd\n").unwrap();
        assert_eq!(read(File::open(&path).unwrap()).unwrap(), Err(2));
        std::fs::remove_file(&path).unwrap();
    }
}
