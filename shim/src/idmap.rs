//! Id maps for mounts: a user namespace that exists only to carry a map from ids on disk to ids seen.
//!
//! The kernel takes such a map from a user namespace alone (`mount_setattr(2)`, MOUNT_ATTR_IDMAP), so a child is made
//! in a new one, its maps are written, the namespace is opened and the child ended. Nobody ever runs in it.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use crate::plan::IdRange;
use crate::sys::mount::{Change, clone_tree, clone_tree_with, set_attributes};
use crate::userns::Blank;
use crate::{Error, Result};

/// The kernel takes at most this many lines per map (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;

/// One line of a map: `range` ids from `from` on are seen as `to` and the following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id on disk.
    pub from: u32,
    /// First id seen through the mount.
    pub to: u32,
    /// How many ids, at least one.
    pub range: u32,
}

impl From<IdRange> for IdMap {
    /// What is in a container as `inside` is on disk as `inside`, and seen outside as `outside`.
    fn from(line: IdRange) -> Self {
        Self {
            from: line.inside,
            to: line.outside,
            range: line.count,
        }
    }
}

impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.from, self.to, self.range)
    }
}

/// Finds out whether the kernel will take the lines as one map.
///
/// # Errors
/// No line or more than 340; an empty range; a range that ends beyond 4294967294 (4294967295 is no id); two lines
/// that share an id on either side.
pub fn check(map: &[IdMap]) -> Result<()> {
    let refuse = |subject: String, why: &'static str, hint: &'static str| {
        Err(Error::new("use id map").on(subject).because(why).hint(hint))
    };
    if map.is_empty() || map.len() > MAX_LINES {
        return refuse(
            format!("{} lines", map.len()),
            "a map has between 1 and 340 lines",
            "join neighbouring ranges",
        );
    }
    for (index, line) in map.iter().enumerate() {
        if line.range == 0 {
            return refuse(
                line.to_string(),
                "the range is empty",
                "the third number counts ids; leave it out for one id",
            );
        }
        if line.from.checked_add(line.range).is_none() || line.to.checked_add(line.range).is_none()
        {
            return refuse(
                line.to_string(),
                "the range ends beyond the largest id",
                "ids end at 4294967294",
            );
        }
        for other in map.iter().take(index) {
            if overlap(line.from, line.range, other.from, other.range)
                || overlap(line.to, line.range, other.to, other.range)
            {
                return refuse(
                    format!("{other} and {line}"),
                    "the lines share an id",
                    "each id may be mapped once on either side",
                );
            }
        }
    }
    Ok(())
}

fn overlap(a: u32, a_len: u32, b: u32, b_len: u32) -> bool {
    u64::from(a) < u64::from(b) + u64::from(b_len) && u64::from(b) < u64::from(a) + u64::from(a_len)
}

/// A user namespace whose maps (users and groups alike) are `map`. It lives as long as the descriptor, or a mount
/// that uses it.
///
/// # Errors
/// As [`check`]; those of `clone3(2)` (EPERM, ENOSPC beyond `user.max_user_namespaces`) and of writing the maps (EPERM
/// where an id in `to` is not mapped in the caller's own user namespace).
pub fn user_namespace(map: &[IdMap]) -> Result<OwnedFd> {
    check(map)?;
    let failed = |errno| {
        Error::sys("make user namespace for id map", text_of(map, ","), errno).hint(
            "needs root, user namespaces (sysctl user.max_user_namespaces), and ids that the \
             caller's own user namespace has",
        )
    };
    let blank = Blank::new().map_err(failed)?;
    let lines = text_of(map, "\n");
    ["uid_map", "gid_map"]
        .into_iter()
        .try_for_each(|file| blank.write(file, &lines))
        .and_then(|()| blank.open())
        .map_err(failed)
}

/// Why there is no idmapped copy of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What `mount_setattr(2)` said.
    pub plain: Errno,
    /// What `open_tree_attr(2)` said: ENOSYS before Linux 6.15.
    pub replacing: Errno,
}

impl Refused {
    /// The one that counts: the second call says the same or less where the filesystem is to blame.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self.replacing {
            Errno::ENOSYS | Errno::EINVAL => self.plain,
            other => other,
        }
    }
}

/// A detached copy of the mount at `source` with `change`, which has an id map.
///
/// An idmapped mount does not take a second map; a copy can be made with another one instead (Linux 6.15).
///
/// # Errors
/// EINVAL where the filesystem cannot be idmapped; EPERM without CAP_SYS_ADMIN in the user namespace that owns it, and
/// before Linux 6.15 where `source` is idmapped itself.
pub fn idmapped_copy(
    source: impl AsFd,
    change: Change<'_>,
) -> std::result::Result<OwnedFd, Refused> {
    let plain = || {
        let copy = clone_tree(&source, change.recursive)?;
        set_attributes(&copy, change).map(|()| copy)
    };
    plain().or_else(|plain| {
        clone_tree_with(&source, change).map_err(|replacing| Refused { plain, replacing })
    })
}

/// Of a mount's map the kernel reads the first column, the id "inside", as the id on disk.
fn text_of(map: &[IdMap], separator: &str) -> String {
    let mut text = String::new();
    for line in map {
        if !text.is_empty() {
            text.push_str(separator);
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{} {} {}", line.from, line.to, line.range);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: u32, to: u32, range: u32) -> IdMap {
        IdMap { from, to, range }
    }

    #[test]
    fn lines_that_do_not_touch_are_taken() {
        assert!(
            check(&[
                line(0, 100, 10),
                line(10, 110, 10),
                line(4_294_967_294, 0, 1)
            ])
            .is_ok()
        );
    }

    #[test]
    fn every_kind_of_bad_line_has_a_hint() {
        let cases: [&[IdMap]; 6] = [
            &[],
            &[line(0, 0, 0)],
            &[line(u32::MAX, 0, 1)],
            &[line(0, u32::MAX - 4, 5)],
            &[line(0, 100, 10), line(9, 200, 1)],
            &[line(0, 100, 10), line(50, 109, 1)],
        ];
        for case in cases {
            let error = check(case).expect_err("refused");
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    #[test]
    fn first_column_is_the_id_on_disk() {
        assert_eq!(
            text_of(&[line(0, 5, 1), line(7, 9, 2)], "\n"),
            "0 5 1\n7 9 2"
        );
    }
}
