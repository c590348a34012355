//! Two readers of one archive must see the same members, or one of them unpacks what the other has checked. The other one
//! here is bsdtar: it writes down plainly what it reads, and a third reader lists that.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use tar::EntryType;
use tests::pack::{Item, Tar, dir, file, hardlink, item, sha256, symlink};
use tests::{Run, Seeded, tool};

use super::super::path::Place;
use super::*;

/// The largest file whose holes are filled to compare what is in it.
const WHOLE: u64 = 8 << 20;

/// How many archives are changed at random, and how many of them both readers must at least have read.
const CHANGED: u32 = 600;
const BOTH_READ: u32 = 300;

/// What a reader says of a member.
struct Seen {
    kind: EntryType,
    /// All but the content.
    line: String,
    content: Option<Vec<u8>>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content.as_deref().map(sha256).unwrap_or_default();
        write!(f, "{:?} {} {content:.16}", self.kind, self.line)
    }
}

/// What both readers say of a member, before it is made a line.
struct Said {
    kind: EntryType,
    name: Vec<u8>,
    size: u64,
    mode: u32,
    owner: [String; 2],
    /// In decimal, without zeros at its end.
    mtime: String,
    link: Vec<u8>,
    device: [String; 2],
    content: Option<Vec<u8>>,
}

impl From<Said> for Seen {
    fn from(mut said: Said) -> Self {
        let kind = said.kind;
        // The slash says no more than that it is a directory's.
        if kind == EntryType::Directory && said.name.len() > 1 && said.name.ends_with(b"/") {
            said.name.pop();
        }
        let mut line = format!(
            "{} {} {:04o} {} {}",
            said.name.escape_ascii(),
            said.size,
            said.mode & 0o7777,
            said.owner.join(":"),
            said.mtime
        );
        if matches!(kind, EntryType::Link | EntryType::Symlink) {
            line = format!("{line} -> {}", said.link.escape_ascii());
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            line = format!("{line} {}", said.device.join(","));
        }
        Self {
            kind,
            line,
            content: said.content.filter(|_| kind == EntryType::Regular),
        }
    }
}

/// Our list; none where the archive is refused, for what it is or for a name in it.
fn ours(data: &[u8]) -> Option<Vec<Seen>> {
    let mut archive = Archive::new(data, "archive");
    let mut members = Vec::new();
    while let Some(member) = archive.next().ok()? {
        Place::parse(&member.name).ok()?;
        if member.kind == Kind::HardLink {
            Place::parse(&member.link).ok()?;
        }
        let mut stored = Vec::new();
        let take = |piece: &[u8]| {
            stored.extend_from_slice(piece);
            Ok(())
        };
        archive.data(archive.remaining, take).ok()?;
        let content = match &member.extents {
            None => Some(stored),
            Some(extents) => {
                let pieces = extents.iter().map(|extent| (extent.offset, extent.length));
                filled(member.size, pieces, &stored)
            }
        };
        let (seconds, nanoseconds) = member.mtime;
        let after = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let sign = if after < 0 { "-" } else { "" };
        let (whole, fraction) = (after.abs() / 1_000_000_000, after.abs() % 1_000_000_000);
        let mtime = format!("{sign}{whole}.{fraction:09}");
        let said = Said {
            kind: match member.kind {
                Kind::File => EntryType::Regular,
                Kind::HardLink => EntryType::Link,
                Kind::Symlink => EntryType::Symlink,
                Kind::Char => EntryType::Char,
                Kind::Block => EntryType::Block,
                Kind::Directory => EntryType::Directory,
                Kind::Fifo => EntryType::Fifo,
            },
            name: member.name,
            size: member.size,
            mode: member.mode,
            owner: [member.uid, member.gid].map(|id| id.to_string()),
            mtime: mtime.trim_end_matches('0').trim_end_matches('.').to_owned(),
            link: member.link,
            device: [member.device.0, member.device.1].map(|number| number.to_string()),
            content,
        };
        members.push(said.into());
    }
    Some(members)
}

/// A file with its holes.
fn filled(size: u64, pieces: impl Iterator<Item = (u64, u64)>, stored: &[u8]) -> Option<Vec<u8>> {
    let mut content = vec![0; usize::try_from(size).ok().filter(|_| size <= WHOLE)?];
    let mut rest = stored;
    for (offset, length) in pieces {
        let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        let (piece, others) = rest.split_at_checked(length)?;
        content
            .get_mut(offset..)?
            .get_mut(..length)?
            .copy_from_slice(piece);
        rest = others;
    }
    Some(content)
}

