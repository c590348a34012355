//! Tools that make trouble: a race at the names that somebody else is about to use, and a kernel that lacks a call.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use seccompiler::{SeccompAction, SeccompFilter};

use crate::{Outcome, alive, wrong_usage};

/// So many exchanges without a pause, and the pause: some thousand per second with a small part of a processor. An odd
/// number, so that each pause leaves the names the other way round.
const BURST: usize = 5;
const PAUSE: Duration = Duration::from_micros(200);

/// Exchanges each PATH with its OTHER again and again until the end of stdin; prints `racing` when it has begun, and how
/// often it did in the end.
pub fn swap(args: &[OsString]) -> Outcome {
    let (pairs, []) = args.as_chunks::<2>() else {
        return Err(wrong_usage());
    };
    let exchange = |[path, other]: &[OsString; 2]| {
        let flag = RenameFlags::RENAME_EXCHANGE;
        renameat2(
            AT_FDCWD,
            path.as_os_str(),
            AT_FDCWD,
            other.as_os_str(),
            flag,
        )
    };
    let mut out = io::stdout().lock();
    for pair in pairs {
        exchange(pair)?;
    }
    writeln!(out, "racing")?;
    out.flush()?;
    let stop = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = alive::until_eof(&[]);
            stop.store(true, Ordering::Relaxed);
            ended
        });
        let mut swaps: u64 = 0;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..BURST {
                // A name that somebody has just mounted on cannot be renamed.
                swaps += pairs.iter().filter(|pair| exchange(pair).is_ok()).count() as u64;
            }
            // Whoever is raced needs the processor too.
            std::thread::sleep(PAUSE);
        }
        swaps
    });
    writeln!(out, "{swaps}")?;
    out.flush()?;
    Ok(0)
}

/// Tries to trace every other process but PID 1, again and again until the end of stdin; prints `tracing` when it has
/// begun, a line `TRACED EXE` for each that was still executing a program of the host's, and how often it was refused.
pub fn trace(_: &[OsString]) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "tracing")?;
    out.flush()?;
    let stop = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = alive::until_eof(&[]);
            stop.store(true, Ordering::Relaxed);
            ended
        });
        let mut refused: u64 = 0;
        while !stop.load(Ordering::Relaxed) {
            for pid in others()? {
                match ptrace::seize(pid, ptrace::Options::empty()) {
                    Err(Errno::EPERM) => refused += 1,
                    Err(_) => {}
                    Ok(()) => {
                        if let Some(exe) = hosts_program(pid) {
                            writeln!(out, "TRACED {exe}")?;
                        }
                    }
                }
            }
        }
        io::Result::Ok(refused)
    })?;
    writeln!(out, "{refused}")?;
    out.flush()?;
    Ok(0)
}

fn others() -> io::Result<Vec<Pid>> {
    let names = std::fs::read_dir("/proc")?.flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let own = nix::unistd::getpid();
    Ok(pids
        .map(Pid::from_raw)
        .filter(|pid| *pid != own && pid.as_raw() != 1)
        .collect())
}

/// What a process that is traced is executing, if that came from outside; lets it go. (PTRACE_ATTACH would stop it for
/// certain before it executes something else, and leave a SIGSTOP behind.)
fn hosts_program(pid: Pid) -> Option<String> {
    ptrace::interrupt(pid).ok()?;
    waitpid(pid, None).ok()?;
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let exe = exe.to_string_lossy().into_owned();
    let _ = ptrace::detach(pid, None);
    exe.contains("start-container").then_some(exe)
}

/// Executes COMMAND where openat2(2) answers ERRNO, as a filter of a surrounding container may have it.
pub fn without_openat2(args: &[OsString]) -> Outcome {
    let [errno, program, arguments @ ..] = args else {
        return Err(wrong_usage());
    };
    let errno = match errno.to_str() {
        Some("ENOSYS") => Errno::ENOSYS,
        Some("EPERM") => Errno::EPERM,
        _ => return Err(wrong_usage()),
    };
    let fault = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let answer = SeccompAction::Errno((errno as i32).unsigned_abs());
    let machine = std::env::consts::ARCH
        .try_into()
        .map_err(|error| fault(&error))?;
    let calls = BTreeMap::from([(libc::SYS_openat2, Vec::new())]);
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, answer, machine)
        .map_err(|error| fault(&error))?;
    let program_of_filter: seccompiler::BpfProgram = filter
        .try_into()
        .map_err(|error: seccompiler::BackendError| fault(&error))?;
    seccompiler::apply_filter(&program_of_filter).map_err(|error| fault(&error))?;
    Err(Command::new(program).args(arguments).exec())
}
