//! Running other programs from the top of the repository: with their output shown, or captured; and where cargo puts things.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;

/// How long the output of a program that has ended may still be held by others.
const HELD: Duration = Duration::from_secs(10);

/// The top of the repository, where every path of the tasks begins.
pub(crate) fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program, to be run at the top of the repository without our standard input.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(top()).stdin(Stdio::null());
    command
}

/// The command as one would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs it with its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` ended with {status}"))
    }
}

/// The same, with each line of its standard output also given to `hear`. What it leaves running may hold that output for
/// a moment after its end; longer is an error, and not a wait without end.
pub(crate) fn run_and_hear(command: &mut Command, mut hear: impl FnMut(&str)) -> Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let failed = |error| format!("cannot run `{shown}`: {error}");
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| format!("`{shown}` has no output"))?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout)
            .split(b'\n')
            .map_while(|line| line.ok())
        {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                hear(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => match ended {
                None => ended = child.try_wait().map_err(failed)?.map(|_| Instant::now()),
                Some(at) if at.elapsed() < HELD => {}
                Some(_) => {
                    return Err(format!(
                        "`{shown}` has ended, but something that it started still holds its output"
                    ));
                }
            },
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` ended with {status}"))
    }
}

/// Runs it and returns its standard output; its standard error goes where ours goes.
pub(crate) fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let shown = shown(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("`{shown}` ended with {}", output.status))
    }
}

/// Builds one release program and returns the path that cargo says it has.
pub(crate) fn build_release(package: &str, bin: &str) -> Result<PathBuf> {
    build(package, bin, &["--release"])
}

/// The same with these options of cargo's.
pub(crate) fn build(package: &str, bin: &str, options: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    command.arg("build").args(options);
    command.args(["--package", package, "--bin", bin]);
    built(command, package, bin)
}

/// Builds the program that runs the tests of one file or directory below `tests`.
pub(crate) fn build_tests(package: &str, test: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--package", package, "--test", test]);
    built(command, package, test)
}

/// Runs a cargo that builds, and returns where it has put the program.
fn built(mut command: Command, package: &str, name: &str) -> Result<PathBuf> {
    println!("$ {}", shown(&command));
    command.arg("--message-format=json-render-diagnostics");
    let messages = output_of(&mut command)?;
    String::from_utf8_lossy(&messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message["reason"] == "compiler-artifact" && message["target"]["name"] == name
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| format!("cargo built {name} of {package} without saying where"))
}

/// Where PATH has a program of this name.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|place| place.is_file())
}

/// Whether PATH has a program of this name.
pub(crate) fn is_installed(name: &str) -> bool {
    find(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_heard_and_the_status_counts() {
        let mut heard = Vec::new();
        let mut hear = |line: &str| heard.push(line.to_string());
        let mut sh = program("sh");
        let outcome = run_and_hear(sh.args(["-c", "echo one; echo two; exit 3"]), &mut hear);
        assert!(outcome.is_err_and(|why| why.contains("exit status: 3")));
        assert_eq!(
            run_and_hear(program("echo").arg("three"), &mut hear),
            Ok(())
        );
        assert_eq!(heard, ["one", "two", "three"]);
    }
}
