//! Id maps of a user namespace (user_namespaces(7)).

use std::fmt;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One line of an id map, as in `/proc/PID/uid_map` (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the user namespace.
    pub inside: u32,
    /// First id in the caller's user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// Every id onto itself: the last one, (uid_t)-1, is no id.
    pub const IDENTITY: Self = Self {
        inside: 0,
        outside: 0,
        count: u32::MAX,
    };

    /// `count` ids from `inside` on, which are those from `outside` on.
    #[must_use]
    pub const fn new(inside: u32, outside: u32, count: u32) -> Self {
        Self {
            inside,
            outside,
            count,
        }
    }

    /// A line of `/proc/PID/uid_map` or `gid_map`; none for any other text.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let numbers: Vec<u32> = line
            .split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        match numbers.as_slice() {
            &[inside, outside, count] => Some(Self {
                inside,
                outside,
                count,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for IdRange {
    /// As a line of the kernel's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// The maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of user ids.
    pub users: Vec<IdRange>,
    /// Of group ids.
    pub groups: Vec<IdRange>,
}

impl IdMaps {
    /// Those of the user namespace that a process is in, as the caller sees them; none where it has ended.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Self> {
        let read = |name: &str| -> Option<Vec<IdRange>> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
            text.lines().map(IdRange::from_line).collect()
        };
        Some(Self {
            users: read("uid_map")?,
            groups: read("gid_map")?,
        })
    }

    /// What a user and a group of the container are outside of it; none where one of them is not mapped.
    #[must_use]
    pub fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let find = |map: &[IdRange], id: u32| {
            map.iter().find_map(|line| {
                let offset = id.checked_sub(line.inside)?;
                (offset < line.count).then(|| line.outside.checked_add(offset))?
            })
        };
        Some((find(&self.users, uid)?, find(&self.groups, gid)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_outside_is_found_in_the_line_that_has_it_inside() {
        let map = |text: &str| text.lines().filter_map(IdRange::from_line).collect();
        let maps = IdMaps {
            users: map("         0     100000       1000\n1000 300000 1\nno line\n1 2\n"),
            groups: map("0 500000 2000"),
        };
        assert_eq!(maps.users.len(), 2);
        assert_eq!(maps.outside(0, 0), Some((100_000, 500_000)));
        assert_eq!(maps.outside(999, 1999), Some((100_999, 501_999)));
        assert_eq!(maps.outside(1000, 7), Some((300_000, 500_007)));
        assert_eq!(maps.outside(1001, 7), None);
        assert_eq!(maps.outside(0, 2000), None);
    }
}
