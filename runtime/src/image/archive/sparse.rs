//! Reads where the data of a file with holes goes: GNU's old headers and the three pax formats (GNU tar manual, D.2).
//!
//! A map is checked as a whole before it is used: extents in order, without overlap, inside the file, and together as
//! long as the data that is stored.

use tar::{GnuExtSparseHeader, GnuSparseHeader};

use super::pax::{self, Records};

/// The most extents a file may have, which bounds the memory for its map.
pub(super) const EXTENTS_MAX: usize = 1 << 18;
/// What is said of one with more.
pub(super) const TOO_MANY: &str = "a sparse file has more than 262144 extents";
const MALFORMED: &str = "a sparse file's map is malformed";

/// A piece of a file that is stored; everything between is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) struct Extent {
    /// From the start of the file, in bytes.
    pub(in crate::image) offset: u64,
    /// In bytes.
    pub(in crate::image) length: u64,
}

/// A map as the archive says it, not yet checked.
#[derive(Debug)]
pub(super) struct Map {
    size: u64,
    extents: Vec<Extent>,
    /// How many it may have.
    most: usize,
}

/// What a pax header says about holes.
#[derive(Debug)]
pub(super) struct PaxMap {
    /// The file's name, where the member's own was made up for readers that do not know the format.
    pub(super) name: Option<Vec<u8>>,
    pub(super) map: Map,
    /// The extents are text at the start of the data (format 1.0).
    pub(super) stored_in_data: bool,
}

impl Map {
    fn push(&mut self, offset: u64, length: u64) -> Result<(), &'static str> {
        if self.extents.len() >= self.most {
            return Err(TOO_MANY);
        }
        self.extents.push(Extent { offset, length });
        Ok(())
    }

    fn push_gnu(&mut self, headers: &[GnuSparseHeader]) -> Result<(), &'static str> {
        let number = |field: &[u8]| {
            pax::field(field)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or(MALFORMED)
        };
        for header in headers
            .iter()
            .take_while(|header| header.offset[0] != 0 || header.numbytes[0] != 0)
        {
            self.push(number(&header.offset)?, number(&header.numbytes)?)?;
        }
        Ok(())
    }

    /// Adds a block of further extents that follows a GNU header; says whether one more follows.
    pub(super) fn add_gnu_block(&mut self, block: &[u8; 512]) -> Result<bool, &'static str> {
        let mut more = GnuExtSparseHeader::new();
        more.as_mut_bytes().copy_from_slice(block);
        self.push_gnu(&more.sparse)?;
        Ok(more.is_extended())
    }

    fn empty(size: u64, most: usize) -> Self {
        Self {
            size,
            extents: Vec::new(),
            most,
        }
    }

    /// The file's size and its extents, if they fit `stored` bytes of data.
    pub(super) fn check(self, stored: u64) -> Result<(u64, Vec<Extent>), &'static str> {
        let mut end = 0;
        let mut total = 0u64;
        for extent in &self.extents {
            if extent.offset < end {
                return Err("a sparse file's extents overlap");
            }
            end = extent.offset.checked_add(extent.length).ok_or(MALFORMED)?;
            total = total.checked_add(extent.length).ok_or(MALFORMED)?;
        }
        if end > self.size || i64::try_from(self.size).is_err() {
            return Err("a sparse file's extents lie beyond its end");
        }
        if total != stored {
            return Err("a sparse file's extents do not add up to its data");
        }
        Ok((self.size, self.extents))
    }
}

/// The map in a GNU header of type `S`, with so many extents at most.
pub(super) fn from_gnu(
    headers: &[GnuSparseHeader],
    size: &[u8],
    most: usize,
) -> Result<Map, &'static str> {
    let size = pax::field(size)
        .and_then(|size| u64::try_from(size).ok())
        .ok_or(MALFORMED)?;
    let mut map = Map::empty(size, most);
    map.push_gnu(headers)?;
    Ok(map)
}

