//! What the cloned process does before it executes init.
//!
//! Everything it needs was made before `clone3`; here nothing allocates, formats, locks or returns. A step that fails
//! is reported by its index and its errno.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use init::protocol::Record;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::setrlimit;
use nix::sys::stat::Mode;
use nix::unistd::{
    Gid, Pid, Uid, chdir, fchdir, pivot_root, setgroups, sethostname, setresgid, setresuid,
};

use crate::console;
use crate::mounts::{self, Parcel, Unpacking};
use crate::plan::{Launch, Process, System};
use crate::procfs::{self, ProcfsOrigin};
use crate::shared_root::{self, Root};
use crate::step::Step;
use crate::sys::mount::{
    Change, Filesystem, Propagation, attach, attr, clone_tree, set_attributes_at,
};
use crate::sys::net;
use crate::sys::pidfd;
use crate::sys::process::{self, Vector};
use crate::sys::socket;
use crate::sys::statx::place;
use crate::views::{self, Covers};

/// What the child was given.
pub(crate) struct Child<'a> {
    /// Whether the caller's supplementary groups are dropped.
    pub(crate) set_groups: bool,
    /// The steps and their indexes in the plan.
    pub(crate) steps: &'a [(u16, Step)],
    /// The plan of a launch: the paths and the mounts that some of the steps are about.
    pub(crate) launch: Option<&'a Launch>,
    /// Whose the command's terminal is.
    pub(crate) uid: u32,
    /// The command.
    pub(crate) process: Option<&'a Process>,
    /// The root of a container that has no mount namespace of its own: attached by the first process of it, and entered by
    /// the others.
    pub(crate) root: Option<Root<'a>>,
    /// What the mounts need of the host.
    pub(crate) mounts: Option<&'a Parcel>,
    /// The client's end of the same socket, of which the fork has made a copy: as long as that is open, the death of
    /// the client is not to be noticed.
    pub(crate) client: RawFd,
    /// Both ways: a byte from the client lets the child go on; the procfs and failures go to the client.
    pub(crate) report: BorrowedFd<'a>,
    /// The sealed init.
    pub(crate) init: BorrowedFd<'a>,
    /// init's arguments.
    pub(crate) arguments: &'a Vector<'a>,
    /// The command's environment.
    pub(crate) environment: &'a Vector<'a>,
    /// Where init expects the directory of labels; -1 where there is to be none.
    pub(crate) labels: RawFd,
    /// Descriptors that init shall inherit.
    pub(crate) kept: &'a [RawFd],
}

impl Child<'_> {
    fn may_show_surroundings(&self) -> bool {
        self.launch
            .is_some_and(|launch| launch.namespaces.has_user())
    }
}

/// What one step leaves to another.
#[derive(Default)]
struct Made<'a> {
    procfs: Option<OwnedFd>,
    /// Whether that is a new one, of the new PID namespace.
    procfs_origin: ProcfsOrigin,
    covers: Covers,
    mounts: Option<Unpacking<'a>>,
}

/// Takes the steps; the last of them replaces the process.
pub(crate) fn run(child: &Child<'_>) -> ! {
    process::close(child.client);
    let mut made = Made {
        mounts: child.mounts.map(Parcel::unpack),
        ..Made::default()
    };
    for &(index, step) in child.steps {
        if let Err(errno) = take(step, child, &mut made) {
            // An errno is a small positive number.
            let errno = u16::try_from(errno as i32).unwrap_or_default();
            let record = Record::PlanFailed(index, errno).to_bytes();
            // If the client is gone there is nobody to tell.
            let _ = socket::send(child.report, &record, None);
            break;
        }
    }
    process::exit_now(i32::from(crate::error::EXIT_OWN))
}

