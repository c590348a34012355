//! Entering a user namespace of one's own, and a mount namespace in it: the way to mount and to have other ids without
//! root. Afterwards the caller is root there, and everything that root does can be done as always.
//!
//! The namespace is made around a sleeper, given its maps from outside (by newuidmap(1) and newgidmap(1), which may
//! give what /etc/subuid and /etc/subgid grant, or by the caller itself), and only then entered: a failure leaves the
//! caller where it was. The calling process must have one thread.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, fchdir};

use crate::plan::{IdMaps, IdRange};
use crate::surroundings;
use crate::sys::pidfd;
use crate::userns::Blank;
use crate::{Error, Result};

/// How long newuidmap may take, in milliseconds: it reads two files, which a directory service may provide.
const PROGRAM_DEADLINE_MS: u16 = 10_000;

/// Who writes the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// newuidmap(1) and newgidmap(1) at these paths.
    Programs {
        /// newuidmap
        users: PathBuf,
        /// newgidmap
        groups: PathBuf,
    },
    /// The caller: root, for any ids that it has; anybody, for the own ids alone.
    Caller,
}

/// The namespace to be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnUserns {
    /// Its maps; the caller's own ids must be 0 in them.
    pub maps: IdMaps,
    /// Who writes them.
    pub writer: Writer,
    /// Whether setgroups(2) works in it. The kernel wants it forbidden before somebody without privilege maps a group:
    /// who may drop a group may get what is refused to that group (user_namespaces(7)).
    pub set_groups: bool,
}

/// Enters a new user namespace and a new mount namespace in it: mounts arrive from outside, and none go there.
///
/// # Errors
/// What the machine, the surrounding container, or newuidmap refuses, with a hint that names what would allow it.
pub fn enter(wanted: &OwnUserns) -> Result<()> {
    let blank = Blank::new().map_err(cannot_make)?;
    match &wanted.writer {
        Writer::Programs { users, groups } => {
            run(users, blank.pid(), &wanted.maps.users)?;
            run(groups, blank.pid(), &wanted.maps.groups)?;
        }
        Writer::Caller => {
            if !wanted.set_groups {
                write(&blank, "setgroups", "deny")?;
            }
            write(&blank, "uid_map", &lines(&wanted.maps.users))?;
            write(&blank, "gid_map", &lines(&wanted.maps.groups))?;
        }
    }
    let namespace = blank.open().map_err(|errno| {
        Error::sys("open", "/proc/PID/ns/user", errno).hint("/proc must be mounted")
    })?;
    setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        Error::new("enter the user namespace of one's own")
            .errno(errno)
            .hint(surroundings::namespaces_hint())
    })?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| {
        Error::new("make a mount namespace in the user namespace of one's own")
            .errno(errno)
            .hint(restriction().unwrap_or_else(surroundings::namespaces_hint))
    })
}

/// Enters the user and mount namespace of a process that has called [`enter`]; needs no privilege but to be its user.
/// The working directory stays the same path.
///
/// # Errors
/// ESRCH where it has ended; EPERM where it is another user's.
pub fn join(process: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    // A mount namespace is entered at its root. Mount namespaces copy mounts and not directories, so what a relative
    // path means is found again by its name.
    let directory = nix::unistd::getcwd();
    setns(process, CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    if let Ok(directory) = directory
        && let Ok(directory) = open(&directory, flags, Mode::empty())
    {
        fchdir(directory)?;
    }
    Ok(())
}

/// The sysctl that keeps ordinary users from having user namespaces, if one is set so.
fn restriction() -> Option<String> {
    const SYSCTLS: [(&str, &str, &str); 3] = [
        (
            "user/max_user_namespaces",
            "0",
            "sysctl user.max_user_namespaces=15000",
        ),
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with \"userns\" for start-container",
        ),
    ];
    let is_set = |(file, forbidding, _): &(&str, &str, &str)| {
        std::fs::read_to_string(Path::new("/proc/sys").join(file))
            .is_ok_and(|text| text.trim() == *forbidding)
    };
    let (_, _, remedy) = SYSCTLS.into_iter().find(is_set)?;
    Some(format!(
        "this machine keeps user namespaces for root; root can allow them: {remedy}"
    ))
}

fn cannot_make(errno: Errno) -> Error {
    let error = Error::new("make a user namespace of one's own").errno(errno);
    match (errno, restriction()) {
        (_, Some(hint)) => error.hint(hint),
        (Errno::ENOSPC | Errno::EUSERS, None) => {
            error.hint("the limit of user namespaces is reached: sysctl user.max_user_namespaces; or they are nested 32 deep")
        }
        (Errno::EAGAIN, None) => error.hint("a process limit is reached: see ulimit -u"),
        _ => error.hint(surroundings::namespaces_hint()),
    }
}

fn lines(map: &[IdRange]) -> String {
    map.iter().map(|line| format!("{line}\n")).collect()
}

fn write(blank: &Blank, file: &'static str, text: &str) -> Result<()> {
    blank.write(file, text).map_err(|errno| {
        Error::sys("map ids of one's own user namespace", text.trim_end().replace('\n', ", "), errno)
            .flags(file)
            .hint(restriction().unwrap_or_else(|| {
                "root needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP over the ids; everybody may map the own id alone"
                    .to_owned()
            }))
    })
}

/// Runs `newuidmap PID INSIDE OUTSIDE COUNT …` or newgidmap.
fn run(program: &Path, pid: Pid, map: &[IdRange]) -> Result<()> {
    let words: Vec<String> = map
        .iter()
        .flat_map(|line| [line.inside, line.outside, line.count])
        .map(|number| number.to_string())
        .collect();
    let failed = || {
        Error::new("map ids of one's own user namespace")
            .on(program.display())
            .flags(words.join(" "))
    };
    let start = Command::new(program)
        .arg(pid.to_string())
        .args(&words)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = start.map_err(|error| {
        Error::io("start", program.display(), &error)
            .hint("reinstall it; Debian's package is uidmap")
    })?;
    if !ends_in_time(&child) {
        return Err(end(child, failed()));
    }
    let output = child
        .wait_with_output()
        .map_err(|error| Error::io("wait for", program.display(), &error).hint("try again"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let said = if said.is_empty() {
        output.status.to_string()
    } else {
        said.replace('\n', "; ")
    };
    Err(failed().because(said).hint(
        "the program must be set-user-ID root (or have its file capability), and /etc/subuid and /etc/subgid must grant \
         these ids to the user: root can do that with usermod --add-subuids and --add-subgids",
    ))
}

/// It may say a few lines, which the pipe has room for, so it need not be read from meanwhile.
fn ends_in_time(child: &Child) -> bool {
    let Ok(Ok(pidfd)) = i32::try_from(child.id()).map(|pid| pidfd::open(Pid::from_raw(pid))) else {
        return true;
    };
    loop {
        let mut set = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut set, PollTimeout::from(PROGRAM_DEADLINE_MS)) {
            Err(Errno::EINTR) => {}
            Ok(0) => return false,
            _ => return true,
        }
    }
}

/// Ends what took too long. It may run as root and be out of our reach; then the kernel gives it to its next parent.
fn end(mut child: Child, error: Error) -> Error {
    let _ = child.kill();
    error
        .because(format!(
            "it has not ended for {} s",
            PROGRAM_DEADLINE_MS / 1000
        ))
        .hint("a directory service that /etc/nsswitch.conf names may hang")
}
