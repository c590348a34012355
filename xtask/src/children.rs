//! Waiting for processes with an end to the wait: what is to be shown may hang, and then has to be named and ended.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Result, programs};

const POLL: Duration = Duration::from_millis(1);

/// The process id that the kernel gave.
pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed())
}

/// Runs a command with this standard input to its end and captures its output; kills it after `deadline`.
pub(crate) fn run(mut command: Command, input: &[u8], deadline: Duration) -> Result<Output> {
    let shown = programs::shown(&command);
    let failed = |error| format!("run `{shown}`: {error}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let child_pid = pid(child.id());
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A child that reads nothing must not keep us from reading what it writes. That it stops reading is no error.
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(deadline) {
        Ok(output) => output.map_err(failed),
        Err(_) => {
            // It has not been waited for, so the number is still its own.
            let _ = kill(child_pid, Signal::SIGKILL);
            Err(format!("`{shown}` had not ended after {deadline:?}"))
        }
    }
}

/// Waits for the end of a child whose output goes elsewhere.
pub(crate) fn wait(child: &mut Child, deadline: Duration) -> Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begun.elapsed() < deadline => std::thread::sleep(POLL),
            Ok(None) => {
                return Err(format!(
                    "process {} had not ended after {deadline:?}",
                    child.id()
                ));
            }
            Err(error) => return Err(format!("wait for process {}: {error}", child.id())),
        }
    }
}

/// Waits for all orphans that have come to us and ended. Only when no other child of ours is being waited for.
pub(crate) fn reap_orphans() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_goes_through_and_output_comes_back() {
        let sent: Vec<u8> = (0u8..=255).cycle().take(300_000).collect();
        let output = run(Command::new("cat"), &sent, Duration::from_secs(60)).expect("run cat");
        assert!(output.status.success());
        assert_eq!(output.stdout, sent);
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let why = run(command, b"", Duration::from_millis(50)).expect_err("must not wait");
        assert!(why.contains("`sleep 600` had not ended"), "{why}");
    }
}
