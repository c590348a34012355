//! Callers without root: an ordinary user, and root of a user namespace that an engine has made.
//!
//! Such a root may mount, and everything goes as for root of the machine, but for what is the machine's: its state
//! directory, its cgroups, devices. Who may not even mount first enters a user namespace ([`crate::rootless`]), in which
//! the ids of config.json have other names.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, access};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};
use shim::Result;
use shim::plan::{IdMaps, IdRange};

use super::config::wrong;
use super::namespaces;
use crate::config::DEFAULT_STATE;
use crate::host;
use crate::rootless::{self, account, dirs};

/// `--rootless`: whether cgroups that are not the caller's to change are done without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Rootless {
    /// Where nothing is asked of them; and where the caller is not root of the machine, also if it is only their path.
    #[default]
    Auto,
    /// As for a caller who is not.
    Yes,
    /// Never.
    No,
}

impl Rootless {
    pub(super) fn read(text: Option<&str>) -> Option<Self> {
        Some(match text? {
            "auto" => Self::Auto,
            "true" => Self::Yes,
            "false" => Self::No,
            _ => return None,
        })
    }

    /// Whether the caller counts as one without root.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(super) fn holds(self) -> Result<bool> {
        Ok(match self {
            Self::Yes => true,
            Self::No => false,
            Self::Auto => !is_root_of_machine()?,
        })
    }
}

fn is_root_of_machine() -> Result<bool> {
    Ok(Uid::effective().is_root() && host::in_initial_user_namespace()?)
}

/// Where containers are kept if `--root` is not given: root's place, or one of the user's own. Root of a user namespace is
/// somebody's user where it may not make that place.
///
/// # Errors
/// As [`dirs::state`].
pub(super) fn state_root() -> Result<PathBuf> {
    let common = Path::new(DEFAULT_STATE).join("oci");
    let uid = Uid::effective();
    if uid.is_root() {
        let is_there = common.ancestors().find(|path| path.exists());
        let writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
        if is_root_of_machine()? || is_there.is_some_and(writable) {
            return Ok(common);
        }
    }
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match given.filter(|path| path.is_absolute()) {
        Some(path) => Ok(path.join("start-container/oci")),
        None if uid.is_root() => Ok(common),
        None => dirs::state(uid.as_raw()).map(|path| path.join("oci")),
    }
}

/// Whose a container is: the name of the owner of its directory, or the number where nobody has it.
pub(super) fn owner(directory: &Path) -> String {
    match std::fs::metadata(directory).map(|found| found.uid()) {
        Ok(0) | Err(_) => "root".to_owned(),
        Ok(uid) => account::name_of(uid).unwrap_or_else(|| uid.to_string()),
    }
}

/// Enters a user and a mount namespace in which the caller may mount, where it could not otherwise: the ids there, as
/// maps from the new ones to the caller's. Must come before anything is opened that is to be mounted.
///
/// # Errors
/// The configuration has no user namespace, or wants ids that the caller has not; as [`rootless::enter`].
pub(super) fn enter(linux: &Linux) -> Result<Option<IdMaps>> {
    if !rootless::is_needed()? {
        return Ok(None);
    }
    let all = linux.namespaces().iter().flatten();
    let mut users = all.filter(|one| one.typ() == LinuxNamespaceType::User);
    let Some(user) = users.next() else {
        return Err(wrong(
            "linux.namespaces",
            "without root a container needs a user namespace",
        )
        .hint("add { \"type\": \"user\" } and linux.uidMappings; spec --rootless writes such a config.json"));
    };
    if user
        .path()
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty())
    {
        return Err(wrong(
            "linux.namespaces",
            "without root a user namespace can only be a new one",
        )
        .hint("enter it first: nsenter --user --preserve-credentials"));
    }
    let wanted = namespaces::id_maps(linux)?;
    rootless::enter_for(&wanted).map(Some)
}

/// Refuses groups where nobody can have any: whoever might leave a group there would get what is forbidden to it.
///
/// # Errors
/// Just that.
pub(super) fn check_groups(process: &Process, set_groups: bool) -> Result<()> {
    let user = process.user();
    let mut groups = user.additional_gids().iter().flatten();
    if set_groups || groups.all(|&group| group == user.gid()) {
        return Ok(());
    }
    Err(wrong(
        "process.user.additionalGids",
        "groups cannot be set in a user namespace that has only its caller's own",
    ))
}

/// Whether the processes are to have the groups of whoever calls, as `podman run --group-add keep-groups` asks for. That is the only
/// way for a user without root to files of a group that its user namespace has no id for.
pub(super) fn keeps_groups(spec: &Spec) -> bool {
    let annotations = spec.annotations().as_ref();
    let value = annotations.and_then(|all| all.get("run.oci.keep_original_groups"));
    value.is_some_and(|value| value == "1")
}

/// The same ids by their names in the namespace that was entered.
///
/// # Errors
/// Some of them are not there.
pub(super) fn translate(maps: &IdMaps, entered: &IdMaps) -> Result<IdMaps> {
    let part = |field, wanted: &[IdRange], there: &[IdRange]| {
        renamed(wanted, there).ok_or_else(|| {
            wrong(field, "there are ids in it that the caller has not").hint(
                "without root these are the own one, and those of /etc/subuid and /etc/subgid, for which newuidmap and \
                 newgidmap must be installed",
            )
        })
    };
    Ok(IdMaps {
        users: part("linux.uidMappings", &maps.users, &entered.users)?,
        groups: part("linux.gidMappings", &maps.groups, &entered.groups)?,
    })
}

/// None where an id has no name there. A range that lies in several of the others becomes as many.
fn renamed(wanted: &[IdRange], there: &[IdRange]) -> Option<Vec<IdRange>> {
    let mut renamed = Vec::new();
    for line in wanted {
        let (mut inside, mut outside, mut left) = (line.inside, line.outside, line.count);
        while left > 0 {
            let holds =
                |one: &&IdRange| one.outside <= outside && outside - one.outside < one.count;
            let one = there.iter().find(holds)?;
            let skipped = outside - one.outside;
            let count = left.min(one.count - skipped);
            renamed.push(IdRange::new(inside, one.inside + skipped, count));
            left -= count;
            if left > 0 {
                (inside, outside) = (inside.checked_add(count)?, outside.checked_add(count)?);
            }
        }
    }
    Some(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_get_the_names_that_they_have_there() {
        let there = [
            IdRange::new(0, 1000, 1),
            IdRange::new(1, 100_000, 10),
            IdRange::new(11, 100_010, 5),
        ];
        let renamed = |lines: &[IdRange]| super::renamed(lines, &there);
        assert_eq!(
            renamed(&[IdRange::new(0, 1000, 1), IdRange::new(1, 100_002, 3)]),
            Some(vec![IdRange::new(0, 0, 1), IdRange::new(1, 3, 3)])
        );
        assert_eq!(
            renamed(&[IdRange::new(5, 100_008, 4)]),
            Some(vec![IdRange::new(5, 9, 2), IdRange::new(7, 11, 2)])
        );
        for refused in [
            IdRange::new(0, 1001, 1),
            IdRange::new(0, 1000, 2),
            IdRange::new(0, 100_010, 6),
        ] {
            assert_eq!(renamed(&[refused]), None, "{refused:?}");
        }
    }
}
