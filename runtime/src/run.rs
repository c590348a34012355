//! `subcontainer run`: a root filesystem for one container, which goes with it.
//!
//! The root filesystem's journal stays locked as long as this process lives. Whoever finds it unlocked, the next
//! create-fs or destroy-fs, knows that nobody will take it away any more, and does.

use nix::sys::signalfd::SignalFd;
use shim::Result;

use crate::cli::{LaunchArgs, Outcome, RunArgs};
use crate::config::{Config, Dirs};
use crate::idrange::Pool;
use crate::rootfs::Temporary;
use crate::{launch, rootless, userns, warning};

/// Makes a root filesystem of the image, launches a container there, stays until it has ended, and removes all of it.
/// A dry run makes and removes it as well: the plan is that of a real root filesystem.
///
/// # Errors
/// As create-fs, launch and destroy-fs.
pub fn run(args: &RunArgs, dirs: &Dirs, config: &Config, signals: &SignalFd) -> Result<Outcome> {
    let origin = rootless::enter()?;
    let image = args.image.as_str();
    let settings = config.settings(Some(image));
    let userns = args.launch.userns.as_ref().or(settings.userns.as_ref());
    let temporary = if origin.entered {
        userns::check_deferred(userns)?;
        Temporary::create_deferred(dirs, image)?
    } else {
        let pool = config.id_pool.unwrap_or_else(Pool::of_host);
        Temporary::create(dirs, image, &userns::of_create_fs(userns, pool)?)?
    };
    if let Some(text) = &temporary.warning {
        warning::say(text);
    }
    let launched = LaunchArgs {
        rootfs: temporary.rootfs().to_owned(),
        ..args.launch.clone()
    };
    let outcome = launch::from(&launched, dirs, config, signals, &origin);
    match (temporary.destroy(), outcome) {
        (Ok(()), outcome) => outcome,
        // Why the container did not start, or how it ended, is what was asked for.
        (Err(left), Ok(ended)) => {
            warning::say(&left.to_string());
            Ok(ended)
        }
        (Err(left), Err(error)) => {
            warning::say(&left.to_string());
            Err(error)
        }
    }
}
