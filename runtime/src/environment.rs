//! Decides the environment of a command and the places where the command is searched. Sets nothing for ourselves.
//!
//! Inherited < HOME of the user < the image's (`--image`) < `--env-file` < `--env`; the later one wins. An inherited HOME
//! is the one of the service that called us on the host, and means nothing inside; so passwd's replaces it, and only what
//! is said on purpose, by the image, in the file or by option, replaces passwd's.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use shim::Error;
use shim::error::EXIT_NOT_FOUND;

use crate::regular::{self, Source};
use crate::suggest::shown;

/// Where commands are searched when the environment has no PATH or an empty one.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Largest env-file, in bytes.
const ENV_FILE_LIMIT: u64 = 16 << 20;
/// Longest path that the kernel takes, with its NUL byte (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Longest file name (NAME_MAX).
const NAME_MAX: usize = 255;
/// Most directories that a PATH may name.
const PATH_ENTRIES: usize = 1024;

/// The environment of a command, as `NAME=VALUE`, each name once, in the order in which the names appeared first.
///
/// Of several env-files the later one wins. Each holds one `NAME=VALUE` per line. Values are verbatim: no quotes, no comments, no expansion, and a
/// carriage return before the newline is part of the value. Lines without `=` and with nothing before it are ignored.
///
/// # Errors
/// An env-file that is missing, unreadable, neither a regular file nor /dev/null, or larger than 16 MiB; a NUL byte
/// anywhere; an explicit name that is empty or contains `=`. No message repeats a value: values are secrets.
pub fn compose<'p>(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    env_files: impl IntoIterator<Item = &'p Path>,
    explicit: &[(OsString, OsString)],
    home: &OsStr,
) -> shim::Result<Vec<CString>> {
    let mut variables = Variables::default();
    for (name, value) in inherited {
        variables.set(name.as_bytes(), value.as_bytes(), "inherit variable")?;
    }
    variables.set(b"HOME", home.as_bytes(), "set variable")?;
    for path in env_files {
        variables.read(path)?;
    }
    for (name, value) in explicit {
        check_name(name)?;
        variables.set(name.as_bytes(), value.as_bytes(), "set variable")?;
    }
    Ok(variables.lines)
}

/// Checks the name of a variable that the user gave.
///
/// # Errors
/// An empty name, or one with `=` or NUL in it.
pub fn check_name(name: &OsStr) -> shim::Result<()> {
    let bytes = name.as_bytes();
    let why = if bytes.is_empty() {
        "the name is empty"
    } else if bytes.contains(&b'=') {
        "the name contains \"=\""
    } else if bytes.contains(&0) {
        "the name contains a NUL byte"
    } else {
        return Ok(());
    };
    Err(Error::new("set variable")
        .on(shown(name))
        .because(why)
        .hint("give NAME=VALUE"))
}

#[derive(Default)]
struct Variables {
    lines: Vec<CString>,
    index: HashMap<Vec<u8>, usize>,
}

impl Variables {
    fn set(&mut self, name: &[u8], value: &[u8], op: &'static str) -> shim::Result<()> {
        let line = CString::new([name, b"=", value].concat()).map_err(|_| {
            Error::new(op)
                .on(shown(OsStr::from_bytes(name)))
                .because("contains a NUL byte")
                .hint("the kernel ends a variable at the first NUL byte; encode binary values")
        })?;
        match self.index.get(name).and_then(|at| self.lines.get_mut(*at)) {
            Some(earlier) => *earlier = line,
            None => {
                self.index.insert(name.to_vec(), self.lines.len());
                self.lines.push(line);
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> shim::Result<()> {
        let source = Source {
            op: "read env-file",
            name: path,
            limit: ENV_FILE_LIMIT,
        };
        let seen = source.look().map_err(|errno| {
            source
                .error()
                .errno(errno)
                .hint("--env-file names a file of the host with one NAME=VALUE per line")
        })?;
        if regular::is_null_device(&seen) {
            return Ok(());
        }
        let text = source.read(source.open(&seen)?)?;
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.contains(&0) {
                return Err(source
                    .error()
                    .flags(format!("line {}", number + 1))
                    .because("contains a NUL byte")
                    .hint("an env-file is text: one NAME=VALUE per line"));
            }
            if let Some(equals) = line.iter().position(|byte| *byte == b'=')
                && equals > 0
            {
                let (name, value) = line.split_at(equals);
                self.set(name, value.get(1..).unwrap_or_default(), "set variable")?;
            }
        }
        Ok(())
    }
}

/// The value of PATH in an environment, or [`DEFAULT_PATH`] where it is absent or empty.
#[must_use]
pub fn search_path(environment: &[CString]) -> &[u8] {
    environment
        .iter()
        .find_map(|line| line.to_bytes().strip_prefix(b"PATH="))
        .filter(|path| !path.is_empty())
        .unwrap_or(DEFAULT_PATH)
}

/// The paths to try for a command, in order, never none.
///
/// A command with a `/` is its only candidate. Otherwise each entry of PATH is one, an empty entry being the working
/// directory as in execvp(3); an entry that was there before, or that makes a path longer than the kernel takes, is
/// left out, so that a hostile PATH costs no more than it is long.
///
/// # Errors
/// Exit status 127 where no path can be made: an empty command, a name longer than a file name, no usable PATH entry.
/// Exit status 125 for a PATH of more than 1,024 different directories.
pub fn candidates(environment: &[CString], command: &CStr) -> shim::Result<Vec<CString>> {
    let name = command.to_bytes();
    if name.contains(&b'/') {
        return Ok(vec![command.to_owned()]);
    }
    let not_found = |why: &'static str| {
        Error::new("find command")
            .on(shown(OsStr::from_bytes(name)))
            .because(why)
            .hint("give the absolute path of the program inside the root filesystem")
            .exit(EXIT_NOT_FOUND)
    };
    if name.is_empty() {
        return Err(not_found("the name is empty"));
    }
    if name.len() > NAME_MAX {
        return Err(not_found("longer than the 255 bytes of a file name"));
    }
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    for entry in search_path(environment).split(|byte| *byte == b':') {
        let directory = if entry.is_empty() { b"." } else { entry };
        if directory.len() + 1 + name.len() < PATH_MAX && seen.insert(directory) {
            // Both parts come from C strings: no NUL byte.
            paths.extend(CString::new([directory, b"/", name].concat()));
        }
        if paths.len() > PATH_ENTRIES {
            return Err(Error::new("search PATH")
                .because(format!("names more than {PATH_ENTRIES} directories"))
                .hint("shorten PATH, or give the absolute path of the program"));
        }
    }
    if paths.is_empty() {
        return Err(not_found("no directory in PATH is short enough for a path"));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
