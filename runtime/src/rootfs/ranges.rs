//! Who has which range of ids: `STATE/ranges/START` is a directory, and the name of the one file in it is the GUID.
//!
//! A range is taken by renaming a directory, which has the file already, to that name. rename(2) replaces nothing but
//! an empty directory, so a range has one owner at any moment, and nobody ever waits for a lock. The owner's record is
//! written before and removed after: a range whose owner has no record is nobody's.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use shim::plan::IdMaps;
use shim::{Error, Result};

use super::{Places, errno_of, journal};
use crate::idrange::{self, Pool};

/// Takes a range for `places`, whose record exists already.
///
/// # Errors
/// All ranges are taken; the state directory cannot be written.
pub(super) fn claim(places: &Places, pool: Pool) -> Result<IdMaps> {
    journal::make_private(&places.ranges)?;
    let mine = candidate(places);
    let failed = |error: &std::io::Error| {
        Error::io("write id range", mine.display(), error).hint("check --state and its space")
    };
    let owner = mine.join(&places.guid);
    DirBuilder::new()
        .mode(0o700)
        .create(&mine)
        .and_then(|()| {
            let mut new = OpenOptions::new();
            new.write(true).create_new(true).mode(0o600).open(&owner)
        })
        .map_err(|error| failed(&error))?;
    let taken = match take_free(places, pool, &mine).map_err(|error| failed(&error))? {
        None => {
            sweep(places).map_err(|error| failed(&error))?;
            take_free(places, pool, &mine).map_err(|error| failed(&error))?
        }
        taken => taken,
    };
    taken.map(idrange::private).ok_or_else(|| {
        Error::new("find ids for")
            .on("--userns=auto")
            .because(format!(
                "all {} ranges from {} on are taken",
                pool.ranges(),
                pool.start
            ))
            .hint("destroy-fs what is no longer used")
    })
}

/// Where a range directory is made before it gets its name.
fn candidate(places: &Places) -> PathBuf {
    places.ranges.join(format!(".{}", places.guid))
}

