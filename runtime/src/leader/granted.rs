//! What a container was granted when it was launched, so that every later exec gets neither more nor less.
//!
//! A part of the leader's record. The seccomp filter is a file of its own: compiled once, whatever becomes of the
//! profile that it was made from.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Error as IoError, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::O_NOFOLLOW;
use serde::{Deserialize, Serialize};
use shim::plan::{Capabilities, Launch, Privileges, Seccomp};

/// The answers of [`Privileges`], and the profile's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) profile: String,
    capabilities: Option<Capabilities>,
    no_new_privileges: bool,
    seccomp: Option<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Filter {
    name: String,
    flags: u32,
    /// Of the program, in bytes.
    length: usize,
}

impl Granted {
    /// What a plan grants.
    pub(crate) fn of(plan: &Launch) -> Self {
        let Privileges {
            capabilities,
            no_new_privileges,
            seccomp,
            sets: _,
            label: _,
        } = &plan.privileges;
        Self {
            profile: plan.profile.clone(),
            capabilities: *capabilities,
            no_new_privileges: *no_new_privileges,
            seccomp: seccomp.as_ref().map(|seccomp| Filter {
                name: seccomp.name.clone(),
                flags: seccomp.flags,
                length: seccomp.program.len(),
            }),
        }
    }

    /// What an exec gets, with the filter that belongs to `record`. None where that is not what was written, because the
    /// launch has ended meanwhile: without its filter nothing may run.
    pub(crate) fn privileges(&self, record: &Path) -> Option<Privileges> {
        let seccomp = match &self.seccomp {
            None => None,
            Some(filter) => Some(Seccomp {
                name: filter.name.clone(),
                program: read(&filter_of(record), filter.length)?,
                flags: filter.flags,
            }),
        };
        Some(Privileges {
            capabilities: self.capabilities,
            sets: None,
            no_new_privileges: self.no_new_privileges,
            seccomp,
            label: None,
        })
    }
}

/// Where the filter of the container with this record is: `STATE/filters/KEY` for `STATE/leaders/KEY`.
fn filter_of(record: &Path) -> PathBuf {
    let state = record.parent().and_then(Path::parent);
    let filters = state.unwrap_or(Path::new("")).join("filters");
    filters.join(record.file_name().unwrap_or_default())
}

/// Writes the filter of a plan, before the record tells of it.
pub(crate) fn write(record: &Path, plan: &Launch) -> Result<(), IoError> {
    let Some(seccomp) = &plan.privileges.seccomp else {
        return Ok(());
    };
    // Never into a file that somebody reads already: a launch that was killed may have left one.
    let path = filter_of(record);
    remove(record)?;
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?
        .write_all(&seccomp.program)
}

/// Removes the filter, if there is one.
pub(crate) fn remove(record: &Path) -> Result<(), IoError> {
    match std::fs::remove_file(filter_of(record)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path, length: usize) -> Option<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW)
        .open(path)
        .ok()?;
    let mut program = Vec::with_capacity(length);
    file.take(u64::try_from(length).ok()?)
        .read_to_end(&mut program)
        .ok()?;
    (program.len() == length).then_some(program)
}
