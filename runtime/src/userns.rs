//! Decides which ids a container has: the caller's (no user namespace), each of them onto itself, or others.
//!
//! It looks at the caller's own maps and changes nothing.

use shim::plan::IdMaps;
use shim::{Error, Result};

use crate::cli::Userns;
use crate::host;

/// The maps of a container's user namespace; none where it has none of its own. `asked` is `--userns`.
///
/// # Errors
/// A map that create-fs has not been told of; /proc is not mounted.
pub(crate) fn of_launch(asked: Option<&Userns>) -> Result<Option<IdMaps>> {
    match asked {
        Some(Userns::Host) => Ok(None),
        Some(Userns::Identity) => host::identity_maps().map(Some),
        Some(Userns::Auto | Userns::Map(_)) => Err(Error::new("use option")
            .on("--userns")
            .because("this root filesystem was made without ids of its own")
            .hint("give the same --userns to create-fs")),
        None if host::in_initial_user_namespace()? => host::identity_maps().map(Some),
        // Inside somebody's user namespace that one is the boundary already, and services there need what it grants.
        None => Ok(None),
    }
}
