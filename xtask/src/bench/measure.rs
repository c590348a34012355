//! Runs one program and tells its time and its peak memory.
//!
//! The kernel keeps the peak of all children that a process has waited for, so each program gets a parent of its own: this
//! program again, with the words that `measured_child` knows.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::{Value, json};

use crate::{Result, programs};

/// The first word of the inner program.
const WORD: &str = "--measured-child";

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) seconds: f64,
    /// Of processors, by the program and those that it has waited for.
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) peak_kib: f64,
}

/// Runs `command` without output; its errors are part of the failure.
pub(super) fn run(command: &Command) -> Result<Run> {
    let shown = programs::shown(command);
    // Not by its path: the file may have been built anew meanwhile.
    let mut outer = programs::program("/proc/self/exe");
    outer.arg(WORD).arg(command.get_program());
    outer.args(command.get_args());
    let output = outer
        .output()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("`{shown}` ended with {}: {last}", output.status));
    }
    let told: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("`{shown}` was not measured: {error}"))?;
    let number = |key: &str| {
        let number = told[key].as_f64();
        number.ok_or_else(|| format!("`{shown}` was not measured: {told}"))
    };
    Ok(Run {
        seconds: number("seconds")?,
        user: number("user")?,
        system: number("system")?,
        peak_kib: number("peak_kib")?,
    })
}

/// The inner program: runs the words after its own and prints what they took. Nothing, where the words are no such.
pub(crate) fn measured_child(words: &[String]) -> Option<ExitCode> {
    let [first, program, rest @ ..] = words else {
        return None;
    };
    if first != WORD {
        return None;
    }
    let mut command = Command::new(program);
    command
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let begun = Instant::now();
    let status = match command.status() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{program}: {error}");
            return Some(ExitCode::FAILURE);
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let usage = match getrusage(UsageWho::RUSAGE_CHILDREN) {
        Ok(usage) => usage,
        Err(errno) => {
            eprintln!("getrusage: {errno}");
            return Some(ExitCode::FAILURE);
        }
    };
    let of = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    println!(
        "{}",
        json!({
            "seconds": seconds,
            "user": of(usage.user_time()),
            "system": of(usage.system_time()),
            "peak_kib": usage.max_rss(),
        })
    );
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Some(ExitCode::from(code.unwrap_or(1)))
}
