//! Without root: an ordinary user, and root without CAP_SYS_ADMIN (which is what a container engine leaves to root), may
//! mount nothing where they are. They first enter a user namespace of their own ([`shim::own_userns`]), are root there,
//! and everything goes on as for root.
//!
//! | caller | ids in it | who writes the maps |
//! |---|---|---|
//! | root with CAP_SETUID and CAP_SETGID | all that it has, onto themselves | itself |
//! | a user with lines in /etc/subuid and /etc/subgid | its own as 0, the granted ones from 1 on | newuidmap, newgidmap |
//! | any other | its own as 0, and no other | itself |
//!
//! Whose boundary a container needs is decided by the surroundings *before* entering, which is why `enter` says what
//! they were.

pub(crate) mod account;
pub(crate) mod dirs;
mod subid;

use std::path::{Path, PathBuf};

use nix::unistd::{getresgid, getresuid};
use procfs::process::{Process, Status};
use shim::own_userns::{OwnUserns, Writer};
use shim::plan::{IdMaps, IdRange};
use shim::{Error, Result, own_userns};

use crate::host;
pub use account::Account;
use subid::Subids;

const CAP_CHOWN: u64 = 1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_FOWNER: u64 = 1 << 3;
const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Where newuidmap and newgidmap are looked for; PATH may be a container's.
const PROGRAM_DIRECTORIES: [&str; 6] = [
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/run/wrappers/bin",
];

/// Where the caller was when it was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// In the machine's own user namespace, and not in somebody's container.
    pub initial_userns: bool,
    /// The caller has left it for one of its own since.
    pub entered: bool,
    /// Why only the user's own id exists there, if that is so: nothing can belong to anybody else, and groups cannot be
    /// set.
    pub single_id: Option<String>,
}

impl Origin {
    /// Before anything is entered.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn of_caller() -> Result<Self> {
        Ok(Self {
            initial_userns: host::in_initial_user_namespace()?,
            entered: false,
            single_id: None,
        })
    }
}

/// Enters a user and a mount namespace of the caller's own, where it could not mount otherwise. Must be called before
/// anything is opened that is to be mounted or changed, and with one thread.
///
/// # Errors
/// A malformed line in /etc/subuid or /etc/subgid; then as [`own_userns::enter`].
pub fn enter() -> Result<Origin> {
    enter_without(CAP_SYS_ADMIN)
}

/// The same for who only makes files: root of a container may make devices there, but not in a user namespace.
///
/// # Errors
/// As [`enter`].
pub fn enter_for_files() -> Result<Origin> {
    enter_without(CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER)
}

/// Enters one that has these ids, named from outside: where they are the caller's own alone, one with nothing else. What it
/// has then, as maps from ids in it to those outside.
///
/// # Errors
/// As [`enter`].
pub(crate) fn enter_for(ids: &IdMaps) -> Result<IdMaps> {
    let account = Account::of_caller()?;
    let only = |list: &[IdRange], own: u32| {
        let is_own = |line: &IdRange| line.outside == own && line.count == 1;
        list.iter().all(is_own)
    };
    let wanted = if only(&ids.users, account.uid) && only(&ids.groups, account.gid) {
        own_id(&account)
    } else {
        decide(&own_status()?, &account)?.0
    };
    own_userns::enter(&wanted)?;
    Ok(wanted.maps)
}

/// Enters it where the caller lacks one of these capabilities.
fn enter_without(capabilities: u64) -> Result<Origin> {
    let mut origin = Origin::of_caller()?;
    let status = own_status()?;
    if status.capeff & capabilities == capabilities {
        return Ok(origin);
    }
    let (wanted, lacking) = decide(&status, &Account::of_caller()?)?;
    own_userns::enter(&wanted)?;
    origin.entered = true;
    origin.single_id = lacking;
    Ok(origin)
}

