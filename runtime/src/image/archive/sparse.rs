//! Reads where the data of a file with holes goes: GNU's old headers and the three pax formats (GNU tar manual, D.2).
//!
//! A map is checked as a whole before it is used: extents in order, without overlap, inside the file, and together as
//! long as the data that is stored.

use tar::{GnuExtSparseHeader, GnuSparseHeader};

use super::pax::{self, Records};

/// The most extents a file may have, which bounds the memory for its map.
const EXTENTS_MAX: usize = 1 << 20;
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
#[derive(Debug, Default)]
pub(super) struct Map {
    size: u64,
    extents: Vec<Extent>,
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
        if self.extents.len() >= EXTENTS_MAX {
            return Err("a sparse file has more than a million extents");
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

    /// Adds the extents of a map that was stored in the data.
    pub(super) fn take_text(&mut self, text: TextMap) -> Result<(), &'static str> {
        for pair in text.numbers.get(1..).unwrap_or_default().chunks_exact(2) {
            self.push(pair[0], pair[1])?;
        }
        Ok(())
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

/// The map in a GNU header of type `S`.
pub(super) fn from_gnu(headers: &[GnuSparseHeader], size: &[u8]) -> Result<Map, &'static str> {
    let size = pax::field(size)
        .and_then(|size| u64::try_from(size).ok())
        .ok_or(MALFORMED)?;
    let mut map = Map {
        size,
        ..Map::default()
    };
    map.push_gnu(headers)?;
    Ok(map)
}

/// The map in a pax header, if it has one: format 0.0 (repeated records), 0.1 (one record), 1.0 (in the data).
pub(super) fn from_pax(records: &Records) -> Result<Option<PaxMap>, &'static str> {
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
                map: Map {
                    size,
                    ..Map::default()
                },
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
    let mut map = Map {
        size,
        ..Map::default()
    };
    if let Some(text) = records.get("GNU.sparse.map") {
        let numbers: Option<Vec<u64>> =
            text.split(|byte| *byte == b',').map(pax::decimal).collect();
        let numbers = numbers
            .filter(|numbers| numbers.len() % 2 == 0)
            .ok_or(MALFORMED)?;
        for pair in numbers.chunks_exact(2) {
            map.push(pair[0], pair[1])?;
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

/// Collects the lines of a map that is stored in the data: a count, then an offset and a length for each extent.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    line: Vec<u8>,
    numbers: Vec<u64>,
    complete: bool,
}

impl TextMap {
    /// Whether the last line has been read; the rest of its block is padding.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    /// Reads on.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), &'static str> {
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
            self.numbers
                .push(pax::decimal(&self.line).ok_or(MALFORMED)?);
            self.line.clear();
            let count = usize::try_from(self.numbers[0])
                .ok()
                .filter(|count| *count <= EXTENTS_MAX)
                .ok_or(MALFORMED)?;
            self.complete = self.numbers.len() == 1 + 2 * count;
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
        text.feed(b"2\n0\n51").unwrap();
        assert!(!text.complete());
        text.feed(b"2\n1024\n8\n\0\0\0").unwrap();
        assert!(text.complete());
        let mut map = Map {
            size: 4096,
            ..Map::default()
        };
        map.take_text(text).unwrap();
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
        assert!(TextMap::default().feed(b"x\n").is_err());
        assert!(TextMap::default().feed(b"99999999\n").is_err());
        assert!(TextMap::default().feed(&[b'1'; 21]).is_err());
    }
}
