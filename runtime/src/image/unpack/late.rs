//! What is set on directories when nothing more is put into them: a list of any length, in memory as long as it is short,
//! then in files that have no name.
//!
//! The deepest come first, because a mode may keep us from entering. For that a long list is written once more, each depth
//! to a part of its own whose length is known by then; in such a part what came later stands later.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use crate::image::disk::nameless;

/// What a directory takes in memory besides its bytes: the map doubles, and has both of its sizes meanwhile.
const EACH: usize = 256;
/// How much of a file is read or written at once.
const BUFFER: usize = 64 << 10;

/// A directory's mode, time and default ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) path: Vec<u8>,
    pub(super) inode: u64,
    pub(super) mode: Mode,
    pub(super) time: Option<TimeSpec>,
    pub(super) default_acl: Option<Vec<u8>>,
}

/// All directories of a tree, of each what was said last.
#[derive(Debug, Default)]
pub(super) struct LateList {
    /// By inode number: a directory that was replaced by another is found out by it.
    few: HashMap<u64, Late>,
    /// What these take, and may take.
    size: usize,
    room: usize,
    many: Option<Many>,
}

/// Directories in a file, in the order in which they came.
#[derive(Debug)]
struct Many {
    file: BufWriter<File>,
    /// How many bytes there are of each depth.
    depths: Vec<u64>,
}

impl Late {
    /// How deep it is below the root, which is 0.
    fn depth(&self) -> usize {
        match self.path.as_slice() {
            b"" => 0,
            path => 1 + path.iter().filter(|byte| **byte == b'/').count(),
        }
    }

    fn size(&self) -> usize {
        EACH + self.path.len() + self.default_acl.as_ref().map_or(0, Vec::len)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (seconds, nanoseconds) = self
            .time
            .map_or((0, NO_TIME), |time| (time.tv_sec(), time.tv_nsec()));
        let acl = self.default_acl.as_deref();
        let numbers = [
            self.inode.cast_signed(),
            self.mode.bits().into(),
            seconds,
            nanoseconds,
            length(&self.path),
            acl.map_or(NO_ACL, length),
        ];
        out.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        out.extend_from_slice(&self.path);
        out.extend_from_slice(acl.unwrap_or_default());
    }

    /// The next one of a file; nothing at its end.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            *number = i64::from_ne_bytes(bytes);
        }
        let [inode, mode, seconds, nanoseconds, path, acl] = numbers;
        let mut bytes = |length: i64| {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            from.read_exact(&mut bytes).map(|()| bytes)
        };
        Ok(Some(Self {
            inode: inode.cast_unsigned(),
            mode: Mode::from_bits_truncate(mode.try_into().unwrap_or(0)),
            time: (nanoseconds != NO_TIME).then(|| TimeSpec::new(seconds, nanoseconds)),
            path: bytes(path)?,
            default_acl: (acl != NO_ACL).then(|| bytes(acl)).transpose()?,
        }))
    }
}

/// How many numbers begin a directory in a file, and what stands for those that there are not.
const NUMBERS: usize = 6;
const NO_TIME: i64 = -1;
const NO_ACL: i64 = -1;

fn length(bytes: &[u8]) -> i64 {
    bytes.len().try_into().unwrap_or(i64::MAX)
}

impl LateList {
    /// The root alone; so many bytes of memory are theirs.
    pub(super) fn new(root: Late, room: usize) -> Self {
        Self {
            few: HashMap::from([(root.inode, root)]),
            room,
            ..Self::default()
        }
    }

    /// Adds a directory, or what is now to be set on it. The file, where one is needed, is made in `place`.
    pub(super) fn insert(&mut self, late: Late, place: BorrowedFd<'_>) -> io::Result<()> {
        self.size += late.size();
        self.few.insert(late.inode, late);
        if self.size <= self.room {
            return Ok(());
        }
        self.write_few(place)
    }