/// Whether the caller has to enter a user namespace of its own in order to mount.
///
/// # Errors
/// /proc is not mounted.
pub fn is_needed() -> Result<bool> {
    Ok(host::effective_capabilities()? & CAP_SYS_ADMIN == 0)
}

/// Refuses to run with rights that the caller does not have: as a set-user-ID or set-group-ID program, or with file
/// capabilities. It takes paths from the command line and follows them as whoever it is.
///
/// # Errors
/// Just that; and where /proc is not mounted.
pub fn refuse_elevated() -> Result<()> {
    let failed = |errno| Error::new("look at the own ids").errno(errno);
    let (user, group) = (getresuid().map_err(failed)?, getresgid().map_err(failed)?);
    let set_id = user.real != user.effective || group.real != group.effective;
    // After execve a user who is not root has what was ambient, and what the file gave (capabilities(7)).
    let given = |status: Status| status.capprm & !status.capamb.unwrap_or(0) != 0;
    if !set_id && (user.effective.is_root() || !given(own_status()?)) {
        return Ok(());
    }
    Err(Error::new("run")
        .on("start-container")
        .because("setuid not supported: the program was given rights that its caller does not have")
        .hint("take the set-user-ID and set-group-ID bits and the file capabilities away: chmod ug-s, setcap -r; ordinary users need none"))
}

fn own_status() -> Result<Status> {
    Process::myself()
        .and_then(|process| process.status())
        .map_err(|error| {
            Error::new("read")
                .on("/proc/self/status")
                .because(error.to_string())
                .hint("/proc must be mounted")
        })
}

/// The namespace for this caller; and why it has only one id, if that is so.
fn decide(status: &Status, account: &Account) -> Result<(OwnUserns, Option<String>)> {
    if status.euid == 0 && status.capeff & CAP_SETUID != 0 && status.capeff & CAP_SETGID != 0 {
        let wanted = OwnUserns {
            maps: host::identity_maps()?,
            writer: Writer::Caller,
            set_groups: true,
        };
        return Ok((wanted, None));
    }
    let lacking = match granted(status, account)? {
        Ok(wanted) => return Ok((wanted, None)),
        Err(lacking) => lacking,
    };
    Ok((own_id(account), Some(lacking)))
}

/// The namespace that everybody may make: the own id is root, and there is no other.
fn own_id(account: &Account) -> OwnUserns {
    let only = |outside| vec![IdRange::new(0, outside, 1)];
    OwnUserns {
        maps: IdMaps {
            users: only(account.uid),
            groups: only(account.gid),
        },
        writer: Writer::Caller,
        set_groups: false,
    }
}

/// The namespace that the machine's administrator has provided for, or what is lacking for one.
fn granted(status: &Status, account: &Account) -> Result<Result<OwnUserns, String>> {
    let (Some(users), Some(groups)) = (program("newuidmap"), program("newgidmap")) else {
        return Ok(Err("newuidmap and newgidmap are not installed".to_owned()));
    };
    if status.nonewprivs == Some(1) {
        return Ok(Err(
            "no_new_privs is set, which newuidmap cannot work with".to_owned()
        ));
    }
    let read = |path: &'static str, own| {
        let subids = Subids {
            path: Path::new(path),
            name: account.name.as_deref(),
            uid: account.uid,
            own,
        };
        subids
            .map()
            .map(|map| map.ok_or_else(|| format!("{path} has no line for uid {}", account.uid)))
    };
    let maps = match (
        read("/etc/subuid", account.uid)?,
        read("/etc/subgid", account.gid)?,
    ) {
        (Ok(users), Ok(groups)) => IdMaps { users, groups },
        (Err(lacking), _) | (_, Err(lacking)) => return Ok(Err(lacking)),
    };
    Ok(Ok(OwnUserns {
        maps,
        writer: Writer::Programs { users, groups },
        set_groups: true,
    }))
}

fn program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRECTORIES
        .into_iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
}
