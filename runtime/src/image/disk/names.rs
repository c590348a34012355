//! A set of names in a tree, of any size: in memory as long as it is small, then in a file that has no name.
//!
//! What is kept of a name is a number of 64 bits, the hash of it with a key that nobody knows: of ten million names, two are
//! mistaken for each other once in 300,000 sets, and no archive can be made so that it happens.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use shim::error::errno_of;

use super::nameless;

/// What a name takes in memory at most, in bytes: the set doubles, and has both of its sizes meanwhile.
const EACH: usize = 32;
/// How many numbers of a file are read at once.
const PIECE: usize = 64;
/// The smallest file has two to the power of this places.
const BITS: u32 = 12;
/// A place that has no number, and one whose number was removed.
const FREE: u64 = 0;
const REMOVED: u64 = 1;

/// Names in a tree: each is a directory's inode number and the name in it.
#[derive(Debug)]
pub(in crate::image) struct Names {
    key: RandomState,
    few: HashSet<u64>,
    most: usize,
    many: Option<Table>,
}

impl Names {
    /// None yet; so many bytes of memory are theirs.
    pub(in crate::image) fn new(room: usize) -> Self {
        Self {
            key: RandomState::new(),
            few: HashSet::new(),
            most: room / EACH,
            many: None,
        }
    }

    /// Whether there were never any.
    pub(in crate::image) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_none()
    }

    /// Forgets all.
    pub(in crate::image) fn clear(&mut self) {
        self.few.clear();
        self.many = None;
    }

    /// Whether `name` in `directory` is one of them.
    pub(in crate::image) fn contains(&self, directory: u64, name: &[u8]) -> nix::Result<bool> {
        let number = self.number(directory, name);
        match &self.many {
            None => Ok(self.few.contains(&number)),
            Some(table) => table
                .find(number)
                .map(|(_, found)| found == number)
                .map_err(|error| errno_of(&error)),
        }
    }

    /// Adds `name` in `directory`. The file, where one is needed, is made in `place`.
    pub(in crate::image) fn insert(
        &mut self,
        directory: u64,
        name: &[u8],
        place: impl AsFd,
    ) -> nix::Result<()> {
        let number = self.number(directory, name);
        if self.many.is_none() {
            self.few.insert(number);
            if self.few.len() <= self.most {
                return Ok(());
            }
        }
        self.insert_in_file(number, place)
            .map_err(|error| errno_of(&error))
    }

    fn insert_in_file(&mut self, number: u64, place: impl AsFd) -> io::Result<()> {
        let mut table = match self.many.take() {
            Some(table) => table,
            None => {
                let bits = (self.few.len() * 4).ilog2().max(BITS);
                let mut table = Table::new(bits, &place)?;
                for number in std::mem::take(&mut self.few) {
                    table.insert(number)?;
                }
                table
            }
        };
        table.insert(number)?;
        if table.is_half_full() {
            table = table.grown(&place)?;
        }
        self.many = Some(table);
        Ok(())
    }

    /// Takes `name` in `directory` out again.
    pub(in crate::image) fn remove(&mut self, directory: u64, name: &[u8]) -> nix::Result<()> {
        let number = self.number(directory, name);
        match &self.many {
            None => {
                self.few.remove(&number);
                Ok(())
            }
            Some(table) => table.remove(number).map_err(|error| errno_of(&error)),
        }
    }

    fn number(&self, directory: u64, name: &[u8]) -> u64 {
        self.key.hash_one((directory, name)).max(REMOVED + 1)
    }
}

/// Numbers in a file: each is in the place that its first bits say, or in the next one that was free.
#[derive(Debug)]
struct Table {
    file: File,
    /// The number of places is two to the power of this.
    bits: u32,
    /// How many places are not free.
    used: u64,
}

impl Table {
    fn new(bits: u32, place: impl AsFd) -> io::Result<Self> {
        let random = RandomState::new().hash_one(bits);
        let file = nameless(place.as_fd(), &format!(".names-{random:016x}"))?;
        file.set_len(8 << bits)?;
        Ok(Self {
            file,
            bits,
            used: 0,
        })
    }

    fn is_half_full(&self) -> bool {
        self.used * 2 >= 1 << self.bits
    }

    /// The place of `number` and itself; or the first free one, and [`FREE`].
    fn find(&self, number: u64) -> io::Result<(u64, u64)> {
        let end = 1 << self.bits;
        let mut place = number >> (64 - self.bits);
        loop {
            let mut bytes = [0; PIECE * 8];
            let count = (end - place).min(PIECE as u64);
            let length = usize::try_from(count * 8).unwrap_or(bytes.len());
            self.file.read_exact_at(&mut bytes[..length], place * 8)?;
            for found in numbers(&bytes[..length]) {
                if found == number || found == FREE {
                    return Ok((place, found));
                }
                place += 1;
            }
            place %= end;
        }
    }

    fn insert(&mut self, number: u64) -> io::Result<()> {
        let (place, found) = self.find(number)?;
        if found == FREE {
            self.file.write_all_at(&number.to_ne_bytes(), place * 8)?;
            self.used += 1;
        }
        Ok(())
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        match self.find(number)? {
            (_, FREE) => Ok(()),
            (place, _) => self.file.write_all_at(&REMOVED.to_ne_bytes(), place * 8),
        }
    }

    /// The same in a larger file. Numbers keep their order, so it is written from its beginning to its end.
    fn grown(&self, place: impl AsFd) -> io::Result<Self> {
        let mut larger = Self::new(self.bits + 2, place)?;
        let mut bytes = [0; PIECE * 8];
        for place in (0..1 << self.bits).step_by(PIECE) {
            self.file.read_exact_at(&mut bytes, place * 8)?;
            for number in numbers(&bytes).filter(|number| *number > REMOVED) {
                larger.insert(number)?;
            }
        }
        Ok(larger)
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_memory_and_in_a_file_it_is_the_same_set() {
        const COUNT: u64 = 20_000;
        let place = File::open(std::env::temp_dir()).unwrap();
        for room in [0, 100 * EACH, usize::MAX] {
            let mut names = Names::new(room);
            assert!(names.is_empty());
            for n in 0..COUNT {
                names.insert(n % 7, &n.to_ne_bytes(), &place).unwrap();
                // Each is one name only.
                names.insert(n % 7, &n.to_ne_bytes(), &place).unwrap();
            }
            assert_eq!(names.many.is_some(), room != usize::MAX);
            assert_eq!(names.few.len(), if room == usize::MAX { 20_000 } else { 0 });
            let removed = |n: u64| n.is_multiple_of(3);
            for n in (0..COUNT).filter(|n| removed(*n)) {
                names.remove(n % 7, &n.to_ne_bytes()).unwrap();
            }
            for n in 0..COUNT * 2 {
                let there = names.contains(n % 7, &n.to_ne_bytes()).unwrap();
                assert_eq!(there, n < COUNT && !removed(n), "{n}");
                assert!(!names.contains(9, &n.to_ne_bytes()).unwrap());
            }
            if let Some(table) = &names.many {
                assert!(!table.is_half_full() && table.used == COUNT);
            }
            // What was removed can come again.
            names.insert(0, &0_u64.to_ne_bytes(), &place).unwrap();
            assert!(names.contains(0, &0_u64.to_ne_bytes()).unwrap());
            names.clear();
            assert!(names.is_empty() && !names.contains(1, &1_u64.to_ne_bytes()).unwrap());
        }
    }
}
