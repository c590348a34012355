//! Who is in the cgroups, and signals to all of them.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::unistd::Pid;
use shim::Result;
use shim::sys::pidfd;

use super::dir::Dir;
use super::group::Group;

impl Group {
    /// The numbers of all processes, also of those in cgroups below.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        // All of them are in each; but which hierarchy a container may have left by itself is not ours to know.
        for member in &self.members {
            collect(&member.dir, &mut found);
        }
        found
    }

    /// Sends a signal to all processes; whether there was one.
    ///
    /// # Errors
    /// Those of freezing.
    pub(crate) fn signal(&self, signal: i32) -> Result<bool> {
        let second = self.second();
        let somebody = !self.processes().is_empty();
        if signal == SIGKILL
            && let Some(member) = second
            && member.dir.write("cgroup.kill", "1").is_ok()
        {
            return Ok(somebody);
        }
        let was_frozen = self.is_frozen();
        // What stands still cannot fork away from us.
        let held = was_frozen || self.freeze().is_ok();
        let reached = self.signal_each(signal);
        if held && (!was_frozen || signal == SIGKILL) {
            self.thaw()?;
        }
        Ok(reached)
    }

    fn signal_each(&self, signal: i32) -> bool {
        let handles: Vec<(i32, OwnedFd)> = self
            .processes()
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd::open(Pid::from_raw(pid)).ok()?)))
            .collect();
        // A number that is still listed belongs to whom the handle was taken of.
        let still = self.processes();
        let mut reached = false;
        for (pid, handle) in handles {
            if still.contains(&pid) {
                reached |= pidfd::send_signal(&handle, signal) != Err(Errno::ESRCH);
            }
        }
        reached
    }
}

fn collect(dir: &Dir, found: &mut BTreeSet<i32>) {
    let text = dir.read("cgroup.procs").unwrap_or_default();
    // 0 stands for one that the caller cannot see.
    found.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for name in dir.children().unwrap_or_default() {
        if let Ok(inside) = dir.open(Path::new(&name)) {
            collect(&inside, found);
        }
    }
}
