//! The command line: words -> [`Invocation`] (parse) -> [`Outcome`] (run). Prints nothing; `main` does.

use std::ffi::OsString;

mod args;
mod help;
mod parse;
mod run;
mod scan;
/// The table of verbs and options that everything about the command line is made from.
pub mod table;
mod values;

pub use args::{
    BindMountArgs, Command, CreateFsArgs, DestroyFsArgs, ExecArgs, Format, IdmapRange,
    ImageImportArgs, Invocation, LaunchArgs, PipeWrapArgs, ProcessArgs, PtySize, Userns,
};
pub use parse::parse;
pub use run::run;

/// How a successful run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With these bytes on stdout and status 0.
    Text(Vec<u8>),
    /// With the status of the command that was run.
    Status(u8),
}

/// Does what a command line (without the name of the program) asks for.
///
/// # Errors
/// The one error to print; [`shim::Error::exit_status`] is what to end with.
pub fn main(words: impl IntoIterator<Item = OsString>) -> shim::Result<Outcome> {
    run(parse(words)?)
}