fn take(step: Step, child: &Child<'_>, made: &mut Made<'_>) -> Result<(), Errno> {
    match step {
        Step::DieWithClient => process::die_with_parent(nix::libc::SIGKILL),
        Step::AwaitIdMap => await_client(child.report),
        Step::AwaitRecord => await_record(child),
        Step::AwaitProc => await_client(child.report).and_then(|()| made.covers.check()),
        Step::BecomeRoot => become_root(child.set_groups),
        Step::HideChild => process::hide_from_tracers(),
        Step::OwnCgroups => unshare(CloneFlags::CLONE_NEWCGROUP),
        Step::SlaveMounts => {
            let change = Change {
                propagation: Some(Propagation::Slave),
                recursive: true,
                ..Change::default()
            };
            set_attributes_at(c"/", change)
        }
        Step::MakeDevices => made.covers.make_devices(),
        Step::MakeNode(_) | Step::MakeWorkdir | Step::WriteResolvConf => make(step, child),
        Step::MakeProc => {
            let procfs = Filesystem::open(c"proc")?;
            let restricted = attr::NOSUID | attr::NODEV | attr::NOEXEC;
            made.procfs = Some(match procfs.mount(restricted) {
                // Only with ids of its own the container has no right over the processes that are shown there.
                Err(Errno::EPERM) if child.may_show_surroundings() => {
                    made.procfs_origin = ProcfsOrigin::Surroundings;
                    procfs::of_surroundings(restricted)?
                }
                other => other?,
            });
            Ok(())
        }
        Step::TakeNull => made.covers.take_null(),
        Step::OwnRootfs => {
            // The working directory is ROOTFS. What a mount namespace takes over into another user namespace is locked
            // in place (mount_namespaces(7)), and pivot_root does not move a locked mount; a copy is not locked.
            let here = open(
                c".",
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            let tree = clone_tree(&here, true)?;
            attach(&tree, &here)?;
            fchdir(&tree)
        }
        Step::AttachRoot | Step::EnterRoot => share_root(step, child),
        Step::PivotRoot => {
            // pivot_root(2): old and new root may be the same directory, the old one
            // then lies on top of the new, and nothing has to be created for it.
            pivot_root(c".", c".")?;
            umount2(c".", MntFlags::MNT_DETACH)?;
            chdir(c"/")
        }
        Step::MoveRoot => move_root(),
        Step::Mount(index) => {
            let mount = child.launch.and_then(|plan| plan.mounts.get(index));
            match (mount, &mut made.mounts) {
                (Some(mount), Some(parcel)) => mounts::attach(mount, parcel),
                _ => Err(Errno::EBADF),
            }
        }
        Step::TakeNodes => made.covers.take_nodes(),
        Step::CloseDevices => made.covers.close_devices(),
        Step::Propagate => {
            let wanted = child.launch.and_then(|launch| launch.propagation);
            let (propagation, recursive) = wanted.ok_or(Errno::EBADF)?;
            let change = Change {
                propagation: Some(propagation),
                recursive,
                ..Change::default()
            };
            set_attributes_at(c"/", change)
        }
        Step::Pause => {
            socket::send(child.report, &[1], None)?;
            await_client(child.report)
        }
        Step::OpenConsole => console::open(child.uid, child.report),
        Step::ShowConsole => console::show(),
        Step::ShowProc => made.covers.show(&mut made.procfs),
        Step::Mask(_) => made.covers.mask(path(child, step)?),
        Step::ProtectPath(_) => made.covers.make_readonly(path(child, step)?),
        Step::ProtectDev => views::make_dev_readonly(),
        Step::ProtectRoot => views::make_root_readonly(),
        Step::SendProc => {
            let procfs = made.procfs.as_ref().map(AsRawFd::as_raw_fd);
            socket::send(child.report, &[made.procfs_origin.byte()], procfs)
        }
        Step::ExecuteInit => {
            for &fd in child.kept {
                process::keep_across_exec(fd)?;
            }
            Err(process::execute(
                child.init,
                child.arguments,
                child.environment,
            ))
        }
        _ => take_of_itself(step, child, made.procfs.as_ref()),
    }
}

/// A step that makes something in the root filesystem.
fn make(step: Step, child: &Child<'_>) -> Result<(), Errno> {
    let launch = child.launch.ok_or(Errno::EBADF)?;
    match step {
        Step::MakeNode(index) => {
            mounts::make_node(launch.system.nodes.get(index).ok_or(Errno::EBADF)?)
        }
        Step::MakeWorkdir => {
            mounts::make_directory(launch.system.workdir.as_ref().ok_or(Errno::EBADF)?);
            Ok(())
        }
        _ => mounts::write_resolv_conf(launch.resolv_conf.as_deref().unwrap_or_default()),
    }
}

/// A step that changes nothing but the process itself, or a namespace of its own.
fn take_of_itself(step: Step, child: &Child<'_>, procfs: Option<&OwnedFd>) -> Result<(), Errno> {
    match step {
        Step::SetHostName => sethostname(name(child, |system| system.host_name.as_deref())?),
        Step::SetDomainName => {
            let name = name(child, |system| system.domain_name.as_deref())?;
            process::set_domain_name(name.as_bytes())
        }
        Step::RaiseLoopback => net::raise_loopback(),
        Step::SetSysctl(index) => {
            let sysctls = child.launch.map(|launch| launch.system.sysctls.as_slice());
            match (sysctls.and_then(|list| list.get(index)), procfs) {
                (Some(sysctl), Some(procfs)) => procfs::write(procfs, sysctl),
                _ => Err(Errno::EBADF),
            }
        }
        Step::SetLimit(index) => {
            let limits = child.process.map(|process| process.limits.as_slice());
            let limit = limits.and_then(|list| list.get(index));
            let limit = limit.ok_or(Errno::EBADF)?;
            setrlimit(limit.resource, limit.soft, limit.hard)
        }
        Step::SetPersonality => {
            let domain = child.process.and_then(|process| process.personality);
            process::set_personality(domain.ok_or(Errno::EBADF)?)
        }
        Step::SetMemoryPolicy => {
            let process = child.process.ok_or(Errno::EBADF)?;
            let policy = process.memory_policy.as_ref().ok_or(Errno::EBADF)?;
            process::set_memory_policy(policy.mode, &policy.nodes)
        }
        // The client's and init's steps are not in the list.
        _ => Ok(()),
    }
}

/// A step of a container that has no mount namespace of its own.
fn share_root(step: Step, child: &Child<'_>) -> Result<(), Errno> {
    let path = child
        .launch
        .and_then(|launch| launch.shared_root.as_deref());
    match (step, child.root, path) {
        (Step::AttachRoot, Some(Root::New(root)), Some(path)) => root.attach(path),
        (Step::EnterRoot, Some(Root::New(_)), _) => shared_root::enter(),
        (Step::EnterRoot, Some(Root::Joined(root)), _) => {
            fchdir(root)?;
            shared_root::enter()
        }
        _ => Err(Errno::EBADF),
    }
}

/// What switch_root(8) does. The host's tree stays below, where no path leads; but whoever could uncover it should not find
/// the host's procfs and sysfs there.
fn move_root() -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let tree = open(c".", flags, Mode::empty())?;
    for kernels in [c"/proc", c"/sys"] {
        // One may lie on another.
        loop {
            match umount2(kernels, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {}
                // Not there, no mount point; or locked, because the namespace has ids of its own.
                Err(Errno::ENOENT | Errno::EINVAL | Errno::EPERM) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    let root = open(c"/", flags, Mode::empty())?;
    attach(&tree, &root)?;
    // Joining the namespace that we are in makes its root, the topmost mount there, ours. Whoever joins later comes there, too:
    // so it must be what has just been mounted, and in a chroot of the caller's it is not.
    setns(pidfd::open(Pid::this())?, CloneFlags::CLONE_NEWNS)?;
    let root = open(c"/", flags, Mode::empty())?;
    if place(&root)?.mount_id != place(&tree)?.mount_id {
        return Err(Errno::EXDEV);
    }
    chdir(c"/")
}

fn become_root(set_groups: bool) -> Result<(), Errno> {
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    if set_groups {
        setgroups(&[])?;
    }
    setresgid(group, group, group)?;
    setresuid(root, root, root)
}

fn name<'a>(
    child: &Child<'a>,
    part: impl FnOnce(&'a System) -> Option<&'a str>,
) -> Result<&'a str, Errno> {
    let launch = child.launch.ok_or(Errno::EBADF)?;
    part(&launch.system).ok_or(Errno::EBADF)
}

/// The path that a step is about.
fn path<'a>(child: &Child<'a>, step: Step) -> Result<&'a CStr, Errno> {
    let launch = child.launch.ok_or(Errno::EBADF)?;
    launch.views.path(step).ok_or(Errno::EBADF)
}

/// The same, and takes what comes with the byte.
fn await_record(child: &Child<'_>) -> Result<(), Errno> {
    match socket::receive(child.report, &mut [0])? {
        (0, _) => Err(Errno::ECONNRESET),
        (_, Some(labels)) => process::put(&labels, child.labels),
        (_, None) => Ok(()),
    }
}

/// Waits for the client's byte. End of file: the client is dead, and so shall we be.
fn await_client(report: BorrowedFd<'_>) -> Result<(), Errno> {
    match socket::receive(report, &mut [0])? {
        (0, _) => Err(Errno::ECONNRESET),
        _ => Ok(()),
    }
}
