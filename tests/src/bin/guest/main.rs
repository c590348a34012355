//! The program inside test images: one static file that is every small tool a test needs, so that no image needs a shell.
//!
//! It is called by the name of a symlink to it (`/bin/id`) or with the tool as first word (`guest id`). Output is made
//! for programs to read: one fact per line, numbers for ids, bytes unchanged. Errors go to stderr as `guest TOOL: why`
//! with exit code 1; wrong usage exits with 2.
//!
//! It must not decide what is right: it shows what is there, and the test judges. One thing it cannot show is the
//! disposition of SIGPIPE that it was started with, because Rust's start-up code sets it to "ignore" before `main`.

mod alive;
mod attack;
mod show;
mod streams;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// What a tool ends with: an exit code, or the failure that `main` prints.
type Outcome = io::Result<u8>;

/// One tool: its name, its arguments in words, and the function that does it.
struct Tool {
    name: &'static str,
    usage: &'static str,
    run: fn(&[OsString]) -> Outcome,
}

const fn tool(name: &'static str, usage: &'static str, run: fn(&[OsString]) -> Outcome) -> Tool {
    Tool { name, usage, run }
}

/// All tools, by subject.
const TOOLS: &[Tool] = &[
    tool("true", "", |_| Ok(0)),
    tool("false", "", |_| Ok(1)),
    tool("exit", "CODE", alive::exit),
    tool("tools", "", list_tools),
    // What goes through the streams.
    tool("echo", "[WORD…]", streams::echo),
    tool("cat", "[PATH…]", streams::cat),
    tool("read", "PATH", streams::read),
    tool("write", "PATH TEXT", streams::write),
    tool("append", "PATH TEXT", streams::append),
    tool("flood", "BYTES", streams::flood),
    tool("sink", "", streams::sink),
    tool("warn", "[WORD…]", streams::warn),
    tool("say", "SOCKET TEXT", streams::say),
    tool("greet", "FD TEXT", streams::greet),
    // What the process was given.
    tool("args", "[WORD…]", show::args),
    tool("env", "", show::env),
    tool("print-env", "NAME", show::print_env),
    tool("id", "", show::id),
    tool("pwd", "", show::pwd),
    tool("fds", "", show::fds),
    tool("status", "[FIELD…]", show::status),
    tool("session", "", show::session),
    tool("isatty", "", show::isatty),
    tool("winsize", "", show::winsize),
    // What it sees around it.
    tool("stat", "PATH", show::stat),
    tool("ls", "PATH", show::ls),
    tool("mounts", "", show::mounts),
    tool("namespaces", "", show::namespaces),
    // What it does to stay, to end, and to leave others behind.
    tool("sleep", "SECONDS", alive::sleep),
    tool("hold", "", alive::hold),
    tool("ready-then-hold", "", alive::ready_then_hold),
    tool("trap", "SIGNAL…", alive::trap),
    tool("kill-self", "SIGNAL", alive::kill_self),
    tool("kill-group", "SIGNAL", alive::kill_group),
    tool("daemon", "[PIDFILE]", alive::daemon),
    tool("spawn-orphans", "COUNT", alive::spawn_orphans),
    tool("orphan-parent", "", alive::orphan_parent),
    tool("until-eof", "", alive::until_eof),
    // What it tries that may be refused.
    tool("become-root", "", alive::become_root),
    tool("unshare-user", "", alive::unshare_user),
    tool("mount-tmpfs", "PATH", alive::mount_tmpfs),
    tool("leave-chroot", "DIRECTORY PATH", alive::leave_chroot),
    // What it does to others.
    tool("trace", "", attack::trace),
    tool("swap", "PATH OTHER [PATH OTHER…]", attack::swap),
    tool(
        "without-openat2",
        "ENOSYS|EPERM COMMAND…",
        attack::without_openat2,
    ),
];

fn find(word: &std::ffi::OsStr) -> Option<&'static Tool> {
    let name = Path::new(word).file_name()?;
    TOOLS
        .iter()
        .find(|tool| tool.name.as_bytes() == name.as_bytes())
}

fn list_tools(_: &[OsString]) -> Outcome {
    let mut out = io::stdout().lock();
    for tool in TOOLS {
        writeln!(out, "{}", tool.name)?;
    }
    out.flush()?;
    Ok(0)
}

/// The error for arguments that do not fit; `main` answers it with the usage line.
fn wrong_usage() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidInput)
}

/// The only argument of a tool that takes one.
fn one(args: &[OsString]) -> io::Result<&OsString> {
    match args {
        [arg] => Ok(arg),
        _ => Err(wrong_usage()),
    }
}

/// An argument that is a number.
fn number<T: std::str::FromStr>(arg: &OsString) -> io::Result<T> {
    arg.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(wrong_usage)
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let called_as = words.first().and_then(|word| find(word));
    let (tool, args) = match (called_as, words.get(1).and_then(|word| find(word))) {
        (Some(tool), _) => (tool, &words[1..]),
        (None, Some(tool)) => (tool, &words[2..]),
        (None, None) => {
            eprintln!("usage: guest TOOL [ARG…]; `guest tools` lists the tools");
            return ExitCode::from(2);
        }
    };
    match (tool.run)(args) {
        Ok(code) => ExitCode::from(code),
        Err(error)
            if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() =>
        {
            eprintln!("usage: guest {} {}", tool.name, tool.usage);
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("guest {}: {error}", tool.name);
            ExitCode::from(1)
        }
    }
}