/// bsdtar's list; or what it said when it gave up.
fn theirs(data: &[u8]) -> std::result::Result<Vec<Seen>, String> {
    let thread = std::thread::current().id();
    let plain = std::env::temp_dir().join(format!("plain-{}-{thread:?}", std::process::id()));
    // With -P names stay as they are. What is far larger than any of these archives is not waited for.
    let rewritten = Run::new(tool("prlimit"))
        .env("LC_ALL", "C.UTF-8")
        .cmd([format!("--fsize={}", 4 * WHOLE).into(), tool("bsdtar")])
        .cmd(["-P", "--format=pax", "-cf"])
        .cmd([plain.as_os_str(), "@-".as_ref()])
        .input(data)
        .pipes()
        .done();
    let written = fs::read(&plain);
    let _ = fs::remove_file(&plain);
    if rewritten.code() != Some(0) {
        return Err(format!("{:?}: {}", rewritten.status, rewritten.err_text()));
    }
    let written = written.unwrap();
    let mut archive = tar::Archive::new(written.as_slice());
    let (mut records, mut members) = (BTreeMap::new(), Vec::new());
    for entry in archive.entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let kind = entry.header().entry_type();
        if kind == EntryType::XHeader {
            records = plain_records(&content);
        } else {
            members.push(member(entry.header(), &std::mem::take(&mut records), content).into());
        }
    }
    Ok(members)
}

/// The records of an extended header.
fn plain_records(mut data: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut records = BTreeMap::new();
    while let Some(blank) = data.iter().position(|byte| *byte == b' ') {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let length = text(&data[..blank]).parse().unwrap();
        let (record, rest) = data.split_at(length);
        let record = &record[blank + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        records.insert(text(&record[..equals]), record[equals + 1..].to_vec());
        data = rest;
    }
    records
}

/// What a header and the records before it say, where there is one way only to say it.
fn member(header: &Header, records: &BTreeMap<String, Vec<u8>>, content: Vec<u8>) -> Said {
    let text = |key: &str| Some(String::from_utf8(records.get(key)?.clone()).unwrap());
    let or = |key: &str, field: u64| text(key).unwrap_or_else(|| field.to_string());
    let number = |field: std::io::Result<Option<u32>>| u64::from(field.unwrap().unwrap_or(0));
    let sparse = text("GNU.sparse.realsize").map(|size| size.parse().unwrap());
    let name = records
        .get("GNU.sparse.name")
        .or(records.get("path"))
        .cloned();
    let link = records.get("linkpath").cloned();
    let link_field = || header.link_name_bytes().unwrap_or_default().into_owned();
    Said {
        kind: header.entry_type(),
        name: name.unwrap_or_else(|| header.path_bytes().into_owned()),
        size: sparse.unwrap_or(content.len() as u64),
        mode: header.mode().unwrap(),
        owner: [
            or("uid", header.uid().unwrap()),
            or("gid", header.gid().unwrap()),
        ],
        mtime: or("mtime", header.mtime().unwrap()),
        link: link.unwrap_or_else(link_field),
        device: [
            or("SCHILY.devmajor", number(header.device_major())),
            or("SCHILY.devminor", number(header.device_minor())),
        ],
        content: match sparse {
            None => Some(content),
            Some(size) => without_map(size, &content),
        },
    }
}

/// A file whose map, in the format that bsdtar writes (GNU's 1.0), is in front of its data.
fn without_map(size: u64, data: &[u8]) -> Option<Vec<u8>> {
    let mut numbers = Vec::new();
    let mut at = 0;
    while numbers
        .first()
        .is_none_or(|count| numbers.len() as u64 <= 2 * count)
    {
        let line = data[at..].split(|byte| *byte == b'\n').next()?;
        numbers.push(std::str::from_utf8(line).ok()?.parse().ok()?);
        at += line.len() + 1;
    }
    let pieces = numbers[1..].chunks(2).map(|piece| (piece[0], piece[1]));
    filled(size, pieces, &data[at.next_multiple_of(512)..])
}

/// The first member on which two lists do not agree.
fn difference(ours: &[Seen], theirs: &[Seen]) -> Option<String> {
    let same = |(own, other): (&Seen, &Seen)| {
        // What is in a very large file is not compared.
        let both = own.content.as_ref().zip(other.content.as_ref());
        own.kind == other.kind && own.line == other.line && both.is_none_or(|(a, b)| a == b)
    };
    let common = ours
        .iter()
        .zip(theirs)
        .take_while(|pair| same(*pair))
        .count();
    if common == ours.len() && common == theirs.len() {
        return None;
    }
    let show = |list: &[Seen]| list.get(common).map_or("no more".into(), Seen::to_string);
    Some(format!(
        "member {common}: {} | {}",
        show(ours),
        show(theirs)
    ))
}

/// Every member of an ordinary archive and what is unusual about it.
fn ordinary() -> Vec<Item> {
    let long = |letter: &str| format!("{}/{}", letter.repeat(200), letter.repeat(255));
    let mut items = vec![
        dir("./").mode(0o711),
        dir("d/").mode(0o1777).owner(1, 2),
        file("d/plain", "text")
            .mode(0o6755)
            .owner(3_000_000, 4_000_000_000),
        file("d/plain", "the same name again"),
        file("/absolute", "x"),
        file("record", "x")
            .pax("path", "n\u{e4}me\n with\ttext")
            .pax("uid", "77"),
        file("fraction", "x").pax("mtime", "1000000000.123456789"),
        file("before", "x").pax("mtime", "-1.25"),
        file("far", "x").mtime(1 << 40),
        symlink("link", "../d/plain"),
        symlink("long-link", long("t")),
        symlink("record-link", "x").pax("linkpath", long("p")),
        hardlink("hard", "d/plain"),
        hardlink("long-hard", long("g")),
        file(long("g"), "GNU"),
        file("short", "pax").pax("path", long("p")),
        file("hundred".to_owned() + &"0".repeat(93), "x"),
        file("directory-of-old/", ""),
        item(EntryType::Fifo, "fifo"),
        item(EntryType::Char, "char").device(1, 3),
        item(EntryType::Char, "large").device(4000, 1_000_000),
        item(EntryType::Block, "block").device(7, 200),
        item(EntryType::Continuous, "continuous"),
        file("attributes", "x").pax("SCHILY.xattr.user.a", b"\x01=\xff\n"),
        file("holes", "12345678")
            .pax("GNU.sparse.size", "100")
            .pax("GNU.sparse.map", "0,4,50,4"),
    ];
    for byte in (1..=255).filter(|byte| *byte != b'/') {
        items.push(file([b"x", &[byte][..]].concat(), [byte]));
    }
    items
}

/// The archives, by name: what programs write, what is kept because a reader once fell over it, and what is hostile, with
/// the layers in it.
fn archives() -> Vec<(String, Vec<u8>)> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus/archive");
    let mut all = vec![("ordinary".to_owned(), Tar::of(ordinary()))];
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        all.push((path.display().to_string(), fs::read(path).unwrap()));
    }
    for hostile in tests::hostile::archives(Path::new("/outside")) {
        for member in ours(&hostile.data).unwrap_or_default() {
            let content = member.content.filter(|content| content.len() > 1024);
            all.extend(
                content.map(|content| (format!("{} in {}", member.line, hostile.name), content)),
            );
        }
        all.push((hostile.name, hostile.data));
    }
    all
}

