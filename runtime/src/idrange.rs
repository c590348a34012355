//! Decides where the ids of containers come from: the pool that private ranges are cut from, and whether a map stays
//! within what the caller has itself. Takes nothing and writes nothing; who has which range is known to
//! `rootfs::ranges`.

use shim::plan::{IdMaps, IdRange};
use shim::{Error, Result};

use crate::decimal::decimal;

/// How many ids a container gets: all that files and passwd databases of ordinary images name.
pub const SIZE: u32 = 65_536;

/// The ids that private ranges are cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The first id.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl Pool {
    /// Ids that systemd's table of users and groups leaves to everybody ("UIDs-GIDs": 0x70000000 to 0x7FFDFFFF is
    /// unused; systemd-nspawn's containers end before it, systemd-homed and signed 32 bit numbers come after).
    pub const UNUSED: Self = Self {
        start: 0x7000_0000,
        count: 0x0FFE_0000,
    };

    /// The line `containers` of `/etc/subuid`, if `/etc/subgid` has the same; else [`Pool::UNUSED`].
    #[must_use]
    pub fn of_host() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self::of_files(&read("/etc/subuid"), &read("/etc/subgid"))
    }

    fn of_files(users: &str, groups: &str) -> Self {
        let groups: Vec<_> = groups.lines().filter_map(container_line).collect();
        users
            .lines()
            .filter_map(container_line)
            .find(|pool| pool.count >= SIZE && groups.contains(pool))
            .unwrap_or(Self::UNUSED)
    }

    /// The largest part of it that the caller's own user namespace has, for users and for groups.
    ///
    /// # Errors
    /// There is no room for one range.
    pub fn within(self, own: &IdMaps) -> Result<Self> {
        let mine = IdRange::new(self.start, self.start, self.count);
        let pairs = own
            .users
            .iter()
            .flat_map(|users| own.groups.iter().map(move |groups| (users, groups)));
        let parts = pairs.filter_map(|(users, groups)| {
            common(common((mine.outside, mine.count), users)?, groups)
        });
        match parts.max_by_key(|(_, count)| *count) {
            Some((start, count)) if count >= SIZE => Ok(Self { start, count }),
            _ => Err(Error::new("find ids for")
                .on("--userns=auto")
                .because(format!(
                    "the caller's user namespace has not 65536 ids of the pool, {} to {}",
                    self.start,
                    u64::from(self.start) + u64::from(self.count) - 1
                ))
                .hint(
                    "give the surrounding container more ids (lxc.idmap, podman --uidmap and --gidmap), or name ids \
                     that it has as \"containers\" in /etc/subuid and /etc/subgid",
                )),
        }
    }

    /// How many ranges there are.
    #[must_use]
    pub fn ranges(self) -> u32 {
        self.count / SIZE
    }

    /// The first id of range `index`; it wraps around.
    #[must_use]
    pub fn start_of(self, index: u32) -> u32 {
        self.start + index % self.ranges().max(1) * SIZE
    }
}

/// `containers:START:COUNT` of subuid(5), cut where there are no more ids.
fn container_line(line: &str) -> Option<Pool> {
    let mut fields = line.trim_end().split(':');
    let (Some("containers"), Some(start), Some(count), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return None;
    };
    let start = decimal(start.as_bytes())?;
    let count = decimal(count.as_bytes())?.min(u32::MAX - start);
    Some(Pool { start, count })
}

/// What a range of the caller's ids has in common with a line of the caller's own map.
fn common((start, count): (u32, u32), line: &IdRange) -> Option<(u32, u32)> {
    let first = start.max(line.inside);
    let end = start
        .saturating_add(count)
        .min(line.inside.saturating_add(line.count));
    end.checked_sub(first)
        .filter(|count| *count > 0)
        .map(|count| (first, count))
}

/// Private ids for one container: as users and as groups the same.
#[must_use]
pub fn private(start: u32) -> IdMaps {
    of_map(&[IdRange::new(0, start, SIZE)])
}

/// One map for users and groups.
#[must_use]
pub fn of_map(map: &[IdRange]) -> IdMaps {
    IdMaps {
        users: map.to_vec(),
        groups: map.to_vec(),
    }
}

