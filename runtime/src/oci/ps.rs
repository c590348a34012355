//! `ps`: the processes of a container, by their numbers in the caller's PID namespace. The table is that of ps(1) with the
//! options that are given, or `-ef`, and in it the rows whose PID is one of the container's: so it is with runc.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shim::{Error, Result};

use super::state::Container;
use crate::json;

/// How long ps(1) may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The table, or the numbers as JSON: of the processes in the container's cgroups, or without these in its PID namespace.
///
/// # Errors
/// ps(1) takes no such options, or prints no column PID.
pub(super) fn processes(container: &Container, json: bool, options: &[OsString]) -> Result<String> {
    let group = container.record().and_then(|record| record.group());
    let numbers = match group {
        Some(group) => group.processes(),
        None => of_namespace(container.look()?.pid.unwrap_or(0)),
    };
    if json {
        return json::line(&numbers);
    }
    match table(options)? {
        Some(text) => chosen(&text, &numbers),
        None => Ok(without_ps(&numbers)),
    }
}

/// What ps(1) prints; nothing where there is none and no options are for it.
fn table(options: &[OsString]) -> Result<Option<String>> {
    let failed = || Error::new("run").on("ps").hint("--format json takes none");
    let mut command = Command::new("ps");
    match options {
        [] => command.arg("-ef"),
        options => command.args(options),
    };
    let streams = command.stdin(Stdio::null()).stderr(Stdio::piped());
    let child = match streams.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && options.is_empty() => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("run", "ps", &error).hint("--format json takes none")),
    };
    let pid = Pid::from_raw(child.id().cast_signed());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(ended) = receiver.recv_timeout(DEADLINE) else {
        // It has not been waited for, so the number is still its own.
        let _ = kill(pid, Signal::SIGKILL);
        return Err(failed().because(format!("had not ended after {DEADLINE:?}")));
    };
    let Output {
        status,
        stdout,
        stderr,
    } = ended.map_err(|error| Error::io("run", "ps", &error))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let first = said.lines().find(|line| !line.trim().is_empty());
        return Err(failed().because(format!("{status}: {}", first.unwrap_or_default())));
    }
    Ok(Some(String::from_utf8_lossy(&stdout).into_owned()))
}

/// The head, and the rows of these processes.
fn chosen(table: &str, numbers: &BTreeSet<i32>) -> Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| {
        Error::new("read the table of")
            .on("ps")
            .because("it has no column PID")
            .hint("give it other options")
    })?;
    let is_one = |line: &&str| {
        let word = line.split_whitespace().nth(column);
        word.and_then(|word| word.parse().ok())
            .is_some_and(|pid| numbers.contains(&pid))
    };
    let lines = std::iter::once(head).chain(lines.filter(is_one));
    Ok(lines.fold(String::new(), |text, line| text + line + "\n"))
}

fn without_ps(numbers: &BTreeSet<i32>) -> String {
    let mut text = String::from("PID         COMMAND\n");
    for &pid in numbers {
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
        if let Ok(stat) = stat {
            let _ = writeln!(text, "{pid:<11} {}", stat.comm);
        }
    }
    text
}

/// The processes that are in the same PID namespace as another one.
fn of_namespace(pid: i32) -> BTreeSet<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(pid);
    let all = procfs::process::all_processes();
    let numbers = all.into_iter().flatten().flatten().map(|one| one.pid);
    numbers
        .filter(|pid| own.is_some() && namespace(*pid) == own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_their_pid() {
        let numbers = BTreeSet::from([7, 31]);
        let table = "  PID  PPID CMD\n    1     0 init\n    7     1 sh -c 1\n   31     7 ps 7\n   70     1 other\n";
        let expected = "  PID  PPID CMD\n    7     1 sh -c 1\n   31     7 ps 7\n";
        assert_eq!(chosen(table, &numbers).unwrap(), expected);
        let other = "UID   PID\nroot  7\n7     8\n";
        assert_eq!(chosen(other, &numbers).unwrap(), "UID   PID\nroot  7\n");
        assert!(chosen("CMD\nsh\n", &numbers).is_err());
    }
}
