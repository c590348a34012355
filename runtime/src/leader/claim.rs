//! The right to launch: taken by launch, which stops a container that is there already, and by destroy-fs to stop it.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;
use shim::plan::{Launch, Program};
use shim::sys::pidfd;
use shim::{Error, Result};

use super::PAUSE;
use super::granted::{self, Granted};
use super::record::{Record, live, read_record, record_path};
use crate::identity::{Identity, boot_id, has_ended};

/// How long a container may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the rest may take after SIGKILL: the kernel ends the processes, the shim unmounts.
const KILL_GRACE: Duration = Duration::from_secs(10);

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
        self.record.reaps = matches!(plan.program, Program::Idle | Program::Init(_));
        self.record.granted = Some(Granted::of(plan));
        granted::write(&self.path, plan).map_err(|error| self.cannot_write(&error))?;
        self.write()
    }

    /// Writes down that the leader's procfs is at ROOTFS/proc.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn shown(&mut self) -> Result<()> {
        self.record.shown = true;
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
    let own = Identity::own()?;

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
                    shown: false,
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

fn wait_for_end(pidfd: &OwnedFd, rootfs: &Path) -> Result<()> {
    if has_ended(pidfd, KILL_GRACE) {
        return Ok(());
    }
    Err(Error::new("wait for the end of the container of")
        .on(rootfs.display())
        .because("its PID 1 does not end")
        .hint("a process may hang in the kernel: see its state with ps"))
}
