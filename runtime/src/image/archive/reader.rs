//! Reads a tar stream member by member: ustar, GNU and pax headers, long names, sparse maps (tar(5), pax(1)).
//!
//! Two parsers that disagree about where a member ends see two different archives, so whatever can be read in two ways is
//! an error here. Nothing is kept of a member's data, and nothing is decided about where it goes.

mod holes;

use std::io::BufRead;
use std::io::ErrorKind;

use shim::{Error, Result};
use tar::{GnuHeader, Header};

use super::member::{Kind, Member, checksum_holds, corrupt, read_failed};
use super::path::show;
use super::pax::{self, Records};
use crate::image::source::Reading;

/// tar's unit: headers are this long, data is padded to it.
pub(super) const BLOCK: u64 = 512;
/// The most that an extended header or a long name may take, in bytes: sixteen of the largest attributes that Linux has.
const EXTENSION_MAX: usize = 1 << 20;
/// The most that all headers for all members may take, in bytes: every member carries a copy. Git writes 52.
const GLOBALS_MAX: usize = 64 << 10;
/// The largest size that a header's octal field can hold, in bytes.
const OCTAL_MAX: u64 = 0o777_7777_7777;

/// How a stream passes over bytes that nobody wants.
type Skip<R> = fn(&mut R, u64) -> std::io::Result<()>;

/// A tar stream that is being read.
pub(in crate::image) struct Archive<R> {
    reader: R,
    skip: Skip<R>,
    label: String,
    position: u64,
    /// Data of the current member that has not been read, without its padding.
    remaining: u64,
    padding: u64,
    globals: Records,
    globals_size: usize,
    ended: bool,
    marked_end: bool,
    reading: Option<Reading>,
}

impl<R: BufRead> Archive<R> {
    /// Reads `reader`, which errors call `label`.
    pub(in crate::image) fn new(reader: R, label: impl Into<String>) -> Self {
        Self::with_skip(reader, label, discard)
    }

    /// The same, with a way to pass over data that is quicker than reading it.
    pub(in crate::image) fn with_skip(reader: R, label: impl Into<String>, skip: Skip<R>) -> Self {
        Self {
            reader,
            skip,
            label: label.into(),
            position: 0,
            remaining: 0,
            padding: 0,
            globals: Records::default(),
            globals_size: 0,
            ended: false,
            marked_end: false,
            reading: None,
        }
    }

    /// Takes members and their data out of the budget, as soon as they are announced, and gives to root what is squashed.
    pub(in crate::image) fn within(mut self, reading: &Reading) -> Self {
        self.reading = Some(reading.clone());
        self
    }

