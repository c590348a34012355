//! `start-container-pull`: does `start-container image pull`, which executes it with its own words. It is a program of its
//! own because it has the network in it; see docs/decisions/0015-pull-is-a-program-of-its-own.md.

mod blob;
mod credentials;
mod failure;
mod patience;
mod plan;
mod pull;
mod registry;

use std::io::{self, Write as _};
use std::process::ExitCode;

use runtime::cli::{self, Invocation, Outcome};
use runtime::warning;
use shim::{Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Where stderr is closed or full there is nobody left to tell; the exit status still does.
            let _ = writeln!(io::stderr(), "start-container: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn run() -> Result<ExitCode> {
    // Libraries would follow what variables say of proxies and certificates: leave them behind, as start-container does.
    if std::env::vars_os().any(|(name, _)| name != "TERM") {
        runtime::pull::hand_over()?;
    }
    let outcome = match cli::parse(std::env::args_os().skip(1))? {
        Invocation::ImagePull(args) => pull::pull(args)?,
        Invocation::Help(text) => Outcome::text(text),
        _ => {
            return Err(Error::new("run")
                .on(runtime::pull::PROGRAM)
                .because("it only does image pull")
                .hint("call start-container, which calls it where it is needed"));
        }
    };
    if let Outcome::Text { text, warning } = outcome {
        if let Some(warning) = warning {
            warning::say(&warning);
        }
        cli::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