#[test]
fn bsdtar_sees_the_same_members() {
    let mut read = 0;
    for (name, data) in archives() {
        let Some(own) = ours(&data) else {
            continue;
        };
        read += 1;
        let other = theirs(&data).unwrap_or_else(|why| panic!("{name}: bsdtar gives up: {why}"));
        assert_eq!(difference(&own, &other), None, "{name}");
    }
    // The ordinary one, the corpus, most of the hostile ones and their layers.
    assert!(read > 120, "{read}");
}

/// Which of two readers gives up is a matter of taste: one accepts a line feed where a number begins, the other does not.
/// What must never be is that both read on and see different things.
#[test]
fn bsdtar_sees_the_same_members_in_archives_that_were_changed() {
    let mut random = Seeded::new(11);
    let mut originals = archives();
    originals.retain(|(_, data)| data.len() > 1024 && ours(data).is_some());
    let mut read = 0;
    for _ in 0..CHANGED {
        let (name, data) = &originals[index(originals.len(), &mut random)];
        let (changes, data) = changed(data, &mut random);
        let (Some(own), Ok(other)) = (ours(&data), theirs(&data)) else {
            continue;
        };
        read += 1;
        assert_eq!(difference(&own, &other), None, "{name}, with {changes:?}");
    }
    assert!(read > BOTH_READ, "{read}");
}

fn index(length: usize, random: &mut Seeded) -> usize {
    usize::try_from(random.below(length as u64)).unwrap()
}

/// The archive with a byte or two changed, in checksums that hold: where, and to what.
fn changed(data: &[u8], random: &mut Seeded) -> (Vec<(usize, u8)>, Vec<u8>) {
    const BYTES: &[u8] = b"\0 /01789-.\x80\xff=\nxgLKSV5";
    let mut data = data.to_vec();
    let mut changes = Vec::new();
    for _ in 0..=random.below(2) {
        let at = index(data.len(), random);
        if at < 100 {
            // By the first name bsdtar judges whether the archive is compressed.
            continue;
        }
        let block = at - at % 512;
        let Some(header) = data.get(block..block + 512) else {
            continue;
        };
        let is_header = checksum_holds(header.try_into().unwrap());
        data[at] = BYTES[index(BYTES.len(), random)];
        changes.push((at, data[at]));
        if is_header {
            let mut header = Header::from_byte_slice(&data[block..block + 512]).clone();
            header.set_cksum();
            data[block..block + 512].copy_from_slice(header.as_bytes());
        }
    }
    (changes, data)
}
