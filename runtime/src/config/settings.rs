//! What the configuration can say about containers, and how what is said of an image comes over what is said of all.

use std::path::PathBuf;

use crate::capabilities;
use crate::cli::Userns;
use crate::mounts::{MountArgs, MountSpec, Share};
use crate::profile::{ProfileName, SeccompChoice};

/// What holds for the containers of an image. Flags of a call come over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `profile`
    pub profile: Option<ProfileName>,
    /// `userns`
    pub userns: Option<Userns>,
    /// `caps`: of the whole file first, then of the image; each changes what is there before it.
    pub caps: Vec<capabilities::Request>,
    /// `seccomp`; a file's path is absolute.
    pub seccomp: Option<SeccompChoice>,
    /// `no_new_privileges`
    pub no_new_privileges: Option<bool>,
    /// `read_only`
    pub read_only: Option<bool>,
    /// `share`
    pub share: Option<Vec<Share>>,
    /// `mounts`: of the whole file first, then of the image.
    pub mounts: Vec<MountSpec>,
    /// `resolv_conf`: a file of the host, absolute.
    pub resolv_conf: Option<PathBuf>,
}

impl Settings {
    /// These over `below`. Capabilities and mounts add to what is below, all others replace it.
    #[must_use]
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            profile: self.profile.or(below.profile),
            userns: self.userns.or(below.userns),
            caps: [below.caps, self.caps].concat(),
            seccomp: self.seccomp.or(below.seccomp),
            no_new_privileges: self.no_new_privileges.or(below.no_new_privileges),
            read_only: self.read_only.or(below.read_only),
            share: self.share.or(below.share),
            mounts: [below.mounts, self.mounts].concat(),
            resolv_conf: self.resolv_conf.or(below.resolv_conf),
        }
    }

    /// What is mounted when the flags come over it: mounts add to what is here, the others replace it.
    #[must_use]
    pub fn mounts_with(&self, flags: &MountArgs) -> MountArgs {
        let share = match flags.share.as_slice() {
            [] => self.share.clone().unwrap_or_default(),
            given => given.to_vec(),
        };
        let resolv_conf = flags.resolv_conf.as_ref().or(self.resolv_conf.as_ref());
        MountArgs {
            mounts: self.mounts.iter().chain(&flags.mounts).cloned().collect(),
            share,
            resolv_conf: resolv_conf.cloned(),
        }
    }
}