/// The map in a pax header, if it has one: format 0.0 (repeated records), 0.1 (one record), 1.0 (in the data).
pub(super) fn from_pax(records: &Records, most: usize) -> Result<Option<PaxMap>, &'static str> {
    let number = |key: &str| {
        records
            .get(key)
            .map(|text| pax::decimal(text).ok_or(MALFORMED))
            .transpose()
    };
    let name = records.get("GNU.sparse.name").map(<[u8]>::to_vec);
    match (number("GNU.sparse.major")?, number("GNU.sparse.minor")?) {
        (Some(1), Some(0)) => {
            let size = number("GNU.sparse.realsize")?.ok_or(MALFORMED)?;
            return Ok(Some(PaxMap {
                name,
                map: Map::empty(size, most),
                stored_in_data: true,
            }));
        }
        (None, None) | (Some(0), Some(0 | 1)) => {}
        _ => return Err("a sparse file has an unknown format"),
    }
    let Some(size) = number("GNU.sparse.size")? else {
        return if name.is_some() {
            Err(MALFORMED)
        } else {
            Ok(None)
        };
    };
    let mut map = Map::empty(size, most);
    if let Some(text) = records.get("GNU.sparse.map") {
        let mut numbers = text.split(|byte| *byte == b',').map(pax::decimal);
        while let Some(offset) = numbers.next() {
            let length = numbers.next().flatten();
            map.push(offset.ok_or(MALFORMED)?, length.ok_or(MALFORMED)?)?;
        }
    } else {
        let mut offset = None;
        for (key, value) in records.iter() {
            match key {
                b"GNU.sparse.offset" => offset = Some(pax::decimal(value).ok_or(MALFORMED)?),
                b"GNU.sparse.numbytes" => {
                    map.push(
                        offset.take().ok_or(MALFORMED)?,
                        pax::decimal(value).ok_or(MALFORMED)?,
                    )?;
                }
                _ => {}
            }
        }
    }
    Ok(Some(PaxMap {
        name,
        map,
        stored_in_data: false,
    }))
}

/// Reads the lines of a map that is stored in the data: a count, then an offset and a length for each extent.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    line: Vec<u8>,
    /// How many extents there are going to be.
    count: Option<u64>,
    /// Of the extent whose length comes next.
    offset: Option<u64>,
    complete: bool,
}

impl TextMap {
    /// Whether the last line has been read; the rest of its block is padding.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    /// Reads on, and adds to `map` what is complete.
    pub(super) fn feed(&mut self, piece: &[u8], map: &mut Map) -> Result<(), &'static str> {
        for byte in piece {
            if self.complete {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err(MALFORMED);
                }
                continue;
            }
            let number = pax::decimal(&self.line).ok_or(MALFORMED)?;
            self.line.clear();
            match (self.count, self.offset.take()) {
                (None, _) if number > EXTENTS_MAX as u64 => return Err(TOO_MANY),
                (None, _) => self.count = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => map.push(offset, number)?,
            }
            self.complete = self.offset.is_none() && self.count == Some(map.extents.len() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_in_the_data() {
        let mut text = TextMap::default();
        let mut map = Map::empty(4096, 2);
        text.feed(b"2\n0\n51", &mut map).unwrap();
        assert!(!text.complete());
        text.feed(b"2\n1024\n8\n\0\0\0", &mut map).unwrap();
        assert!(text.complete());
        let (size, extents) = map.check(520).unwrap();
        assert_eq!(size, 4096);
        assert_eq!(
            extents,
            [
                Extent {
                    offset: 0,
                    length: 512
                },
                Extent {
                    offset: 1024,
                    length: 8
                }
            ]
        );
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        let map = |size, pairs: &[(u64, u64)]| Map {
            size,
            most: EXTENTS_MAX,
            extents: pairs
                .iter()
                .map(|(offset, length)| Extent {
                    offset: *offset,
                    length: *length,
                })
                .collect(),
        };
        assert!(map(10, &[(0, 4), (8, 2)]).check(6).is_ok());
        for (bad, stored) in [
            (map(10, &[(0, 4), (3, 2)]), 6),
            (map(10, &[(8, 4)]), 4),
            (map(10, &[(0, 4)]), 5),
            (map(u64::MAX, &[(u64::MAX, 2)]), 2),
            (map(u64::MAX, &[]), 0),
        ] {
            assert!(bad.check(stored).is_err());
        }
        let text = |text: &[u8], most| TextMap::default().feed(text, &mut Map::empty(9, most));
        assert!(text(b"x\n", 1).is_err());
        assert_eq!(text(b"99999999\n", 1), Err(TOO_MANY));
        assert!(text(&[b'1'; 21], 1).is_err());
        assert!(text(b"2\n0\n1\n2\n1\n", 2).is_ok());
        assert_eq!(text(b"2\n0\n1\n2\n1\n", 1), Err(TOO_MANY));
    }
}
