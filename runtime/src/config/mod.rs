//! Decides where things are and what containers are like: flags over `/etc/start-container/config.toml` over defaults.
//! Creates nothing, but for the state directory that an ordinary user has in /tmp where no login has made one: a name there
//! must be the user's before it is used.
//!
//! The file is optional. What it says is checked strictly, also when flags make it irrelevant and for images that are
//! not in use: a setting that is silently ignored because of a misspelling is found on the day when it matters.

mod file;
pub(crate) mod pull;
mod settings;

pub use pull::Pull;
pub use settings::Settings;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use shim::Error;

use crate::idrange::Pool;
use crate::image::LimitArgs;
use crate::rootless::account::Account;
use crate::rootless::dirs;

/// Where the configuration is read from.
pub const PATH: &str = "/etc/start-container/config.toml";

/// Default of root's `base`; an ordinary user's is in the home directory ([`crate::rootless`]): images, and the root filesystems made from them.
pub const DEFAULT_BASE: &str = "/media/startos";
/// Default of root's `state`: what is true until the next boot; mode 0700.
pub const DEFAULT_STATE: &str = "/run/start-container";
/// Default of root's `data`: layers and writable uppers; mode 0700.
pub const DEFAULT_DATA: &str = "/var/lib/start-container";

/// The directories that a command works in: absolute, not necessarily existing, not necessarily UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// `images/ID`, `images/ID.squashfs`, `images/ID.env`, `images/ID.json`, `subcontainers/GUID`.
    pub base: PathBuf,
    /// `leaders/KEY`, `filters/KEY`, `subcontainers/GUID`, `ranges/START`.
    pub state: PathBuf,
    /// `containers/GUID/{upper,work}`.
    pub data: PathBuf,
}

/// The directories as the command line gives them; relative ones are relative to the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirFlags {
    /// `--base DIR`
    pub base: Option<PathBuf>,
    /// `--state DIR`
    pub state: Option<PathBuf>,
    /// `--data DIR`
    pub data: Option<PathBuf>,
}

/// What the configuration file says; nothing where there is no file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    base: Option<PathBuf>,
    state: Option<PathBuf>,
    data: Option<PathBuf>,
    /// `id_pool`: what private ranges of ids are cut from.
    pub id_pool: Option<Pool>,
    /// `[pull]`: how registries are talked to.
    pub pull: Pull,
    /// `[import]`: what an image may take.
    pub import: LimitArgs,
    everywhere: Settings,
    images: BTreeMap<String, Settings>,
}

impl Config {
    /// Reads the configuration file, usually [`PATH`].
    ///
    /// # Errors
    /// A file that exists and is not a readable regular file of at most 1 MiB of TOML with known keys and good values;
    /// the line is named.
    pub fn load(path: &Path) -> shim::Result<Self> {
        file::read(path)
    }

    /// The directories, with the flags winning.
    ///
    /// # Errors
    /// A flag that is empty; a state or data directory that is another user's; and where the caller is not root, no home
    /// directory.
    pub fn dirs(&self, flags: &DirFlags) -> shim::Result<Dirs> {
        let caller = Uid::effective();
        let dirs = self.dirs_for(flags, caller)?;
        check_state(&dirs.state, caller)?;
        check_owner("use data directory", &dirs.data, caller)?;
        Ok(dirs)
    }

    fn dirs_for(&self, flags: &DirFlags, caller: Uid) -> shim::Result<Dirs> {
        let choose = |option, flag: &Option<PathBuf>, configured: &Option<PathBuf>| match flag {
            Some(path) => absolute(option, path).map(Some),
            None => Ok(configured.clone()),
        };
        let base = choose("--base", &flags.base, &self.base)?;
        let state = choose("--state", &flags.state, &self.state)?;
        let data = choose("--data", &flags.data, &self.data)?;
        if caller.is_root() {
            return Ok(Dirs {
                base: base.unwrap_or_else(|| DEFAULT_BASE.into()),
                state: state.unwrap_or_else(|| DEFAULT_STATE.into()),
                data: data.unwrap_or_else(|| DEFAULT_DATA.into()),
            });
        }
        let base = match base {
            Some(base) => base,
            None => dirs::base(&Account::of_caller()?)?,
        };
        Ok(Dirs {
            data: data.unwrap_or_else(|| dirs::data(&base)),
            state: state.map_or_else(|| dirs::state(caller.as_raw()), Ok)?,
            base,
        })
    }

    /// What holds for containers of `image`, or of a root filesystem that no image is known of: the table
    /// `[image.ID]` over the keys of the whole file.
    #[must_use]
    pub fn settings(&self, image: Option<&str>) -> Settings {
        match image.and_then(|image| self.images.get(image)) {
            Some(own) => own.clone().over(self.everywhere.clone()),
            None => self.everywhere.clone(),
        }
    }
}

/// What stands in the state directory is believed: which process to join and with which rights, and which to kill. So
/// nobody may write there but the caller, or root.
fn check_state(state: &Path, caller: Uid) -> shim::Result<()> {
    const OTHERS_WRITE: u32 = 0o002;
    check_owner("use state directory", state, caller)?;
    // One that is not there will be the caller's own.
    if std::fs::metadata(state).is_ok_and(|found| found.mode() & OTHERS_WRITE != 0) {
        return Err(Error::new("use state directory")
            .on(state.display())
            .because("everybody may write to it")
            .hint("chmod o-w, or give another --state"));
    }
    Ok(())
}

/// Whose a directory is decides where its names lead, and a privileged caller mounts and removes there.
fn check_owner(op: &'static str, directory: &Path, caller: Uid) -> shim::Result<()> {
    let owner = match std::fs::metadata(directory) {
        Ok(found) => Uid::from_raw(found.uid()),
        Err(_) => return Ok(()),
    };
    if owner == caller || owner.is_root() {
        return Ok(());
    }
    Err(Error::new(op)
        .on(directory.display())
        .because(format!(
            "it belongs to uid {owner}, who could write anything there"
        ))
        .hint("call it as that user, or give a directory of your own"))
}

fn absolute(option: &'static str, path: &Path) -> shim::Result<PathBuf> {
    let bad = || Error::new("read option").on(option);
    if path.as_os_str().is_empty() {
        return Err(bad().because("the path is empty").hint("give a directory"));
    }
    std::path::absolute(path).map_err(|error| {
        bad()
            .because(format!("no working directory for a relative path: {error}"))
            .hint("give an absolute path")
    })
}

#[cfg(test)]
mod tests;
