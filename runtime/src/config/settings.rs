//! What the configuration can say about containers, and how what is said of an image comes over what is said of all.

use crate::capabilities;
use crate::cli::Userns;
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
    /// `share`: directories of the host, as `--share` names them.
    pub share: Option<Vec<String>>,
    /// `mounts`: as `--mount` takes them; of the whole file first, then of the image.
    pub mounts: Vec<String>,
    /// `resolv_conf`: a file of the host, absolute.
    pub resolv_conf: Option<String>,
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
}

/// Ids of the host that containers get private ranges of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPool {
    /// The first id.
    pub start: u32,
    /// How many; at least 65,536, the size of one range.
    pub count: u32,
}
