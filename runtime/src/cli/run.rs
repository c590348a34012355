//! Carries out an invocation: the one `match` from what was asked to the code that does it. Decides nothing itself.

use std::path::Path;

use shim::Error;

use super::Outcome;
use super::args::Invocation;
use crate::config::{self, DirFlags, Dirs};

/// Carries out what was asked.
///
/// # Errors
/// The one error that ends the program; its exit status says whose failure it is.
pub fn run(invocation: Invocation) -> shim::Result<Outcome> {
    match invocation {
        Invocation::Help(text) => Ok(Outcome::Text(text.into_bytes())),
        Invocation::Version => Ok(Outcome::Text(version().into_bytes())),

        // ---- The arms below are the places where the other parts are joined in. ----
        Invocation::Launch(args) => {
            dirs(&args.dirs)?;
            Err(absent("subcontainer launch"))
        }
        Invocation::Exec(args) => {
            dirs(&args.dirs)?;
            Err(absent("subcontainer exec"))
        }
        Invocation::CreateFs(args) => {
            dirs(&args.dirs)?;
            Err(absent("subcontainer create-fs"))
        }
        Invocation::DestroyFs(args) => {
            dirs(&args.dirs)?;
            Err(absent("subcontainer destroy-fs"))
        }
        Invocation::BindMount(args) => {
            dirs(&args.dirs)?;
            Err(absent("bind-mount"))
        }
        Invocation::ImageImport(args) => {
            dirs(&args.dirs)?;
            Err(absent("image import"))
        }
        Invocation::PipeWrap(_) => Err(absent("pipe-wrap")),
    }
}

fn version() -> String {
    format!("start-container {}\n", env!("CARGO_PKG_VERSION"))
}

fn dirs(flags: &DirFlags) -> shim::Result<Dirs> {
    Dirs::load(flags, Path::new(config::PATH))
}

/// Goes away with the last arm that uses it.
fn absent(verb: &'static str) -> Error {
    Error::new("run")
        .on(verb)
        .because("not part of this build")
        .hint("use a complete build of start-container")
}
