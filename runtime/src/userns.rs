//! Decides which ids a container has: the caller's (no user namespace), each of them onto itself, or others.
//!
//! Ids of its own are given to a root filesystem when it is made, since its layers have to be mapped to them; launch
//! reads them in its record. Looks at the caller's own maps and changes nothing.

use shim::plan::{IdMaps, IdRange};
use shim::{Error, Result};

use crate::cli::Userns;
use crate::host;
use crate::idrange::{self, Pool};
use crate::rootfs::{self, Ids, Record};
use crate::rootless::Origin;

/// Whose ids the files of a new root filesystem have. `asked` is `--userns`.
///
/// # Errors
/// A map that gives away what the caller has not, or has no room for the host's root; a caller without enough ids.
pub(crate) fn of_create_fs(asked: Option<&Userns>, pool: Pool) -> Result<Ids> {
    match asked {
        // With both, ids inside are the ids on disk.
        None | Some(Userns::Host | Userns::Identity) => Ok(Ids::AsOnDisk),
        Some(Userns::Auto) => Ok(Ids::Private(pool.within(&host::identity_maps()?)?)),
        Some(Userns::Map(map)) => {
            idrange::check_owned(map, &host::identity_maps()?)?;
            let maps = idrange::of_map(map);
            rootfs::layer_maps(&maps)?;
            Ok(Ids::Mapped(maps))
        }
    }
}

/// Whether `--userns` can be had without root: the ids are those that the machine grants to the user, and no others.
///
/// # Errors
/// A map.
pub(crate) fn check_deferred(asked: Option<&Userns>) -> Result<()> {
    match asked {
        Some(asked @ Userns::Map(_)) => Err(Error::new("use option")
            .on(format!("--userns={}", text_of(asked)))
            .because("without root the ids are those of /etc/subuid and /etc/subgid")
            .hint("leave the option out, or call it as root")),
        None | Some(Userns::Host | Userns::Identity | Userns::Auto) => Ok(()),
    }
}

/// The maps of a container's user namespace; none where it has none of its own. `record` is that of its root
/// filesystem, where create-fs made it.
///
/// # Errors
/// A `--userns` that contradicts the record or cannot be had; a map that gives away what the caller has not; /proc is not mounted.
pub(crate) fn of_launch(
    asked: Option<&Userns>,
    record: Option<&Record>,
    origin: &Origin,
) -> Result<Option<IdMaps>> {
    if origin.entered {
        check_deferred(asked)?;
        // In a user namespace of the caller's own the launch is root, and its container shall not be.
        return match asked {
            Some(Userns::Host) => Ok(None),
            _ => host::identity_maps().map(Some),
        };
    }
    let recorded = record.and_then(|record| record.id_maps.as_ref());
    match (asked, recorded) {
        (None | Some(Userns::Auto), Some(maps)) => Ok(Some(maps.clone())),
        (Some(Userns::Map(map)), Some(maps)) if *map == maps.users => Ok(Some(maps.clone())),
        (Some(asked), Some(maps)) => Err(Error::new("use option")
            .on(format!("--userns={}", text_of(asked)))
            .because(format!(
                "the root filesystem was made with ids of its own, {}",
                lines(&maps.users)
            ))
            .hint("leave the option out, or make a root filesystem without ids of its own")),
        (Some(Userns::Host), None) => Ok(None),
        (Some(Userns::Identity), None) => host::identity_maps().map(Some),
        (Some(Userns::Map(map)), None) if record.is_none() => {
            idrange::check_owned(map, &host::identity_maps()?)?;
            Ok(Some(idrange::of_map(map)))
        }
        (Some(asked @ (Userns::Auto | Userns::Map(_))), None) => Err(Error::new("use option")
            .on(format!("--userns={}", text_of(asked)))
            .because("the root filesystem was made without ids of its own")
            .hint("give the same --userns to create-fs")),
        (None, None) if origin.initial_userns => host::identity_maps().map(Some),
        // Inside somebody's user namespace that one is the boundary already, and services there need what it grants.
        (None, None) => Ok(None),
    }
}

fn text_of(userns: &Userns) -> String {
    match userns {
        Userns::Host => "host".to_owned(),
        Userns::Identity => "identity".to_owned(),
        Userns::Auto => "auto".to_owned(),
        Userns::Map(map) => lines(map),
    }
}

/// As `--userns` takes them.
fn lines(map: &[IdRange]) -> String {
    let line = |line: &IdRange| format!("{}:{}:{}", line.inside, line.outside, line.count);
    map.iter().map(line).collect::<Vec<_>>().join(",")
}
