//! The command line: words -> `Invocation` (parse) -> `Outcome` (run). Prints no errors; `main` does.

use std::ffi::OsString;
use std::io::{self, Write as _};

use crate::oci;

mod args;
pub(crate) mod help;
mod image_values;
mod image_verbs;
mod parse;
mod run;
pub(crate) mod scan;
/// The table of verbs and options that everything about the command line is made from.
pub mod table;
mod values;

pub use args::{
    BindMountArgs, BuildErofsArgs, Command, ConfinementArgs, CreateFsArgs, DestroyFsArgs, ExecArgs,
    Format, IdmapRange, ImageArgs, ImageExportArgs, ImageGcArgs, ImageImportArgs, ImageInspectArgs,
    ImageListArgs, ImagePullArgs, ImageTagArgs, InspectArgs, Invocation, LaunchArgs, MountAddArgs,
    MountListArgs, MountRemoveArgs, PipeWrapArgs, ProcessArgs, PtySize, RegistryArgs, RunArgs,
    Userns,
};
pub use parse::parse;
pub use run::{import_as_caller, run};
pub(crate) use values::parse_userns;

/// How a successful run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With status 0.
    Text {
        /// For stdout.
        text: Vec<u8>,
        /// Something that the user should know although it is no failure; for stderr.
        warning: Option<String>,
    },
    /// As the command that was run.
    Ended(shim::Ended),
}

impl Outcome {
    /// Nothing to say.
    pub const SILENT: Self = Self::Text {
        text: Vec::new(),
        warning: None,
    };

    /// Only text for stdout.
    #[must_use]
    pub fn text(text: String) -> Self {
        Self::Text {
            text: text.into_bytes(),
            warning: None,
        }
    }
}

/// Writes `text` to stdout, all of it.
///
/// # Errors
/// stdout is closed, full, or nobody reads it.
pub fn print(text: &[u8]) -> shim::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|error| {
            shim::Error::io("write to", "stdout", &error).hint("check what stdout leads to")
        })
}

/// Does what a command line (without the name of the program) asks for.
///
/// # Errors
/// The one error to print; [`shim::Error::exit_status`] is what to end with.
pub fn main(words: impl IntoIterator<Item = OsString>) -> shim::Result<Outcome> {
    let words: Vec<OsString> = words.into_iter().collect();
    if oci::is_meant(&words) {
        return oci::main(words);
    }
    run(parse(words)?)
}
