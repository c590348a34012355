//! `--squash`: files of owners that the caller does not have become root's.
//!
//! Inside a user namespace only the ids of its map can own a file. Where an image has others, an import fails and names
//! them; whoever would rather have the files asks for this. The set-user-ID and set-group-ID bits go with the owner: a
//! program that ran as somebody harmless must not run as root.

use shim::plan::{IdMaps, IdRange};
use shim::{Error, Result};

use super::member::{Kind, Member};

/// The ids that can own a file here.
#[derive(Debug, Clone)]
pub(in crate::image) struct Squash {
    maps: IdMaps,
}

impl Squash {
    /// The ids of the user namespace that the caller is in now.
    pub(in crate::image) fn of_caller() -> Result<Self> {
        let maps = crate::host::identity_maps()?;
        if maps.users.is_empty() || maps.groups.is_empty() {
            return Err(Error::new("read user namespace")
                .because("it has no ids")
                .hint("whoever made it has to write /proc/PID/uid_map and gid_map"));
        }
        Ok(Self { maps })
    }

    /// Gives a member to root in so far as its owner does not exist.
    pub(super) fn apply(&self, member: &mut Member) {
        const SET_USER_ID: u32 = 0o4000;
        const SET_GROUP_ID: u32 = 0o2000;
        let has = |ranges: &[IdRange], id: u32| {
            ranges.iter().any(|range| {
                id.checked_sub(range.inside)
                    .is_some_and(|at| at < range.count)
            })
        };
        // For a directory the bits are about what is made in it.
        let runs = member.kind == Kind::File;
        if !has(&self.maps.users, member.uid) {
            member.uid = 0;
            member.mode &= !(if runs { SET_USER_ID } else { 0 });
        }
        if !has(&self.maps.groups, member.gid) {
            member.gid = 0;
            member.mode &= !(if runs { SET_GROUP_ID } else { 0 });
        }
    }
}
