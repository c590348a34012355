//! The `start-container` binary: parses, decides, applies; prints the one error there may be.

use std::io::{self, Write as _};
use std::process::ExitCode;

use runtime::cli::{self, Outcome};
use runtime::warning;

fn main() -> ExitCode {
    // It cannot fail; if it did, a limit would end us without a word, and nothing else would change.
    let _ = shim::sys::signal::ignore_file_size_limit();
    let done = cli::main(std::env::args_os().skip(1)).and_then(|outcome| match outcome {
        Outcome::Text { text, warning } => {
            if let Some(warning) = warning {
                warning::say(&warning);
            }
            cli::print(&text).map(|()| ExitCode::SUCCESS)
        }
        Outcome::Ended(ended) => Ok(ExitCode::from(ended.imitate())),
    });
    done.unwrap_or_else(|error| {
        say(&error.to_string());
        ExitCode::from(error.exit_status())
    })
}

/// Where stderr is closed or full there is nobody left to tell; the exit status still does.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "start-container: {text}");
}
