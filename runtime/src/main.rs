//! The `start-container` binary: parses, decides, applies; prints the one error there may be.

use std::io::{self, Write};
use std::process::ExitCode;

use runtime::cli::{self, Outcome};
use shim::Error;

fn main() -> ExitCode {
    let done = cli::main(std::env::args_os().skip(1)).and_then(|outcome| match outcome {
        Outcome::Text { text, warning } => {
            if let Some(warning) = warning {
                say(&format!("warning: {warning}"));
            }
            print(&text).map(|()| ExitCode::SUCCESS)
        }
        Outcome::Ended(ended) => Ok(ExitCode::from(ended.imitate())),
    });
    done.unwrap_or_else(|error| {
        say(&error.to_string());
        ExitCode::from(error.exit_status())
    })
}

fn print(text: &[u8]) -> shim::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|error| Error::io("write to", "stdout", &error).hint("check what stdout leads to"))
}

/// Where stderr is closed or full there is nobody left to tell; the exit status still does.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "start-container: {text}");
}
