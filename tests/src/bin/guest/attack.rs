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