    fn write_few(&mut self, place: BorrowedFd<'_>) -> io::Result<()> {
        let many = match &mut self.many {
            Some(many) => many,
            none => none.insert(Many {
                file: BufWriter::with_capacity(BUFFER, new_file(place)?),
                depths: Vec::new(),
            }),
        };
        let mut bytes = Vec::new();
        for (_, late) in self.few.drain() {
            bytes.clear();
            late.write(&mut bytes);
            let depth = late.depth();
            if many.depths.len() <= depth {
                many.depths.resize(depth + 1, 0);
            }
            many.depths[depth] += bytes.len() as u64;
            many.file.write_all(&bytes)?;
        }
        self.size = 0;
        Ok(())
    }

    /// Hands all to `each`, the deepest first, the root last, and with each whether it may have come before.
    pub(super) fn each<E>(
        mut self,
        place: BorrowedFd<'_>,
        failed: impl Fn(&io::Error) -> E,
        mut each: impl FnMut(Late, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.many.is_none() {
            let mut few: Vec<Late> = self.few.into_values().collect();
            few.sort_by_key(|late| std::cmp::Reverse(late.depth()));
            return few.into_iter().try_for_each(|late| each(late, false));
        }
        self.write_few(place).map_err(|error| failed(&error))?;
        let Some(many) = self.many else { return Ok(()) };
        let sorted = many.sorted(place).map_err(|error| failed(&error))?;
        let mut sorted = BufReader::with_capacity(BUFFER, sorted);
        while let Some(late) = Late::read(&mut sorted).map_err(|error| failed(&error))? {
            each(late, true)?;
        }
        Ok(())
    }
}

impl Many {
    /// The same in another file, the deepest first.
    fn sorted(self, place: BorrowedFd<'_>) -> io::Result<File> {
        let mut end = 0;
        let mut next: Vec<u64> = self
            .depths
            .iter()
            .rev()
            .map(|length| {
                end += length;
                end - length
            })
            .collect();
        next.reverse();
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let mut from = BufReader::with_capacity(BUFFER, file);
        let to = new_file(place)?;
        let mut bytes = Vec::new();
        while let Some(late) = Late::read(&mut from)? {
            bytes.clear();
            late.write(&mut bytes);
            let next = next
                .get_mut(late.depth())
                .ok_or(io::ErrorKind::InvalidData)?;
            to.write_all_at(&bytes, *next)?;
            *next += bytes.len() as u64;
        }
        Ok(to)
    }
}

fn new_file(place: BorrowedFd<'_>) -> io::Result<File> {
    let random = RandomState::new().hash_one("late");
    Ok(nameless(place, &format!(".late-{random:016x}"))?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// One of many, with or without each of what there may be.
    fn late(inode: u64) -> Late {
        let some = |of: u64| inode.is_multiple_of(of);
        let depth = [some(2), some(3), some(5)].map(usize::from).iter().sum();
        let path = vec![inode.to_string(); depth].join("/");
        Late {
            path: path.into_bytes(),
            inode,
            mode: if some(7) {
                Mode::S_IRUSR
            } else {
                Mode::S_ISUID
            },
            time: some(4).then(|| TimeSpec::new(-5, inode.cast_signed())),
            default_acl: some(11).then(|| vec![1; depth]),
        }
    }

    #[test]
    fn in_memory_and_in_files_it_is_the_same_list() {
        const COUNT: u64 = 2000;
        let place = File::open(std::env::temp_dir()).unwrap();
        for room in [0, 40 * EACH, usize::MAX] {
            let mut list = LateList::new(late(0), room);
            let again = |inode| Late {
                mode: Mode::S_IRWXU,
                ..late(inode)
            };
            for late in (1..COUNT).map(late).chain((0..COUNT).step_by(9).map(again)) {
                list.insert(late, place.as_fd()).unwrap();
            }
            let mut found = HashMap::new();
            let mut last = usize::MAX;
            let each = |late: Late, may_repeat| {
                assert_eq!(may_repeat, room != usize::MAX);
                assert!(late.depth() <= last);
                last = late.depth();
                found.insert(late.inode, late);
                Ok(())
            };
            list.each(place.as_fd(), ToString::to_string, each).unwrap();
            for inode in 0..COUNT {
                let expected = if inode.is_multiple_of(9) {
                    again(inode)
                } else {
                    late(inode)
                };
                assert_eq!(found.remove(&inode), Some(expected));
            }
            assert!(found.is_empty() && last == 0);
        }
    }
}
