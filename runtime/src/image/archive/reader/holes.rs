//! Reads the map of a file with holes from wherever an archive has it: in headers, in records, or at the start of the data.

use std::io::BufRead;

use shim::{Error, Result};
use tar::Header;

use super::super::member::Member;
use super::super::pax::Records;
use super::super::sparse;
use super::{Archive, BLOCK};

impl<R: BufRead> Archive<R> {
    pub(super) fn sparse_map(
        &mut self,
        header: &Header,
        flag: u8,
        records: &Records,
        member: &mut Member,
    ) -> Result<()> {
        let most = self.part_of(sparse::EXTENTS_MAX);
        let map = if flag == b'S' {
            let gnu = header
                .as_gnu()
                .ok_or_else(|| self.bad("a sparse member has no GNU header"))?;
            let mut map = sparse::from_gnu(&gnu.sparse, &gnu.realsize, most)
                .map_err(|why| self.bad_map(why))?;
            let mut extended = gnu.is_extended();
            while extended {
                let block = self.block()?.ok_or_else(|| self.truncated())?;
                extended = map.add_gnu_block(&block).map_err(|why| self.bad_map(why))?;
            }
            map
        } else if let Some(map) =
            sparse::from_pax(records, most).map_err(|why| self.bad_map(why))?
        {
            if let Some(name) = map.name {
                member.name = name;
            }
            if map.stored_in_data {
                self.sparse_map_in_data(map.map)?
            } else {
                map.map
            }
        } else {
            return Ok(());
        };
        let (size, extents) = map.check(self.remaining).map_err(|why| self.bad(why))?;
        member.size = size;
        member.extents = Some(extents);
        Ok(())
    }

    /// GNU sparse format 1.0: the map is text at the start of the data, padded to a block.
    fn sparse_map_in_data(&mut self, mut map: sparse::Map) -> Result<sparse::Map> {
        let mut reader = sparse::TextMap::default();
        while !reader.complete() {
            let mut why = Ok(());
            self.data(BLOCK, |piece| {
                why = why.and(reader.feed(piece, &mut map));
                Ok(())
            })?;
            why.map_err(|why| self.bad_map(why))?;
        }
        Ok(map)
    }

    fn bad_map(&self, why: &'static str) -> Error {
        match why {
            sparse::TOO_MANY => self.too_large(why),
            why => self.bad(why),
        }
    }
}
