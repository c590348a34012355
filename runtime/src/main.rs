//! The `start-container` binary: parses, decides, applies; prints the one error there may be.

use std::io::{self, Write as _};
use std::process::ExitCode;

use runtime::cli::{self, Outcome};
use runtime::{oci, warning};

fn main() -> ExitCode {
    // It cannot fail; if it did, a limit would end us without a word, and nothing else would change.
    let _ = shim::sys::signal::ignore_file_size_limit();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    // Engines, and those who read their logs, look for the word.
    let level = if oci::is_meant(&words) { "error: " } else { "" };
    let done = cli::main(words).and_then(|outcome| match outcome {
        Outcome::Text { text, warning } => {
            if let Some(warning) = warning {
                warning::say(&warning);
            }
            cli::print(&text).map(|()| ExitCode::SUCCESS)
        }
        Outcome::Ended(ended) => Ok(ExitCode::from(ended.imitate())),
    });
    done.unwrap_or_else(|error| {
        say(&format!("{level}{error}"));
        ExitCode::from(error.exit_status())
    })
}

/// Where stderr is closed or full there is nobody left to tell; the exit status still does.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "start-container: {text}");
}