/// Looks for a free range, from one on that the GUID decides, so that there is rarely more than one to look at.
fn take_free(places: &Places, pool: Pool, mine: &Path) -> std::io::Result<Option<u32>> {
    let first = places.guid.get(..8).unwrap_or_default();
    let first = u32::from_str_radix(first, 16).unwrap_or_default() % pool.ranges().max(1);
    for index in 0..pool.ranges() {
        let start = pool.start_of(first + index);
        match std::fs::rename(mine, places.ranges.join(start.to_string())) {
            Ok(()) => return Ok(Some(start)),
            Err(error) if matches!(errno_of(&error), Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Gives back what `places` has. Having nothing is no failure.
pub(super) fn release(places: &Places) -> Result<()> {
    let failed = |error: &std::io::Error| {
        Error::io("give back id range", places.ranges.display(), error).hint("check --state")
    };
    let mine = candidate(places);
    for name in journal::list(&places.ranges).map_err(|error| failed(&error))? {
        let range = places.ranges.join(&name);
        // What is being made by somebody else has no file yet, perhaps.
        if range == mine || !name.starts_with('.') {
            free(&range, &places.guid).map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

/// Takes a range from `owner`, if it is the owner. Whoever takes it in between has a file of another name in it. One
/// that is empty is nobody's: who gave it back was killed half way.
fn free(range: &Path, owner: &str) -> std::io::Result<()> {
    let done = |result: std::io::Result<()>| match result {
        Err(error)
            if !matches!(
                errno_of(&error),
                Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    };
    done(std::fs::remove_file(range.join(owner)))?;
    done(std::fs::remove_dir(range))
}

/// Frees the ranges of owners that have no record.
fn sweep(places: &Places) -> std::io::Result<()> {
    for name in journal::list(&places.ranges)? {
        let range = places.ranges.join(name);
        for owner in journal::list(&range)? {
            if !journal::is_recorded(&places.records, &owner) {
                free(&range, &owner)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dirs;

    /// Directories of one test, with a pool of four ranges.
    struct Ground(PathBuf);

    const POOL: Pool = Pool {
        start: 1_000_000,
        count: 4 * idrange::SIZE + 5,
    };

    impl Ground {
        fn new(name: &str) -> Self {
            let ground =
                std::env::temp_dir().join(format!("rootfs-ranges-{name}-{}", std::process::id()));
            std::fs::create_dir_all(ground.join("subcontainers")).unwrap();
            Self(ground)
        }

        /// The places of a container that has a record.
        fn owner(&self, number: u32) -> Places {
            let dirs = Dirs {
                base: self.0.clone(),
                state: self.0.clone(),
                data: self.0.clone(),
            };
            let places = Places::new(&dirs, &format!("{number:032x}"));
            std::fs::write(self.record(&places), "").unwrap();
            places
        }

        fn record(&self, places: &Places) -> PathBuf {
            self.0.join("subcontainers").join(&places.guid)
        }
    }

    impl Drop for Ground {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn start(maps: &IdMaps) -> u32 {
        assert_eq!(maps.users, maps.groups);
        maps.users[0].outside
    }

    #[test]
    fn a_range_has_one_owner_until_it_is_given_back() {
        let ground = Ground::new("owner");
        let owners: Vec<_> = (0..5).map(|number| ground.owner(number)).collect();
        let mut starts: Vec<_> = owners[..4]
            .iter()
            .map(|owner| start(&claim(owner, POOL).unwrap()))
            .collect();
        starts.sort_unstable();
        assert_eq!(starts, [1_000_000, 1_065_536, 1_131_072, 1_196_608]);
        let error = claim(&owners[4], POOL).unwrap_err().to_string();
        assert!(error.contains("all 4 ranges from 1000000 on"), "{error}");
        release(&owners[4]).unwrap();
        release(&owners[2]).unwrap();
        release(&owners[2]).unwrap();
        assert_eq!(journal::list(&owners[0].ranges).unwrap().len(), 3);
        assert_eq!(start(&claim(&owners[4], POOL).unwrap()), 1_131_072);
    }

    #[test]
    fn a_range_whose_owner_has_no_record_is_taken_when_it_is_needed() {
        let ground = Ground::new("dead");
        let owners: Vec<_> = (0..5).map(|number| ground.owner(number)).collect();
        for owner in &owners[..4] {
            claim(owner, POOL).unwrap();
        }
        std::fs::remove_file(ground.record(&owners[1])).unwrap();
        // One that is still being made has a record of another name.
        let creating = owners[2]
            .records
            .join(format!("{}.creating", owners[2].guid));
        std::fs::rename(ground.record(&owners[2]), creating).unwrap();
        assert_eq!(start(&claim(&owners[4], POOL).unwrap()), 1_065_536);
    }

    #[test]
    fn what_a_killed_owner_left_half_way_is_no_obstacle() {
        let ground = Ground::new("half");
        let (one, two) = (ground.owner(0), ground.owner(4));
        // Killed while it gave a range back, and another while it took one.
        std::fs::create_dir_all(one.ranges.join("1000000")).unwrap();
        std::fs::create_dir_all(candidate(&one)).unwrap();
        std::fs::write(candidate(&one).join(&one.guid), "").unwrap();
        assert_eq!(start(&claim(&two, POOL).unwrap()), 1_000_000);
        std::fs::create_dir_all(one.ranges.join("1065536")).unwrap();
        // Somebody else is about to put its name into this one.
        std::fs::create_dir_all(candidate(&two)).unwrap();
        release(&one).unwrap();
        let mut left = journal::list(&one.ranges).unwrap();
        left.sort();
        assert_eq!(left, [format!(".{}", two.guid).as_str(), "1000000"]);
    }

    #[test]
    fn concurrent_owners_have_different_ranges() {
        let ground = Ground::new("race");
        let pool = Pool {
            start: 0,
            count: 8 * idrange::SIZE,
        };
        for round in 0..20 {
            let owners: Vec<_> = (0..8).map(|n| ground.owner(round * 8 + n)).collect();
            let mut starts: Vec<u32> = std::thread::scope(|scope| {
                let claims: Vec<_> = owners
                    .iter()
                    .map(|owner| scope.spawn(|| start(&claim(owner, pool).unwrap())))
                    .collect();
                claims.into_iter().map(|c| c.join().unwrap()).collect()
            });
            starts.sort_unstable();
            starts.dedup();
            assert_eq!(starts.len(), 8);
            std::thread::scope(|scope| {
                for owner in owners.iter().chain(&owners) {
                    scope.spawn(|| release(owner).unwrap());
                }
            });
        }
    }
}
