//! The leader of a root filesystem: PID 1 of its container. Recorded by launch, found by exec, stopped by a second
//! launch and by destroy-fs.
//!
//! A record is a file of `STATE/leaders`, named after the root filesystem's path and locked (flock(2)) by the launch
//! for as long as it lives, so "is there a launch" has an answer that no SIGKILL can falsify. What stands in it is only
//! a claim: a process counts as the leader when its start time and the boot id agree, and is then held by a pidfd.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shim::exec::Leader;
use shim::plan::{IdMaps, IdRange, Launch, Namespaces, Privileges, Program};
use shim::sys::pidfd;
use shim::{Error, Result, RootDir, own_userns};

use crate::granted::{self, Granted};
use crate::rootless;

/// How long a container may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the rest may take after SIGKILL: the kernel ends the processes, the shim unmounts.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How long exec waits for a leader when no launch is under way: it may just have been spawned.
const APPEARANCE: Duration = Duration::from_secs(2);
/// The same while a launch holds the record.
const LAUNCHING: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);
/// No record is longer.
const RECORD_MAX: u64 = 4096;

/// A process, by what cannot be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// In clock ticks since boot: field 22 of proc_pid_stat(5).
    start_time: u64,
}

impl Identity {
    fn of(pid: i32) -> Option<Self> {
        let start_time = procfs::process::Process::new(pid)
            .ok()?
            .stat()
            .ok()?
            .starttime;
        Some(Self { pid, start_time })
    }

    /// A handle to the process, if it is still the one that was meant and has not ended.
    fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd::open(Pid::from_raw(self.pid)).ok()?;
        // Compared after the handle was taken: if it agrees now, the handle refers to it.
        (Self::of(self.pid) == Some(self) && !has_ended(&pidfd, Duration::ZERO)).then_some(pidfd)
    }
}

/// What launch writes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    /// For people who look: the file's name is only a digest of it.
    rootfs: String,
    /// The launch process itself.
    shim: Identity,
    /// PID 1, once it stands in its own tree.
    leader: Option<Identity>,
    /// The namespaces it has of its own.
    namespaces: Vec<String>,
    /// Whether it is our init, which reaps.
    reaps: bool,
    /// Whether the launch stands in a user and a mount namespace of its own, as it does without root: only there the
    /// root filesystem is to be seen.
    #[serde(default)]
    own_view: bool,
    /// What its processes may do; none until there is a leader.
    granted: Option<Granted>,
}

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
        let read = |name: &str| -> Option<Vec<IdRange>> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
            text.lines().map(IdRange::from_line).collect()
        };
        let (users, groups) = (read("uid_map")?, read("gid_map")?);
        // The number was the container's for as long as the handle says that it lives.
        self.pid().map(|_| IdMaps { users, groups })
    }
}

/// The right to be the one launch of a root filesystem; the record goes when it is dropped.
#[derive(Debug)]
pub struct Claim {
    file: Flock<File>,
    path: PathBuf,
    record: Record,
    /// Whether another container had to be stopped for it.
    pub replaced: bool,
}

impl Claim {
    /// Writes down that `pid` is the leader now, as `plan` has it.
    ///
    /// # Errors
    /// ENOSPC and the like.
    pub fn publish(&mut self, pid: Pid, plan: &Launch) -> Result<()> {
        self.record.leader = Identity::of(pid.as_raw());
        self.record.namespaces = plan.namespaces.names().map(str::to_owned).collect();
        self.record.reaps = !matches!(plan.program, Program::Command(_));
        self.record.granted = Some(Granted::of(plan));
        granted::write(&self.path, plan).map_err(|error| self.cannot_write(&error))?;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let write = || {
            let bytes = serde_json::to_vec(&self.record)?;
            let mut file: &File = &self.file;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes)?;
            file.set_len(bytes.len() as u64)
        };
        write().map_err(|error| self.cannot_write(&error))
    }

    fn cannot_write(&self, error: &std::io::Error) -> Error {
        Error::io("write the leader record", self.path.display(), error)
            .hint("see --state; the directory may be full")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is held, so that nobody else's record goes. A failure leaves a record that nobody believes.
        let _ = granted::remove(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn record_path(state: &Path, rootfs: &Path) -> PathBuf {
    let digest = Sha256::digest(rootfs.as_os_str().as_bytes());
    let name: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    state.join("leaders").join(name)
}

fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(PATH)
        .map(|text| text.trim().to_owned())
        .map_err(|error| Error::io("read", PATH, &error).hint("/proc must be mounted"))
}

/// Makes the caller the one launch of `rootfs` (an absolute path without symlinks). A container that runs there is
/// stopped first: SIGTERM, and SIGKILL after 3 s. `own_view`: the caller has entered namespaces of its own.
///
/// # Errors
/// Names the state directory where it cannot be written, and a launch that does not end.
pub fn claim(state: &Path, rootfs: &Path, own_view: bool) -> Result<Claim> {
    let path = record_path(state, rootfs);
    let cannot = |error: &std::io::Error| {
        let error = Error::io("make the leader record", path.display(), error);
        let hint = match error.raw_errno() {
            Some(Errno::EACCES | Errno::EPERM) => "start-container needs root here; see --state",
            _ => "--state must be a directory that can be written to",
        };
        error.hint(hint)
    };
    let directory = state.join("leaders");
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|error| cannot(&error))?;
    let boot_id = boot_id()?;
    let own = Identity::of(nix::unistd::getpid().as_raw()).ok_or_else(|| {
        Error::new("read")
            .on("/proc/self/stat")
            .hint("/proc must be mounted")
    })?;

    let mut stopping = Stopping::default();
    loop {
        let mut options = std::fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(|error| cannot(&error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) if is_still_at(&file, &path) => {
                let left = read_record(&file).and_then(|record| live(&record, &boot_id));
                let record = Record {
                    boot_id,
                    rootfs: rootfs.to_string_lossy().into_owned(),
                    shim: own,
                    leader: None,
                    namespaces: Vec::new(),
                    reaps: false,
                    own_view,
                    granted: None,
                };
                let mut claim = Claim {
                    file,
                    path,
                    record,
                    replaced: stopping.started.is_some(),
                };
                // A container whose launch was killed dies with it; its last moments are waited for.
                if let Some((pidfd, _)) = left {
                    let _ = pidfd::send_signal(&pidfd, nix::libc::SIGKILL);
                    wait_for_end(&pidfd, rootfs)?;
                }
                claim.write()?;
                return Ok(claim);
            }
            // The holder has just removed it: the next look finds a new file.
            Ok(_) => {}
            Err((file, Errno::EWOULDBLOCK)) => {
                stopping.press(read_record(&file).as_ref(), &boot_id, rootfs)?
            }
            Err((_, errno)) => return Err(cannot(&std::io::Error::from(errno))),
        }
    }
}

