//! Applies a launch plan: the client stays in the foreground as the container's shim until PID 1 has ended.
//!
//! The order of the mounts is what makes the rest safe. The child has pivoted before its procfs appears in the host's
//! view, so whoever sees ROOTFS/proc/1 and joins finds the container's tree and never the host's.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use init::protocol::{Record, Role};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, chdir, dup2_stdin, fchdir};

use crate::ended::Ended;
use crate::error::{Error, Result, errno_of};
use crate::guard::Guard;
use crate::mounts;
use crate::plan::{IdMaps, Launch, Plan, Program};
use crate::procfs::{self, ProcfsOrigin};
use crate::rootdir::{RootDir, fd_path};
use crate::spawn::{self, Birth, Lifelines, Spawned};
use crate::stdio;
use crate::step::Step;
use crate::supervise::{Subject, Watch, failure};
use crate::sys::mount::{Change, Propagation, attach, clone_tree, set_attributes};
use crate::sys::socket;

/// How long the child may take from `clone3` to its procfs, in milliseconds: it only makes system calls, but the
/// machine may be busy with anything.
pub(crate) const SETUP_DEADLINE_MS: u16 = 30_000;

/// How far a launch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The leader, with this process id, stands in its own tree, and nobody can see it yet; what its procfs is.
    Stands(Pid, ProcfsOrigin),
    /// Its procfs is at ROOTFS/proc, and stays there until it has ended.
    Shown,
}

/// Starts the container and stays until it has ended: how it ended.
///
/// `reached` is called at each [`Moment`]; if it fails, the container is taken down again.
///
/// # Errors
/// The step that failed, with its object and a hint. Nothing of the container is left then.
pub fn launch(
    plan: &Launch,
    rootfs: RootDir,
    signals: &SignalFd,
    mut reached: impl FnMut(Moment) -> Result<()>,
) -> Result<Ended> {
    let words = Plan::Launch(plan);
    // Before anything is changed: it may well be that something is wrong with them.
    let mounts = mounts::prepare(&plan.mounts)?;
    procfs::clear(&rootfs).map_err(|errno| Step::ClearProc.failure(words, errno))?;
    let mut ground = Ground::prepare(plan, rootfs)?;
    let init = spawn::sealed_init()?;
    if plan.program == Program::Idle {
        leave_stdin()?;
    }
    let owner = plan
        .program
        .process()
        .map_or((0, 0), |process| (process.uid, process.gid));
    let owner = match &plan.id_maps {
        None => owner,
        // Ids that are not mapped fail in init, which names them.
        Some(maps) => maps.outside(owner.0, owner.1).unwrap_or_default(),
    };
    let stdio = stdio::open(&plan.stdio, owner)?;

    let role = match &plan.program {
        Program::Idle => Role::Idle,
        Program::Command(_) | Program::Held(_) => Role::Run,
        Program::Init(_) => Role::Supervise,
    };
    // The kernel moves the child's working directory into its copy of the mount table, so this is how the child gets
    // at ROOTFS there without a path.
    fchdir(ground.rootfs.as_fd()).map_err(|errno| Step::Clone.failure(words, errno))?;
    let spawned = spawn::spawn(
        words,
        role,
        &stdio,
        &Lifelines::default(),
        Some(&mounts),
        Birth::New {
            cgroup: None,
            joined: &[],
        },
        &init,
    );
    // Staying there would keep ROOTFS busy for whoever wants to unmount it.
    chdir(c"/").map_err(|errno| Step::Clone.failure(words, errno))?;
    let spawned = spawned?;
    // The child has its own.
    drop(mounts);
    let pid = spawned
        .child
        .ok_or_else(|| Step::Clone.failure(words, Errno::ECHILD))?;
    let relay = stdio.into_relay()?;

    if let Some(maps) = &plan.id_maps {
        write_id_maps(pid, maps).map_err(|errno| Step::WriteIdMap.failure(words, errno))?;
        proceed(words, &spawned)?;
    }
    let (mount, origin) = receive_procfs(words, &spawned)?;
    reached(Moment::Stands(pid, origin))?;
    ground.attach_procfs(words, mount)?;
    reached(Moment::Shown)?;
    let guard = match plan.program {
        Program::Command(_) => Some(
            Guard::start(spawned.pidfd.as_fd())
                .map_err(|errno| Step::DieWithClient.failure(words, errno))?,
        ),
        Program::Idle | Program::Init(_) | Program::Held(_) => None,
    };
    proceed(words, &spawned)?;

    let subject = match plan.program {
        Program::Command(_) | Program::Held(_) => Subject::ImmunePid1(pid),
        Program::Idle | Program::Init(_) => Subject::Init,
    };
    let ended = Watch {
        plan: words,
        spawned,
        relay,
        signals,
        subject,
        liveness: None,
    }
    .run();
    drop(guard);
    ended
}

/// Replaces our own stdin, which an idle leader inherits, by /dev/null: what the caller types or sends is not for it.
fn leave_stdin() -> Result<()> {
    let null = std::fs::File::open("/dev/null").map_err(|error| {
        Error::io("open", "/dev/null", &error).hint("the host needs a /dev with null in it")
    })?;
    dup2_stdin(null).map_err(|errno| Error::new("replace stdin").errno(errno))
}

/// What a launch changes in the host's mount table, undone when dropped.
struct Ground {
    rootfs: RootDir,
    procfs: Option<OwnedFd>,
    /// Where ROOTFS was bound onto itself: its parent directory and its name there.
    bound: Option<(OwnedFd, OsString)>,
}

