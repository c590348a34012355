//! A leader's record: a file of `STATE/leaders`, named after the root filesystem's path and locked (flock(2)) by the
//! launch for as long as it lives, so "is there a launch" has an answer that no SIGKILL can falsify. What stands in it
//! is only a claim: a process counts as the leader when its start time and the boot id agree, and is then held by a
//! pidfd.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shim::plan::Namespaces;

use super::granted::Granted;
use crate::identity::Identity;

/// No record is longer.
const RECORD_MAX: u64 = 4096;

/// What launch writes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) boot_id: String,
    /// For people who look: the file's name is only a digest of it.
    pub(super) rootfs: String,
    /// The launch process itself.
    pub(super) shim: Identity,
    /// PID 1, once it stands in its own tree.
    pub(super) leader: Option<Identity>,
    /// Its procfs has been attached to ROOTFS/proc: where it no longer is, somebody has taken it away.
    #[serde(default)]
    pub(super) shown: bool,
    /// The namespaces it has of its own.
    pub(super) namespaces: Vec<String>,
    /// Whether it is our init, which reaps.
    pub(super) reaps: bool,
    /// Whether the launch stands in a user and a mount namespace of its own, as it does without root: only there the
    /// root filesystem is to be seen.
    #[serde(default)]
    pub(super) own_view: bool,
    /// What its processes may do; none until there is a leader.
    pub(super) granted: Option<Granted>,
}

pub(super) fn record_path(state: &Path, rootfs: &Path) -> PathBuf {
    let digest = Sha256::digest(rootfs.as_os_str().as_bytes());
    let name: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    state.join("leaders").join(name)
}

pub(super) fn read_record(mut file: &File) -> Option<Record> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(RECORD_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The leader that a record claims, if it is true.
pub(super) fn live(record: &Record, boot_id: &str) -> Option<(OwnedFd, Namespaces)> {
    if record.boot_id != boot_id {
        return None;
    }
    let namespaces = Namespaces::from_names(record.namespaces.iter().map(String::as_str))?;
    Some((record.leader?.open()?, namespaces))
}

pub(super) fn open_record(path: &Path) -> Option<File> {
    let mut options = File::options();
    options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path).ok()
}

/// Whether a launch holds the record.
pub(super) fn is_claimed(record: Option<&File>) -> bool {
    let lock = |file: File| Flock::lock(file, FlockArg::LockSharedNonblock).is_err();
    record
        .and_then(|file| file.try_clone().ok())
        .is_some_and(lock)
}
