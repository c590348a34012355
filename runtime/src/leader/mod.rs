//! The leader of a root filesystem: PID 1 of its container. Recorded by launch, found by exec, stopped by a second
//! launch and by destroy-fs.

mod claim;
mod granted;
mod record;

pub use claim::{Claim, claim, stop};

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use shim::exec::Leader;
use shim::plan::{IdMaps, Namespaces, Privileges};
use shim::{Error, Result, RootDir, own_userns};

use self::record::{is_claimed, live, open_record, read_record, record_path};
use crate::identity::boot_id;
use crate::rootless;

/// How long exec waits for a leader when no launch is under way: it may just have been spawned.
const APPEARANCE: Duration = Duration::from_secs(2);
/// The same while a launch holds the record.
const LAUNCHING: Duration = Duration::from_secs(30);
/// How long a live leader may be without the procfs that launch has shown: the two are looked at one after the other, and a
/// container that ends loses it.
const UNSHOWN: Duration = Duration::from_millis(500);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// A running container, held by its leader.
#[derive(Debug)]
pub struct Running {
    /// PID 1 and its procfs.
    pub leader: Leader,
    /// What it has of its own.
    pub namespaces: Namespaces,
    /// What its processes may do.
    pub privileges: Privileges,
    /// The profile that it was launched with; none where the record is gone.
    pub profile: Option<String>,
}

impl Running {
    /// PID 1's number in the caller's PID namespace, as long as the process has not been reaped: the kernel keeps it
    /// beside the handle (pidfd_open(2)).
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        let number = self.leader.pidfd.as_fd().as_raw_fd();
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
        // -1 once it has been reaped, 0 where it is of another PID namespace.
        let pid = pid.trim().parse().ok().filter(|pid| *pid > 0)?;
        Some(Pid::from_raw(pid))
    }

    /// See [`Leader::id_maps`].
    fn read_id_maps(&self) -> Option<IdMaps> {
        let pid = self.pid().filter(|_| self.namespaces.has_user())?;
        let maps = IdMaps::of(pid)?;
        // The number was the container's for as long as the handle says that it lives.
        self.pid().map(|_| maps)
    }
}

/// Joins the namespaces in which the launch of `rootfs` stands, if it has some of its own: from then on the caller sees
/// the root filesystem as that launch does, and is root there. A caller without CAP_SYS_ADMIN can join no other
/// container, so with `wait` it waits for one as [`find`] does. Whether it has joined.
///
/// # Errors
/// None is there in time, or it is another user's.
pub fn join_view(state: &Path, rootfs: &Path, wait: bool) -> Result<bool> {
    // What cannot be reached is an error of whoever opens it.
    let Ok(rootfs) = std::fs::canonicalize(rootfs) else {
        return Ok(false);
    };
    let record_path = record_path(state, &rootfs);
    let begun = Instant::now();
    loop {
        let file = open_record(&record_path);
        let record = file.as_ref().and_then(read_record);
        match record.filter(|record| record.leader.is_some()) {
            Some(record) if record.own_view => {
                if record.boot_id == boot_id()?
                    && let Some(launch) = record.shim.open()
                {
                    return own_userns::join(&launch).map(|()| true).map_err(|errno| {
                        Error::sys("join the launch of", rootfs.display(), errno)
                            .hint("only the user who has launched it can")
                    });
                }
            }
            // Whether it is true is for `find` to say.
            Some(_) => return Ok(false),
            None => {}
        }
        if !wait || !rootless::is_needed()? {
            return Ok(false);
        }
        if begun.elapsed() > patience(file.as_ref()) {
            return Err(no_leader(&rootfs));
        }
        std::thread::sleep(PAUSE);
    }
}

/// How long to wait for a leader.
fn patience(record: Option<&File>) -> Duration {
    if is_claimed(record) {
        LAUNCHING
    } else {
        APPEARANCE
    }
}

fn no_leader(rootfs: &Path) -> Error {
    Error::new("find a running container in")
        .on(rootfs.display())
        .because("there is none")
        .hint(NO_LEADER)
}

/// The leader lives, and ROOTFS/proc is not the procfs that launch has attached there.
fn replaced_proc(rootfs: &Path, errno: Errno) -> Error {
    let error = Error::new("find the procfs of the container in").on(rootfs.display());
    let error = match errno {
        Errno::EINVAL => error.because("nothing that is one is mounted at its proc"),
        other => error.because("its proc has been replaced").errno(other),
    };
    error.hint("it was unmounted, or the container has moved its /proc away: launch it again")
}

const NO_LEADER: &str =
    "start one with: start-container subcontainer launch ROOTFS; --state must be the same for both";

/// Finds the running container of a root filesystem; waits for one that is being launched, and for a moment in any
/// case, because the client may have spawned launch and exec together.
///
/// # Errors
/// No container runs there, or one has not become ready in time.
pub fn find(state: &Path, rootfs: &Path) -> Result<Running> {
    let record_path = record_path(state, rootfs);
    let begun = Instant::now();
    let boot_id = boot_id()?;
    let mut unshown: Option<Instant> = None;
    loop {
        let file = open_record(&record_path);
        let record = file.as_ref().and_then(read_record);
        let mut filter_is_gone = false;
        // Opened anew every time: the launch may just have bound it onto itself, and what was opened before lies below.
        let opened = RootDir::open(rootfs).ok();
        let claimed = is_claimed(file.as_ref());
        let found = match &record {
            // A launch that was killed: its container is about to end, and whoever joined would end with it.
            Some(_) if !claimed => None,
            Some(record) => live(record, &boot_id).and_then(|(pidfd, namespaces)| {
                let privileges = record.granted.as_ref()?.privileges(&record_path);
                filter_is_gone = privileges.is_none();
                Some((pidfd, namespaces, privileges?))
            }),
            // A launch that has not written anything yet is about to end what may still be there.
            None if claimed => None,
            None => opened.as_ref().and_then(crate::discover::leader),
        };
        let procfs = opened.as_ref().map(shim::procfs::open);
        let shown = found.is_some() && record.as_ref().is_some_and(|record| record.shown);
        if let Some(Err(errno)) = &procfs
            && shown
        {
            if unshown.get_or_insert_with(Instant::now).elapsed() > UNSHOWN {
                return Err(replaced_proc(rootfs, *errno));
            }
        } else {
            unshown = None;
        }
        if let (Some((pidfd, namespaces, privileges)), Some(Ok(procfs))) = (found, procfs) {
            let reaps = record.as_ref().is_some_and(|record| record.reaps);
            let profile = record.and_then(|record| Some(record.granted?.profile));
            let mut running = Running {
                leader: Leader {
                    pidfd,
                    procfs,
                    id_maps: None,
                    reaps,
                },
                namespaces,
                privileges,
                profile,
            };
            running.leader.id_maps = running.read_id_maps();
            return Ok(running);
        }
        // It goes just before the record does, when a container ends.
        if filter_is_gone && begun.elapsed() > APPEARANCE {
            return Err(Error::new("find the seccomp filter of the container in")
                .on(rootfs.display())
                .because("it is not what launch has written into the state directory")
                .hint("without it nothing may run there: launch the container again"));
        }
        if begun.elapsed() > patience(file.as_ref()) {
            return Err(no_leader(rootfs));
        }
        std::thread::sleep(PAUSE);
    }
}
