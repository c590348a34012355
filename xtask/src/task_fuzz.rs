//! `cargo xtask fuzz archive|config [SECONDS] [SEED]`: builds the fuzzer of `benches/src/fuzz` and runs it.
//!
//! It is built with every check of arithmetic on, and needs root. A finding is kept in `target/fuzz`; what is worth
//! keeping goes to `tests/corpus`, whose files are inputs of every later run and of a test.

use crate::{Result, programs};

/// How long it runs unless the command line says otherwise.
const SECONDS: &str = "60";

/// Runs it.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let [kind @ ("archive" | "config"), rest @ ..] = words else {
        return Err("fuzz what? archive or config".into());
    };
    let fuzz = programs::build("benches", "fuzz", &["--profile=fuzz"])?;
    let seconds = rest.first().unwrap_or(&SECONDS);
    let mut command = programs::program(fuzz);
    programs::run(command.arg(kind).arg(seconds).args(rest.get(1)))
}
