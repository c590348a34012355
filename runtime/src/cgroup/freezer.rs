//! Freezing: cgroup.freeze of version 2, which every cgroup of it has, else the freezer of version 1.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use shim::{Error, Result};

use super::group::{Group, Member};
use super::hierarchies::Version;

/// How long the processes may take: one in an uninterruptible sleep takes as long as that.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often they are looked at.
const INTERVAL: Duration = Duration::from_millis(2);

impl Member {
    /// Whether its processes stand still, or are about to; none where it cannot be said.
    pub(super) fn is_frozen(&self) -> Option<bool> {
        match self.place.version {
            Version::Two => Some(self.dir.read("cgroup.events").ok()?.contains("frozen 1")),
            Version::One if self.place.has("freezer") => {
                Some(self.dir.read("freezer.state").ok()?.trim() != "THAWED")
            }
            Version::One => None,
        }
    }

    fn freeze(&self, freeze: bool) -> Result<(), Errno> {
        match (self.place.version, freeze) {
            (Version::Two, true) => self.dir.write("cgroup.freeze", "1"),
            (Version::Two, false) => self.dir.write("cgroup.freeze", "0"),
            (Version::One, true) => self.dir.write("freezer.state", "FROZEN"),
            (Version::One, false) => self.dir.write("freezer.state", "THAWED"),
        }
    }

    fn has_stopped(&self) -> bool {
        match self.place.version {
            Version::Two => self.is_frozen() == Some(true),
            Version::One => {
                let state = self.dir.read("freezer.state").unwrap_or_default();
                state.trim() == "FROZEN"
            }
        }
    }
}

impl Group {
    fn freezer(&self) -> Option<&Member> {
        self.second().or_else(|| self.of("freezer"))
    }

    /// Whether its processes are frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer().and_then(Member::is_frozen) == Some(true)
    }

    /// Stops all processes, and returns when they stand still. If they do not, they run on.
    ///
    /// # Errors
    /// There is no freezer; they do not stop within ten seconds.
    pub(crate) fn freeze(&self) -> Result<()> {
        let failed = || Error::new("freeze").on(self);
        let Some(member) = self.freezer() else {
            return Err(failed()
                .because("the container has no cgroup with a freezer")
                .hint("pausing needs version 2, or the freezer of version 1"));
        };
        let end = Instant::now() + DEADLINE;
        loop {
            // Version 1 tries again whenever it is told so.
            let told = member.freeze(true);
            if let Err(errno) = told {
                return Err(failed().errno(errno));
            }
            if member.has_stopped() {
                return Ok(());
            }
            if Instant::now() > end {
                let _ = member.freeze(false);
                return Err(failed()
                    .because("its processes do not stand still within ten seconds")
                    .hint("one may hang in the kernel: see ps"));
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(crate) fn thaw(&self) -> Result<()> {
        let Some(member) = self.freezer() else {
            return Ok(());
        };
        let thawed = member.freeze(false);
        thawed.map_err(|errno| Error::sys("thaw", self, errno))
    }
}