    /// The next member; whatever was not read of the one before is passed over.
    pub(in crate::image) fn next(&mut self) -> Result<Option<Member>> {
        let mut local: Option<Records> = None;
        let mut long_name: Option<Vec<u8>> = None;
        let mut long_link: Option<Vec<u8>> = None;
        loop {
            self.finish_member()?;
            let Some(header) = self.header()? else {
                if local.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(self.bad("an extended header describes no member"));
                }
                return Ok(None);
            };
            let twice = "a member has two extended headers of one kind";
            match header
                .as_ustar()
                .map_or(header.as_old().linkflag[0], |ustar| ustar.typeflag[0])
            {
                b'x' => {
                    let data = self.extension(&header)?;
                    let records = Records::parse(data).map_err(|why| self.bad(why))?;
                    if local.replace(records).is_some() {
                        return Err(self.bad(twice));
                    }
                }
                b'g' => self.global(&header)?,
                b'L' => {
                    let data = self.extension(&header)?;
                    if long_name.replace(until_nul(data)).is_some() {
                        return Err(self.bad(twice));
                    }
                }
                b'K' => {
                    let data = self.extension(&header)?;
                    if long_link.replace(until_nul(data)).is_some() {
                        return Err(self.bad(twice));
                    }
                }
                // The label of a volume; not a member.
                b'V' => self.stored(&header, None)?,
                flag => {
                    return self
                        .member(
                            &header,
                            flag,
                            local.unwrap_or_default(),
                            long_name,
                            long_link,
                        )
                        .map(Some);
                }
            }
        }
    }

    /// Whether the archive ended with the end mark (a block of zeros), not just where the file did.
    pub(in crate::image) fn marked_end(&self) -> bool {
        self.marked_end
    }

    /// Hands the next `count` bytes of the current member's data to `sink`, in pieces.
    pub(in crate::image) fn data(
        &mut self,
        mut count: u64,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if count > self.remaining {
            return Err(self.bad("a member has less data than its header says"));
        }
        while count > 0 {
            let buffer = match self.reader.fill_buf() {
                Ok([]) => return Err(self.truncated()),
                Ok(buffer) => buffer,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_failed(&self.label, &error)),
            };
            let take = usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()));
            sink(&buffer[..take])?;
            self.reader.consume(take);
            let taken = take as u64;
            count -= taken;
            self.remaining -= taken;
            self.position += taken;
        }
        Ok(())
    }

    /// Reads whatever follows the end mark, so that checksums over the whole stream are complete.
    pub(in crate::image) fn drain(mut self) -> Result<()> {
        loop {
            match self.reader.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(buffer) => {
                    let length = buffer.len();
                    self.reader.consume(length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(read_failed(&self.label, &error)),
            }
        }
    }

    fn finish_member(&mut self) -> Result<()> {
        let rest = self.remaining + self.padding;
        if rest > 0 {
            (self.skip)(&mut self.reader, rest).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => self.truncated(),
                _ => read_failed(&self.label, &error),
            })?;
        }
        self.position += rest;
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads one block, or nothing where the stream ends.
    fn block(&mut self) -> Result<Option<[u8; 512]>> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(read_failed(&self.label, &error)),
            }
        }
        self.position += BLOCK;
        Ok(Some(block))
    }

    fn header(&mut self) -> Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            self.marked_end = true;
            return Ok(None);
        }
        if !checksum_holds(&block) {
            return Err(self.bad("a header's checksum does not match"));
        }
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    /// Sets how much data follows `header`, and says it.
    fn stored(&mut self, header: &Header, records: Option<&Records>) -> Result<()> {
        let field = pax::field(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
        let mut size = field.ok_or_else(|| self.bad("a member's size is no number"))?;
        if let Some(text) = records.and_then(|records| records.get("size")) {
            let pax = pax::decimal(text).ok_or_else(|| self.bad("a member's size is no number"))?;
            // A size that fits both must be the same in both, or a reader of the one sees other members than a reader of
            // the other.
            if pax != size && pax <= OCTAL_MAX {
                return Err(self.bad(format!("a member has two sizes, {size} and {pax}")));
            }
            size = pax;
        }
        if size > i64::MAX.unsigned_abs() - BLOCK {
            return Err(self.bad("a member is larger than any file can be"));
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        self.stored(header, None)?;
        if self.remaining > self.part_of(EXTENSION_MAX) as u64 {
            return Err(self.too_large("an extended header is larger than 1 MiB"));
        }
        let mut data = Vec::with_capacity(usize::try_from(self.remaining).unwrap_or(0));
        self.data(self.remaining, |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(data)
    }

    fn global(&mut self, header: &Header) -> Result<()> {
        let data = self.extension(header)?;
        self.globals_size = self.globals_size.saturating_add(data.len());
        if self.globals_size > GLOBALS_MAX {
            return Err(self.bad("global headers are larger than 64 KiB"));
        }
        let records = Records::parse(data).map_err(|why| self.bad(why))?;
        let for_one = |key: &[u8]| {
            matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.")
        };
        if records.iter().any(|(key, _)| for_one(key)) {
            return Err(self.bad("a global header sets a name or a size for all members"));
        }
        self.globals.extend(records);
        Ok(())
    }

    fn member(
        &mut self,
        header: &Header,
        flag: u8,
        local: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member> {
        let mut records = self.globals.clone();
        records.extend(local);
        let name = match (records.get("path"), long_name) {
            (Some(pax), Some(gnu)) if pax != gnu => return Err(self.bad("a member has two names")),
            (Some(pax), _) => pax.to_vec(),
            (None, Some(gnu)) => gnu,
            (None, None) => header.path_bytes().into_owned(),
        };
        let link = match (records.get("linkpath"), long_link) {
            (Some(pax), Some(gnu)) if pax != gnu => {
                return Err(self.bad("a member has two link targets"));
            }
            (Some(pax), _) => pax.to_vec(),
            (None, Some(gnu)) => gnu,
            (None, None) => header
                .link_name_bytes()
                .map_or_else(Vec::new, |link| link.into_owned()),
        };
        let kind = match flag {
            // Before ustar a directory was a file whose name ends in a slash.
            b'0' | 0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let why = format!(
                    "member \"{}\" has the unknown type '{}'",
                    show(&name),
                    other.escape_ascii()
                );
                return Err(self.bad(why));
            }
        };
        self.stored(header, Some(&records))?;
        if let Some(Reading { budget, .. }) = &self.reading {
            budget.take_file(&self.label)?;
            budget.take_bytes(self.remaining, &self.label)?;
        }
        // libarchive takes these fields for a map whatever the type is, GNU tar does not.
        if flag != b'S' && header.as_gnu().is_some_and(has_map) {
            return Err(self.bad("a member has a sparse map although its type has none"));
        }
        if kind != Kind::File && self.remaining != 0 {
            let why = format!(
                "member \"{}\" has data although its type has none",
                show(&name)
            );
            return Err(self.bad(why));
        }
        let member =
            Member::new(kind, name, link, header, &records).map_err(|why| self.bad(why))?;
        let mut member = Member {
            size: self.remaining,
            ..member
        };
        if kind == Kind::File {
            self.sparse_map(header, flag, &records, &mut member)?;
        }
        member.offset = self.position;
        if let Some(Reading {
            squash: Some(squash),
            ..
        }) = &self.reading
        {
            squash.apply(&mut member);
        }
        Ok(member)
    }

    /// How much of what may be `alone` for one archive may be now, as others are read at the same time.
    fn part_of(&self, alone: usize) -> usize {
        let reading = self.reading.as_ref();
        reading.map_or(alone, |reading| reading.budget.part_of(alone))
    }

    /// The error for what takes more memory than it may: for ever, or as long as others are read at the same time.
    fn too_large(&self, why: &'static str) -> Error {
        if let Some(reading) = &self.reading {
            reading.budget.want_all();
        }
        self.bad(why).hint(
            "no more is taken, so that no archive can fill the memory; make it again with less",
        )
    }

    fn bad(&self, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        corrupt(&self.label, why)
    }

    fn truncated(&self) -> Error {
        corrupt(&self.label, "the archive ends in the middle of a member")
            .hint("it is truncated; fetch it again")
    }
}

/// Whether a header has something where GNU's has a sparse file's size and map.
fn has_map(gnu: &GnuHeader) -> bool {
    gnu.realsize[0] != 0 || gnu.sparse[0].offset[0] != 0
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|byte| *byte == 0) {
        data.truncate(end);
    }
    data
}

/// Passes over `count` bytes by reading them.
fn discard<R: BufRead>(reader: &mut R, mut count: u64) -> std::io::Result<()> {
    while count > 0 {
        let length = match reader.fill_buf() {
            Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(buffer) => {
                usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        reader.consume(length);
        count -= length as u64;
    }
    Ok(())
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod against_bsdtar;
