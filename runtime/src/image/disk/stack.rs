//! A stack of names, of any height: its top in memory, what is below in a file that has no name.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use super::nameless;

/// How much goes to the file at once, and comes from there, in bytes.
const PIECE: usize = 64 << 10;
/// What stands behind each name: its length.
const LENGTH: usize = 4;

/// Names, of which the one that came last is taken first.
#[derive(Debug)]
pub(in crate::image) struct Stack<'place> {
    place: BorrowedFd<'place>,
    top: Vec<u8>,
    below: Option<File>,
    /// How many bytes are in the file.
    stored: u64,
}

impl<'place> Stack<'place> {
    /// An empty one. The file, where one is needed, is made in `place`.
    pub(in crate::image) fn new(place: &'place impl AsFd) -> Self {
        Self {
            place: place.as_fd(),
            top: Vec::new(),
            below: None,
            stored: 0,
        }
    }

    /// Puts a name on it.
    pub(in crate::image) fn push(&mut self, name: &[u8]) {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        self.top.extend_from_slice(name);
        self.top.extend_from_slice(&length.to_ne_bytes());
        if self.top.len() >= 2 * PIECE {
            // Where the disk is full, and something has to be removed because of that, it stays in memory.
            let _ = self.store();
        }
    }

    fn store(&mut self) -> io::Result<()> {
        let file = match &self.below {
            Some(file) => file,
            None => {
                let random = RandomState::new().hash_one("stack");
                let file = nameless(self.place, &format!(".stack-{random:016x}"))?;
                self.below.insert(file)
            }
        };
        file.write_all_at(&self.top[..PIECE], self.stored)?;
        self.top.drain(..PIECE);
        self.stored += PIECE as u64;
        Ok(())
    }

    /// Takes the last name off it.
    pub(in crate::image) fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.top.is_empty() && self.stored == 0 {
            return Ok(None);
        }
        let mut length = [0; LENGTH];
        length.copy_from_slice(&self.take(LENGTH)?);
        let length = u32::from_ne_bytes(length);
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
            .map(Some)
    }

    /// The last `count` bytes.
    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.top.len() < count {
            let (Some(file), true) = (&self.below, self.stored > 0) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let mut piece = vec![0; PIECE];
            file.read_exact_at(&mut piece, self.stored - PIECE as u64)?;
            piece.append(&mut self.top);
            self.top = piece;
            self.stored -= PIECE as u64;
        }
        Ok(self.top.split_off(self.top.len() - count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_comes_first_however_many_there_are() {
        let place = File::open(std::env::temp_dir()).unwrap();
        let mut stack = Stack::new(&place);
        assert_eq!(stack.pop().unwrap(), None);
        let name = |n: usize| n.to_string().repeat(n % 70).into_bytes();
        let mut expected = Vec::new();
        for n in 0..40_000 {
            stack.push(&name(n));
            expected.push(name(n));
            if n % 3 == 0 {
                assert_eq!(stack.pop().unwrap(), expected.pop());
            }
        }
        assert!(stack.stored > 1 << 20 && stack.top.len() < 2 * PIECE);
        while let Some(name) = expected.pop() {
            assert_eq!(stack.pop().unwrap(), Some(name));
        }
        assert_eq!(stack.pop().unwrap(), None);
        // Where no file can be made it goes on in memory.
        let nowhere = File::open("/proc").unwrap();
        let mut stack = Stack::new(&nowhere);
        for n in 0..40_000 {
            stack.push(&name(n));
        }
        assert!(stack.below.is_none());
        for n in (0..40_000).rev() {
            assert_eq!(stack.pop().unwrap(), Some(name(n)));
        }
    }
}