/// Stops the container of `rootfs`, if there is one, and takes away its record. The directory itself may be gone.
///
/// # Errors
/// As [`claim`].
pub fn stop(state: &Path, rootfs: &Path) -> Result<()> {
    // launch names its record after the path without symlinks.
    let resolved = match (
        rootfs.parent().map(std::fs::canonicalize),
        rootfs.file_name(),
    ) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => rootfs.to_owned(),
    };
    if record_path(state, &resolved).try_exists().unwrap_or(true) {
        claim(state, &resolved, false).map(drop)
    } else {
        Ok(())
    }
}

/// How far the stopping of a running container has got.
#[derive(Debug, Default)]
struct Stopping {
    started: Option<Instant>,
    /// The launch that has been asked to end. With several launches at once another may hold the record by now, whose
    /// container has the same right to end by itself.
    asked: Option<Identity>,
    killed: bool,
}

impl Stopping {
    /// One more step towards the end of the launch that holds the record, and a pause.
    fn press(&mut self, record: Option<&Record>, boot_id: &str, rootfs: &Path) -> Result<()> {
        // A launch that has only just got the record may not have written anything yet.
        let record = record.filter(|record| record.boot_id == boot_id);
        let holder = record.map(|record| record.shim);
        let shim = holder.and_then(Identity::open);
        if let Some(shim) = &shim
            && self.asked != holder
        {
            *self = Self {
                started: Some(Instant::now()),
                asked: holder,
                killed: false,
            };
            // ESRCH: it has ended meanwhile, which the lock will tell.
            let _ = pidfd::send_signal(shim, nix::libc::SIGTERM);
        }
        let since = *self.started.get_or_insert_with(Instant::now);
        if since.elapsed() > STOP_GRACE + KILL_GRACE {
            return Err(Error::new("stop the container of")
                .on(rootfs.display())
                .because("its launch does not end")
                .hint("a process may hang in the kernel: see its state with ps"));
        }
        if since.elapsed() > STOP_GRACE && !self.killed {
            self.killed = true;
            let leader = record.and_then(|record| live(record, boot_id));
            // With PID 1 the whole container ends, and then the shim. Before there is one, and where PID 1 has ids that
            // are out of reach from a user namespace of our own, the shim is all, and PID 1 dies with it.
            let victims = leader.map(|(pidfd, _)| pidfd).into_iter().chain(shim);
            for victim in victims {
                if pidfd::send_signal(&victim, nix::libc::SIGKILL).is_ok() {
                    break;
                }
            }
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let key = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => key(open) == key(named),
        _ => false,
    }
}

fn read_record(mut file: &File) -> Option<Record> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(RECORD_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The leader that a record claims, if it is true.
fn live(record: &Record, boot_id: &str) -> Option<(OwnedFd, Namespaces)> {
    if record.boot_id != boot_id {
        return None;
    }
    let namespaces = Namespaces::from_names(record.namespaces.iter().map(String::as_str))?;
    Some((record.leader?.open()?, namespaces))
}

/// Whether a process ends within `patience`; a zombie has ended.
fn has_ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    matches!(
        poll(
            &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
            timeout
        ),
        Ok(1..)
    )
}

fn wait_for_end(pidfd: &OwnedFd, rootfs: &Path) -> Result<()> {
    if has_ended(pidfd, KILL_GRACE) {
        return Ok(());
    }
    Err(Error::new("wait for the end of the container of")
        .on(rootfs.display())
        .because("its PID 1 does not end")
        .hint("a process may hang in the kernel: see its state with ps"))
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

fn open_record(path: &Path) -> Option<File> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path).ok()
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

const NO_LEADER: &str =
    "start one with: start-container subcontainer launch ROOTFS; --state must be the same for both";

/// Whether a launch holds the record.
fn is_claimed(record: Option<&File>) -> bool {
    let lock = |file: File| Flock::lock(file, FlockArg::LockSharedNonblock).is_err();
    record
        .and_then(|file| file.try_clone().ok())
        .is_some_and(lock)
}

/// Finds the running container of a root filesystem; waits for one that is being launched, and for a moment in any
/// case, because the client may have spawned launch and exec together.
///
/// # Errors
/// No container runs there, or one has not become ready in time.
pub fn find(state: &Path, rootfs: &Path) -> Result<Running> {
    let record_path = record_path(state, rootfs);
    let begun = Instant::now();
    let boot_id = boot_id()?;
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
        if let Some((pidfd, namespaces, privileges)) = found
            && let Some(Ok(procfs)) = opened.as_ref().map(shim::procfs::open)
        {
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
