//! The calling user: ids from the kernel, name and home from the machine's own passwd.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use shim::{Error, Result, RootDir};

use crate::users;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Effective, and the real one as well: see [`super::refuse_elevated`].
    pub uid: u32,
    /// The same of the group.
    pub gid: u32,
    /// Where passwd knows the uid; UTF-8.
    pub name: Option<String>,
    /// Where passwd knows the uid and gives it an absolute path.
    pub home: Option<PathBuf>,
}

impl Account {
    /// The calling user. A user whom only a directory service knows has neither name nor home here.
    ///
    /// # Errors
    /// A passwd that cannot be read.
    pub fn of_caller() -> Result<Self> {
        let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
        let known = look_up(uid)?;
        let home = known.name.is_some().then(|| PathBuf::from(known.home));
        Ok(Self {
            uid,
            gid,
            name: known.name.and_then(|name| name.into_string().ok()),
            home: home.filter(|home| home.is_absolute()),
        })
    }
}

/// What passwd calls a user, if it knows it.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    look_up(uid).ok()?.name?.into_string().ok()
}

fn look_up(uid: u32) -> Result<users::Identity> {
    let root = RootDir::open(Path::new("/"))
        .map_err(|errno| Error::sys("open", "/", errno).hint("it must be readable"))?;
    users::resolve(&root, &OsString::from(uid.to_string()))
}
