//! Reads what /etc/subuid or /etc/subgid grants to a user: lines `NAME-OR-UID:FIRST:COUNT`, subuid(5).
//!
//! newuidmap(1) judges by the same files; reading them strictly here makes a mistake an error that names the line, and
//! not "newuidmap failed". What a directory service grants (`subid:` in nsswitch.conf) is not looked at.

use std::path::Path;

use shim::Error;
use shim::plan::IdRange;

use crate::decimal::decimal;
use crate::regular::Source;
use crate::suggest::shown;

/// Largest file, in bytes: some ten thousand users.
const LIMIT: u64 = 1 << 20;
/// The kernel takes 340 lines per map, and the first is the user's own id.
const RANGES_MAX: usize = 339;

/// The file's name, and whose lines are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subids<'a> {
    /// `/etc/subuid` or `/etc/subgid`.
    pub(super) path: &'a Path,
    /// Both files go by the user, also that of groups.
    pub(super) name: Option<&'a str>,
    /// The same.
    pub(super) uid: u32,
    /// The id that becomes 0: the user's own uid or gid.
    pub(super) own: u32,
}

impl Subids<'_> {
    /// The whole map: the own id as 0, and what is granted from 1 on, in the order of the file. None: nothing is
    /// granted, or there is no file.
    ///
    /// # Errors
    /// A file that is no regular file of at most 1 MiB; a line of the user's that is malformed, empty, reaches beyond
    /// the ids, grants the own id, or overlaps another; more than 339 lines, or more ids than there are.
    pub(super) fn map(self) -> shim::Result<Option<Vec<IdRange>>> {
        let source = Source {
            op: "read granted ids",
            name: self.path,
            limit: LIMIT,
        };
        let Ok(seen) = source.look() else {
            return Ok(None);
        };
        self.parse(&source.read(source.open(&seen)?)?)
    }

    fn parse(self, text: &[u8]) -> shim::Result<Option<Vec<IdRange>>> {
        let mut map = vec![IdRange::new(0, self.own, 1)];
        let mut inside: u32 = 1;
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let mut fields = line.split(|byte| *byte == b':');
            if !fields.next().is_some_and(|owner| self.is(owner)) {
                continue;
            }
            let refuse = |why: &str| {
                let text = shown(std::os::unix::ffi::OsStrExt::from_bytes(line));
                Err(Error::new("read granted ids")
                    .on(self.path.display())
                    .flags(format!("line {number}"))
                    .because(format!("\"{text}\" {why}"))
                    .hint("a line is NAME:FIRST:COUNT, and grants ids that nobody else has; root can correct it"))
            };
            let numbers: Option<Vec<u32>> = fields.map(decimal).collect();
            let Some([outside, count]) = numbers.as_deref() else {
                return refuse("is no such line");
            };
            let (outside, count) = (*outside, *count);
            // (uid_t)-1 is no id.
            if count == 0 || outside.checked_add(count).is_none() {
                return refuse("grants no ids, or some beyond 4294967294");
            }
            let overlaps = |other: &IdRange| {
                outside < other.outside + other.count && other.outside < outside + count
            };
            if map.iter().any(overlaps) {
                return refuse("grants an id that the user has already");
            }
            let Some(next) = inside
                .checked_add(count)
                .filter(|_| map.len() <= RANGES_MAX)
            else {
                return refuse("is one too many");
            };
            map.push(IdRange::new(inside, outside, count));
            inside = next;
        }
        Ok((map.len() > 1).then_some(map))
    }

    fn is(self, owner: &[u8]) -> bool {
        let by_name = self.name.is_some_and(|name| name.as_bytes() == owner);
        by_name || decimal(owner) == Some(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> shim::Result<Option<Vec<IdRange>>> {
        let subids = Subids {
            path: Path::new("/etc/subuid"),
            name: Some("ann"),
            uid: 1000,
            own: 1000,
        };
        subids.parse(text.as_bytes())
    }

    #[test]
    fn own_id_first_then_what_is_granted_by_name_and_by_number() {
        let text = "bob:100000:65536\nann:165536:65536\n1000:300000:10\n# ann:1:1\n";
        let expected = [
            IdRange::new(0, 1000, 1),
            IdRange::new(1, 165_536, 65_536),
            IdRange::new(65_537, 300_000, 10),
        ];
        assert_eq!(map(text).expect("map"), Some(expected.to_vec()));
    }

    #[test]
    fn nobody_elses_line_matters() {
        assert_eq!(map("").expect("empty"), None);
        assert_eq!(
            map("anna:1:1\nan:1:1\n01000:1:1\nbob:x:\n:::\n\n").expect("others"),
            None
        );
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_named() {
        for (text, why) in [
            ("ann:100000", "is no such line"),
            ("ann:100000:", "is no such line"),
            ("ann:0x10:5", "is no such line"),
            ("ann:-1:5", "is no such line"),
            ("ann:100000:65536:x", "is no such line"),
            ("ann:100000:0", "grants no ids"),
            ("ann:4294967294:2", "beyond 4294967294"),
            ("ann:999:2", "already"),
            ("ann:5000:10\nann:5009:1", "already"),
        ] {
            let error = map(&format!("bob:1:1\n{text}\n"))
                .expect_err("refused")
                .to_string();
            assert!(
                error.contains(why) && error.contains("(line "),
                "{text}: {error}"
            );
            assert!(error.contains("hint: "), "{error}");
        }
        let many: String = (0..340)
            .map(|n| format!("ann:{}:1\n", 5000 + 2 * n))
            .collect();
        let error = map(&many).expect_err("refused").to_string();
        assert!(
            error.contains("line 340") && error.contains("one too many"),
            "{error}"
        );
    }

    #[test]
    fn ids_do_not_overflow_inside() {
        let found = map(
            "ann:2000:4294960000\nann:4294962000:5000\nann:1001:900\nann:1:990\nann:4294967000:290\nann:1901:90\n",
        );
        // All of them together still fit: what is outside does not overlap, so it cannot be more than there is.
        assert!(found.is_ok(), "{found:?}");
    }
}
