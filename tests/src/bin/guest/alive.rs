//! Tools that are about living and dying: waiting, signals, detached and orphaned processes, and what may be refused.
//!
//! None of them polls: they wait in `pause`, `sigwait` or for the end of a pipe, so that a test sees what it sent at once.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, Uid, getpid, pause, setresuid};

use crate::{Outcome, number, one, wrong_usage};

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A signal by number (`15`) or name (`TERM`, `SIGTERM`).
fn signal(arg: &OsString) -> io::Result<Signal> {
    let word = arg.to_str().ok_or_else(wrong_usage)?;
    if let Ok(number) = word.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| wrong_usage());
    }
    let name = word.strip_prefix("SIG").unwrap_or(word);
    format!("SIG{name}").parse().map_err(|_| wrong_usage())
}

fn short_name(signal: Signal) -> &'static str {
    let name = signal.as_str();
    name.strip_prefix("SIG").unwrap_or(name)
}

/// Ends with CODE.
pub fn exit(args: &[OsString]) -> Outcome {
    number(one(args)?)
}

/// Waits SECONDS, which may have a fraction.
pub fn sleep(args: &[OsString]) -> Outcome {
    let seconds: f64 = number(one(args)?)?;
    std::thread::sleep(Duration::try_from_secs_f64(seconds).map_err(|_| wrong_usage())?);
    Ok(0)
}

/// Waits for ever; a signal with its default effect ends it.
pub fn hold(_: &[OsString]) -> Outcome {
    loop {
        pause();
    }
}

/// Prints `ready`, then waits for ever.
pub fn ready_then_hold(args: &[OsString]) -> Outcome {
    say("ready")?;
    hold(args)
}

/// Prints `ready`, then the name of each of the given signals as it comes; ends with 0 after TERM, if TERM is among them.
pub fn trap(args: &[OsString]) -> Outcome {
    if args.is_empty() {
        return Err(wrong_usage());
    }
    let mut set = SigSet::empty();
    for arg in args {
        set.add(signal(arg)?);
    }
    // A blocked signal stays pending even where its default effect is to be ignored, and PID 1 gets it too.
    set.thread_block()?;
    say("ready")?;
    loop {
        let signal = set.wait()?;
        say(short_name(signal))?;
        if signal == Signal::SIGTERM {
            return Ok(0);
        }
    }
}

/// Sends SIGNAL to this process; 0 if it survives that. Not for PIPE, which Rust's start-up code ignores.
pub fn kill_self(args: &[OsString]) -> Outcome {
    let signal = signal(one(args)?)?;
    if signal == Signal::SIGPIPE {
        return Err(io::Error::other(
            "SIGPIPE is ignored by this program and would prove nothing",
        ));
    }
    kill(getpid(), signal)?;
    Ok(0)
}

/// Sends SIGNAL to the process group, as `kill(0, …)` does; 0 if this process survives that.
pub fn kill_group(args: &[OsString]) -> Outcome {
    kill(Pid::from_raw(0), signal(one(args)?)?)?;
    Ok(0)
}

/// Leaves the caller twice (fork and setsid, two times over), keeps stdout, and stays.
///
/// With a PIDFILE its pid is written there once it is detached. Each SIGUSR1 makes it write `daemon writes` on stdout, and
/// add a line to the PIDFILE that says how that went: `wrote` or the error. SIGTERM ends it.
pub fn daemon(args: &[OsString]) -> Outcome {
    let pidfile = match args {
        [] => None,
        [path] => Some(path),
        _ => return Err(wrong_usage()),
    };
    // Blocked before the pid is known to anybody, so that no SIGUSR1 can come too early.
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set.thread_block()?;
    nix::unistd::daemon(true, true)?;
    nix::unistd::daemon(true, true)?;
    let mut record = match pidfile {
        Some(path) => Some(fs::File::create(path)?),
        None => None,
    };
    if let Some(record) = &mut record {
        writeln!(record, "{}", getpid())?;
    }
    loop {
        set.wait()?;
        let how = match say("daemon writes") {
            Ok(()) => "wrote".to_string(),
            Err(error) => error.to_string(),
        };
        if let Some(record) = &mut record {
            writeln!(record, "{how}")?;
        }
    }
}

fn myself(tool: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(tool);
    command
}

/// Makes COUNT processes whose parent ends before they do, and prints their pids once each is an orphan that has been told
/// to end. Whoever is their parent then has to reap them.
pub fn spawn_orphans(args: &[OsString]) -> Outcome {
    let count: u32 = number(one(args)?)?;
    for _ in 0..count {
        // `output` waits for the parent; the orphan does not hold this pipe.
        let made = myself("orphan-parent").stdin(Stdio::piped()).output()?;
        if !made.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&made.stderr).into_owned(),
            ));
        }
        io::stdout().write_all(&made.stdout)?;
    }
    io::stdout().flush()?;
    Ok(0)
}

/// One child that waits for the end of a pipe which only this process holds open; prints its pid and leaves without it.
pub fn orphan_parent(_: &[OsString]) -> Outcome {
    // Pipes for the others too: an image need not have a /dev/null.
    let child = myself("until-eof")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    say(&child.id().to_string())?;
    Ok(0)
}

/// Reads stdin to its end, then ends.
pub fn until_eof(_: &[OsString]) -> Outcome {
    let mut rest = Vec::new();
    io::stdin().lock().read_to_end(&mut rest)?;
    Ok(0)
}

/// Tries to get all three user ids back to 0.
pub fn become_root(_: &[OsString]) -> Outcome {
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    say("root")?;
    Ok(0)
}

/// Makes a user namespace, which a process in a chroot may not.
pub fn unshare_user(_: &[OsString]) -> Outcome {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    say("unshared")?;
    Ok(0)
}

/// Mounts a tmpfs on PATH.
pub fn mount_tmpfs(args: &[OsString]) -> Outcome {
    let path = one(args)?;
    nix::mount::mount(
        Some("tmpfs"),
        path.as_os_str(),
        Some("tmpfs"),
        nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV,
        None::<&str>,
    )?;
    Ok(0)
}

/// Makes DIRECTORY the root while the working directory stays outside of it, climbs from there as far as it goes, makes that
/// the root, and prints the file PATH as it is there.
pub fn leave_chroot(args: &[OsString]) -> Outcome {
    let [directory, path] = args else {
        return Err(wrong_usage());
    };
    fs::create_dir_all(directory)?;
    std::env::set_current_dir("/")?;
    std::os::unix::fs::chroot(directory)?;
    for _ in 0..64 {
        std::env::set_current_dir("..")?;
    }
    std::os::unix::fs::chroot(".")?;
    io::stdout().write_all(&fs::read(path)?)?;
    io::stdout().flush()?;
    Ok(0)
}
