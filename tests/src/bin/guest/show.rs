//! Tools that print what the kernel says about this process and its surroundings. They change nothing.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::unistd::{getegid, geteuid, getgroups, getpgrp, getpid, getppid, getsid};

use crate::{Outcome, one, wrong_usage};

/// Prints everything at once, so that a reader never sees half of it.
fn show(text: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()?;
    Ok(0)
}

/// Each argument as `LENGTH:BYTES`, so that empty ones and newlines can be told apart.
pub fn args(args: &[OsString]) -> Outcome {
    let mut text = Vec::new();
    for arg in args {
        write!(text, "{}:", arg.len())?;
        text.extend_from_slice(arg.as_bytes());
        text.push(b'\n');
    }
    show(&text)
}

/// `NAME=VALUE` lines in the order of the environment block.
pub fn env(_: &[OsString]) -> Outcome {
    let mut text = Vec::new();
    for (name, value) in std::env::vars_os() {
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    show(&text)
}

/// The value of one variable; 1 when it is not set, which is not the same as empty.
pub fn print_env(args: &[OsString]) -> Outcome {
    match std::env::var_os(one(args)?) {
        Some(value) => show(&[value.as_bytes(), b"\n"].concat()),
        None => Ok(1),
    }
}

/// `uid=N gid=N groups=N,N…`: effective ids and supplementary groups as the kernel has them.
pub fn id(_: &[OsString]) -> Outcome {
    let groups: Vec<String> = getgroups()?.iter().map(ToString::to_string).collect();
    let line = format!(
        "uid={} gid={} groups={}\n",
        geteuid(),
        getegid(),
        groups.join(",")
    );
    show(line.as_bytes())
}

/// The working directory.
pub fn pwd(_: &[OsString]) -> Outcome {
    show(&[std::env::current_dir()?.as_os_str().as_bytes(), b"\n"].concat())
}

/// `FD TARGET` for each open descriptor, in ascending order; without the one that reads the list.
pub fn fds(_: &[OsString]) -> Outcome {
    let mut numbers: Vec<u32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let mut text = Vec::new();
    for number in numbers {
        // The directory stream itself is closed by now, so its link is gone.
        if let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) {
            write!(text, "{number} ")?;
            text.extend_from_slice(target.as_os_str().as_bytes());
            text.push(b'\n');
        }
    }
    show(&text)
}

/// `/proc/self/status`, or only the named fields (`status CapEff NoNewPrivs`). SIGPIPE's bit in SigIgn is this program's own.
pub fn status(args: &[OsString]) -> Outcome {
    let all = fs::read_to_string("/proc/self/status")?;
    let wanted = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        args.is_empty() || args.iter().any(|arg| arg == name)
    };
    let text: String = all
        .lines()
        .filter(wanted)
        .map(|line| format!("{line}\n"))
        .collect();
    show(text.as_bytes())
}

/// `pid=N ppid=N pgid=N sid=N umask=NNNN`.
pub fn session(_: &[OsString]) -> Outcome {
    let status = fs::read_to_string("/proc/self/status")?;
    let umask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .map_or("?", str::trim);
    let line = format!(
        "pid={} ppid={} pgid={} sid={} umask={umask}\n",
        getpid(),
        getppid(),
        getpgrp(),
        getsid(None)?
    );
    show(line.as_bytes())
}

/// `0=yes 1=no 2=no`: which of the standard streams are terminals.
pub fn isatty(_: &[OsString]) -> Outcome {
    let word = |yes: bool| if yes { "yes" } else { "no" };
    let line = format!(
        "0={} 1={} 2={}\n",
        word(io::stdin().is_terminal()),
        word(io::stdout().is_terminal()),
        word(io::stderr().is_terminal())
    );
    show(line.as_bytes())
}

/// `ROWS COLS XPIXELS YPIXELS` of the first standard stream that is a terminal.
pub fn winsize(_: &[OsString]) -> Outcome {
    let size = rustix::termios::tcgetwinsize(io::stdin())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stdout()))
        .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()))?;
    let line = format!(
        "{} {} {} {}\n",
        size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel
    );
    show(line.as_bytes())
}

/// Type, mode (octal), owner, size, links, device, inode, modification time and, for a symlink, its target; not followed.
pub fn stat(args: &[OsString]) -> Outcome {
    let path = one(args)?;
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        t if t.is_file() => "file",
        t if t.is_dir() => "dir",
        t if t.is_symlink() => "symlink",
        t if t.is_char_device() => "char",
        t if t.is_block_device() => "block",
        t if t.is_fifo() => "fifo",
        t if t.is_socket() => "socket",
        _ => "unknown",
    };
    let mut text = format!(
        "type={kind} mode={:04o} uid={} gid={} size={} nlink={} dev={} rdev={} ino={} mtime={}.{:09}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.size(),
        meta.nlink(),
        meta.dev(),
        meta.rdev(),
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec()
    )
    .into_bytes();
    if meta.is_symlink() {
        text.extend_from_slice(b" target=");
        text.extend_from_slice(fs::read_link(path)?.as_os_str().as_bytes());
    }
    text.push(b'\n');
    show(&text)
}

/// The names in a directory, sorted, one a line.
pub fn ls(args: &[OsString]) -> Outcome {
    let mut names = fs::read_dir(one(args)?)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    let mut text = Vec::new();
    for name in names {
        text.extend_from_slice(name.as_bytes());
        text.push(b'\n');
    }
    show(&text)
}

/// `/proc/self/mountinfo`.
pub fn mounts(_: &[OsString]) -> Outcome {
    show(&fs::read("/proc/self/mountinfo")?)
}

/// `NAME ID` for each namespace, as `/proc/self/ns` names them.
pub fn namespaces(args: &[OsString]) -> Outcome {
    if !args.is_empty() {
        return Err(wrong_usage());
    }
    let mut lines = Vec::new();
    for entry in fs::read_dir("/proc/self/ns")? {
        let entry = entry?;
        let target = fs::read_link(entry.path())?;
        lines.push(format!(
            "{} {}\n",
            entry.file_name().display(),
            target.display()
        ));
    }
    lines.sort();
    show(lines.concat().as_bytes())
}