/// Finds out whether the caller has the ids that a map gives away. Each line has to lie within one line of the
/// caller's own map (user_namespaces(7)).
///
/// # Errors
/// Names the first line that does not.
pub fn check_owned(map: &[IdRange], own: &IdMaps) -> Result<()> {
    for line in map {
        for (kind, own) in [("user", &own.users), ("group", &own.groups)] {
            let whole = Some((line.outside, line.count));
            if !own
                .iter()
                .any(|own| common((line.outside, line.count), own) == whole)
            {
                return Err(Error::new("use id map")
                    .on(format!("{}:{}:{}", line.inside, line.outside, line.count))
                    .because(format!(
                        "the caller's user namespace has not all of these {kind} ids"
                    ))
                    .hint("/proc/self/uid_map and gid_map say, in the first column, which ids there are"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_the_line_that_both_files_have() {
        let pool = |start, count| Pool { start, count };
        let containers = "containers:2147483647:2147483648\n";
        for (users, groups, expected) in [
            ("", "", Pool::UNUSED),
            (containers, "", Pool::UNUSED),
            (
                containers,
                "a:1:65536\ncontainers:2147483647:2147483648",
                pool(2_147_483_647, 2_147_483_648),
            ),
            (containers, "containers:2147483647:65536\n", Pool::UNUSED),
            (
                "containers:1:5\ncontainers:7:70000\n",
                "containers:7:70000\ncontainers:1:5\n",
                pool(7, 70_000),
            ),
            (
                "containers:x:1\ncontainers\ncontainers:1:2:3\n",
                "",
                Pool::UNUSED,
            ),
            (
                "containers:4294900000:4294967295\n",
                "containers:4294900000:4294967295\n",
                pool(4_294_900_000, 67_295),
            ),
        ] {
            assert_eq!(Pool::of_files(users, groups), expected, "{users:?}");
        }
    }

    #[test]
    fn the_unused_pool_is_what_systemd_leaves() {
        let end = Pool::UNUSED.start + Pool::UNUSED.count - 1;
        assert_eq!((Pool::UNUSED.start, end), (1_879_048_192, 2_147_352_575));
        assert_eq!(Pool::UNUSED.ranges(), 4094);
        let last = Pool::UNUSED.start_of(4093);
        assert_eq!(last + SIZE - 1, end);
        assert_eq!(Pool::UNUSED.start_of(4094), Pool::UNUSED.start);
    }

    #[test]
    fn the_pool_is_cut_to_what_the_caller_has() {
        let pool = Pool {
            start: 100_000,
            count: 10 * SIZE,
        };
        let own = |users: &[IdRange], groups: &[IdRange]| IdMaps {
            users: users.to_vec(),
            groups: groups.to_vec(),
        };
        let all = [IdRange::new(0, 0, u32::MAX)];
        assert_eq!(pool.within(&own(&all, &all)), Ok(pool));
        let most = [
            IdRange::new(0, 500_000, 300_000),
            IdRange::new(300_000, 0, 5),
        ];
        let cut = Pool {
            start: 100_000,
            count: 200_000,
        };
        assert_eq!(pool.within(&own(&all, &most)), Ok(cut));
        assert_eq!(pool.within(&own(&most, &all)), Ok(cut));
        for small in [
            &[IdRange::new(0, 100_000, SIZE)][..],
            &[IdRange::new(0, 0, 165_535)],
            &[],
        ] {
            let error = pool.within(&own(&all, small)).unwrap_err().to_string();
            assert!(error.contains("100000 to 755359"), "{error}");
            assert!(error.contains("lxc.idmap"), "{error}");
        }
    }

    #[test]
    fn a_map_may_give_away_only_what_the_caller_has() {
        let own = IdMaps {
            users: vec![
                IdRange::new(0, 100_000, 1000),
                IdRange::new(1000, 300_000, 1000),
            ],
            groups: vec![IdRange::new(0, 100_000, 2000)],
        };
        assert_eq!(check_owned(&[IdRange::new(0, 0, 1000)], &own), Ok(()));
        assert_eq!(
            check_owned(&[IdRange::new(0, 1999, 1), IdRange::new(1, 0, 5)], &own),
            Ok(())
        );
        for (map, named) in [
            (
                vec![IdRange::new(0, 0, 1), IdRange::new(1, 2000, 1)],
                "1:2000:1",
            ),
            (vec![IdRange::new(0, 999, 2)], "0:999:2"),
            (vec![IdRange::new(0, 100_000, 1)], "0:100000:1"),
            (vec![IdRange::new(0, 0, u32::MAX)], "0:0:4294967295"),
        ] {
            let error = check_owned(&map, &own).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{named}\"")), "{error}");
        }
        let fewer_groups = IdMaps {
            groups: vec![IdRange::new(0, 100_000, 10)],
            ..own
        };
        assert_eq!(
            check_owned(&[IdRange::new(0, 0, 10)], &fewer_groups),
            Ok(())
        );
        let error = check_owned(&[IdRange::new(0, 5, 10)], &fewer_groups).unwrap_err();
        assert!(error.to_string().contains("group ids"), "{error}");
    }
}
