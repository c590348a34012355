//! Hands `image pull` over to the program that has the network in it.
//!
//! TLS, name resolution and HTTP would make every other call of start-container larger and slower to start (see
//! docs/decisions/0015-pull-is-a-program-of-its-own.md), so they are in a second static file beside this one.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use shim::{Error, Result};

use crate::cli::Outcome;

/// What the program is called.
pub const PROGRAM: &str = "start-container-pull";

/// Executes [`PROGRAM`] from the own directory, with the own words. Returns only where that fails.
///
/// The environment is left behind, but for the kind of terminal: variables for proxies, certificates and homes are often a
/// service's own, and libraries follow them without being asked.
///
/// # Errors
/// The program is not there, or cannot be executed.
pub fn hand_over() -> Result<Outcome> {
    let own = std::env::current_exe().map_err(|error| {
        Error::io("find the own directory through", "/proc/self/exe", &error)
            .hint("/proc must be mounted")
    })?;
    let program: PathBuf = own.with_file_name(PROGRAM);
    let terminal = std::env::var_os("TERM");
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env_clear()
        .envs(terminal.map(|kind| ("TERM", kind)))
        .exec();
    let error = Error::io("execute", program.display(), &error);
    Err(match error.raw_errno() {
        Some(nix::errno::Errno::ENOENT) => error.hint(format!(
            "image pull needs the program {PROGRAM}; install it beside start-container"
        )),
        _ => error.hint("it must be an executable file of the same build as start-container"),
    })
}
