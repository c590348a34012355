//! Where an ordinary user's images, root filesystems and records are, unless the user or the machine says otherwise.
//!
//! Ambient variables (HOME, XDG_RUNTIME_DIR) do not steer this: a client passes a container's environment as its own.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use shim::{Error, Result};

use super::account::Account;

/// `HOME/.local/share/start-container`, HOME from the machine's passwd.
///
/// # Errors
/// The user has no entry there, or no home.
pub(crate) fn base(account: &Account) -> Result<PathBuf> {
    match &account.home {
        Some(home) => Ok(home.join(".local/share/start-container")),
        None => Err(Error::new("find the home directory of")
            .on(format!("uid {}", account.uid))
            .because("/etc/passwd has none")
            .hint("give --base and --data")),
    }
}

/// Below [`base`].
pub(crate) fn data(base: &Path) -> PathBuf {
    base.join("data")
}

/// `/run/user/UID/start-container` where the login has made that directory, else `/tmp/start-container-UID`, which is
/// made here: in a directory that everybody may write to, a name must be the user's own before it is used.
///
/// # Errors
/// Somebody else has that name in /tmp, or others may enter it.
pub(crate) fn state(uid: u32) -> Result<PathBuf> {
    let login = PathBuf::from(format!("/run/user/{uid}"));
    if is_private(&login, uid) {
        return Ok(login.join("start-container"));
    }
    let path = PathBuf::from(format!("/tmp/start-container-{uid}"));
    match DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if is_private(&path, uid) {
                return Ok(path);
            }
            Err(Error::new("use state directory")
                .on(path.display())
                .because("it is not a directory that only this user may enter")
                .hint("somebody else may have made it; give --state"))
        }
        Err(error) => {
            Err(Error::io("make state directory", path.display(), &error).hint("give --state"))
        }
    }
}

/// A real directory of the user's that nobody else has any right to.
fn is_private(path: &Path, uid: u32) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0)
}
