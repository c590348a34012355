//! The end of the cgroups: what is left in them is killed, and the directories go, the innermost first.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::SIGKILL;
use shim::{Error, Result};

use super::dir::Dir;
use super::group::{Group, Member, mounted};
use super::place::{Place, Places};

/// How long the processes may take to end.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const INTERVAL: Duration = Duration::from_millis(2);

impl Group {
    /// Ends all processes, and waits for that.
    ///
    /// # Errors
    /// They do not end within ten seconds.
    pub(crate) fn end(&self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        while !self.processes().is_empty() {
            self.signal(SIGKILL)?;
            if Instant::now() > end {
                return Err(Error::new("end the processes of cgroup")
                    .on(self)
                    .because("they do not end within ten seconds")
                    .hint("one may hang in the kernel: see ps"));
            }
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }
}

impl Places {
    /// Removes those that were not there before; none is a success.
    ///
    /// # Errors
    /// One of them stays busy for ten seconds.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut group = Group::open(self);
        group
            .members
            .retain(|member| self.taken || !member.place.was_there());
        group.end()?;
        let end = Instant::now() + DEADLINE;
        for member in &group.members {
            clear(&member.dir, end).map_err(|errno| failed(member, errno))?;
        }
        // One that has been taken is known to systemd even where it has lost its cgroup.
        if let Some(scope) = &self.scope
            && (self.taken || !group.is_empty())
        {
            scope.stop()?;
        }
        for place in &self.list {
            remove(place, end).map_err(|(path, errno)| failed_at(&path, errno))?;
        }
        Ok(())
    }
}

fn failed(member: &Member, errno: Errno) -> Error {
    failed_at(&member.place.full(), errno)
}

fn failed_at(path: &Path, errno: Errno) -> Error {
    Error::sys("remove cgroup", path.display(), errno)
        .hint("it must have no processes, and nobody may hold it open for mounting")
}

/// Removes what was made; of those above the cgroup itself only what nobody else is in.
fn remove(place: &Place, end: Instant) -> Result<(), (PathBuf, Errno)> {
    let failed = |errno| (place.full(), errno);
    for (depth, (above, name)) in place.made().enumerate() {
        let above = match mounted(place).and_then(|mount| mount.open(above)) {
            // It has gone, with all that was in it.
            Err(Errno::ENOENT) => continue,
            above => above.map_err(failed)?,
        };
        if depth == 0 {
            patiently(&above, name, end).map_err(failed)?;
        } else if above.remove(name).is_err() {
            break;
        }
    }
    Ok(())
}

/// Removes what is in a cgroup.
fn clear(dir: &Dir, end: Instant) -> Result<(), Errno> {
    let names = match dir.children() {
        // It has gone meanwhile.
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(()),
        names => names?,
    };
    for name in names {
        match dir.open(Path::new(&name)) {
            Ok(inside) => clear(&inside, end)?,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(errno),
        }
        patiently(dir, &name, end)?;
    }
    Ok(())
}

/// A process that has ended is counted for a moment longer.
fn patiently(above: &Dir, name: &std::ffi::OsStr, end: Instant) -> Result<(), Errno> {
    loop {
        match above.remove(name) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < end => std::thread::sleep(INTERVAL),
            Err(errno) => return Err(errno),
        }
    }
}