impl Ground {
    fn prepare(plan: &Launch, rootfs: RootDir) -> Result<Self> {
        let words = Plan::Launch(plan);
        // Looked at before anything is changed; opened again when it is needed, by then perhaps on a new mount.
        proc_directory(&rootfs).map_err(|errno| Step::AttachProc.failure(words, errno))?;
        let mut ground = Self {
            rootfs,
            procfs: None,
            bound: None,
        };
        if plan.bind_rootfs {
            ground
                .bind(plan)
                .map_err(|errno| Step::BindRootfs.failure(words, errno))?;
        }
        let shared = Change {
            propagation: Some(Propagation::Shared),
            ..Change::default()
        };
        set_attributes(&ground.rootfs, shared)
            .map_err(|errno| Step::ShareRootfs.failure(words, errno))?;
        Ok(ground)
    }

    fn bind(&mut self, plan: &Launch) -> Result<(), Errno> {
        // What is bound is no mount point, so it is not `/`, and there is a parent and a name.
        let (Some(parent), Some(name)) = (plan.rootfs.parent(), plan.rootfs.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let parent = RootDir::open(parent)?.into();
        let tree = clone_tree(&self.rootfs, true)?;
        attach(&tree, &self.rootfs)?;
        self.rootfs = RootDir::from(tree);
        self.bound = Some((parent, name.to_owned()));
        Ok(())
    }

    /// Shows the procfs in the host's view; propagation carries it into the container.
    fn attach_procfs(&mut self, words: Plan<'_>, mount: OwnedFd) -> Result<()> {
        let target =
            proc_directory(&self.rootfs).map_err(|errno| Step::AttachProc.failure(words, errno))?;
        attach(&mount, &target).map_err(|errno| Step::AttachProc.failure(words, errno))?;
        self.procfs = Some(mount);
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(mount) = self.procfs.take() {
            // EINVAL: somebody has unmounted it already.
            let _ = umount2(fd_path(mount.as_fd()).as_c_str(), MntFlags::MNT_DETACH);
        }
        if let Some((parent, name)) = self.bound.take()
            && fchdir(&parent).is_ok()
        {
            // The parent stands in for our own descriptor, which would keep the mount busy.
            self.rootfs = RootDir::from(parent);
            // Not lazily: if the client has mounted something below, all stays for the next launch and destroy-fs.
            let _ = umount2(name.as_os_str(), MntFlags::UMOUNT_NOFOLLOW);
            let _ = chdir(c"/");
        }
    }
}

fn proc_directory(rootfs: &RootDir) -> Result<OwnedFd, Errno> {
    rootfs.open_plain(c"proc", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
}

pub(crate) fn write_id_maps(pid: Pid, maps: &IdMaps) -> Result<(), Errno> {
    for (name, map) in [("gid_map", &maps.groups), ("uid_map", &maps.users)] {
        let lines: String = map.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(format!("/proc/{pid}/{name}"), lines).map_err(|error| errno_of(&error))?;
    }
    Ok(())
}

/// Lets the child go on.
pub(crate) fn proceed(words: Plan<'_>, spawned: &Spawned) -> Result<()> {
    match socket::send(&spawned.report, &[1], None) {
        Ok(()) => Ok(()),
        Err(errno) => Err(told(words, spawned.report.as_fd())
            .unwrap_or_else(|| Step::Clone.failure(words, errno))),
    }
}

/// The failure that a child which is gone has left in the socket.
fn told(words: Plan<'_>, report: BorrowedFd<'_>) -> Option<Error> {
    let mut bytes = [0; Record::LENGTH];
    let (length, _) = socket::receive(report, &mut bytes).ok()?;
    failure(words, Record::from_bytes(bytes.get(..length)?)?)
}

fn receive_procfs(words: Plan<'_>, spawned: &Spawned) -> Result<(OwnedFd, ProcfsOrigin)> {
    let (byte, mount) = receive_passed(words, spawned, Step::SendProc)?;
    match ProcfsOrigin::from_byte(byte) {
        Some(origin) => Ok((mount, origin)),
        None => Err(Step::SendProc.failure(words, Errno::EBADMSG)),
    }
}

/// What a step of the child sends: a byte and a descriptor.
pub(crate) fn receive_passed(
    words: Plan<'_>,
    spawned: &Spawned,
    step: Step,
) -> Result<(u8, OwnedFd)> {
    let mut set = [PollFd::new(spawned.report.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut set, PollTimeout::from(SETUP_DEADLINE_MS)) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(step.failure(words, errno)),
            Ok(0) => {
                return Err(Error::new("wait for the new container of")
                    .on(words.rootfs().display())
                    .because(format!("nothing heard for {} s", SETUP_DEADLINE_MS / 1000))
                    .hint("the machine is overloaded, or a filesystem does not answer"));
            }
            Ok(_) => break,
        }
    }
    let mut bytes = [0; Record::LENGTH];
    let (length, passed) =
        socket::receive(&spawned.report, &mut bytes).map_err(|errno| step.failure(words, errno))?;
    match passed {
        Some(passed) => Ok((bytes[0], passed)),
        None => Err(bytes
            .get(..length)
            .and_then(Record::from_bytes)
            .and_then(|record| failure(words, record))
            .unwrap_or_else(|| step.failure(words, Errno::ECONNRESET))),
    }
}
