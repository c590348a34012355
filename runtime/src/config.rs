//! Decides where things are: flags over `/etc/start-container/config.toml` over defaults. Creates nothing.
//!
//! The file is optional. What it says is checked strictly, also when flags make it irrelevant: a setting that is
//! silently ignored because of a misspelling is found on the day when it matters.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Uid;
use shim::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::regular::Source;
use crate::rootless::account::Account;
use crate::rootless::dirs;
use crate::suggest::{nearest, shown};

/// Where the configuration is read from.
pub const PATH: &str = "/etc/start-container/config.toml";

/// Default of root's `base`; an ordinary user's is in the home directory ([`crate::rootless`]): images, and the root filesystems made from them.
pub const DEFAULT_BASE: &str = "/media/startos";
/// Default of root's `state`: what is true until the next boot; mode 0700.
pub const DEFAULT_STATE: &str = "/run/start-container";
/// Default of root's `data`: layers and writable uppers; mode 0700.
pub const DEFAULT_DATA: &str = "/var/lib/start-container";

/// Largest configuration, in bytes.
const LIMIT: u64 = 1 << 20;
const KEYS: [&str; 3] = ["base", "state", "data"];

/// The directories that a command works in: absolute, not necessarily existing, not necessarily UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// `images/ID`, `images/ID.squashfs`, `images/ID.env`, `images/ID.json`, `subcontainers/GUID`.
    pub base: PathBuf,
    /// `leaders/KEY`, `subcontainers/GUID`.
    pub state: PathBuf,
    /// `containers/GUID/{upper,work}`.
    pub data: PathBuf,
}

/// The directories as the command line gives them; relative ones are relative to the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirFlags {
    /// `--base DIR`
    pub base: Option<PathBuf>,
    /// `--state DIR`
    pub state: Option<PathBuf>,
    /// `--data DIR`
    pub data: Option<PathBuf>,
}

impl Dirs {
    /// Reads the configuration file, usually [`PATH`], and lets the flags win.
    ///
    /// # Errors
    /// A flag that is empty; a file that exists and is not a readable regular file of at most 1 MiB of TOML with the
    /// keys `base`, `state` and `data`, each an absolute path.
    pub fn load(flags: &DirFlags, config: &Path) -> shim::Result<Self> {
        Self::load_for(flags, config, Uid::effective())
    }

    fn load_for(flags: &DirFlags, config: &Path, caller: Uid) -> shim::Result<Self> {
        let [base, state, data] = read(config)?;
        let choose = |option, flag: &Option<PathBuf>, configured: Option<PathBuf>| match flag {
            Some(path) => absolute(option, path).map(Some),
            None => Ok(configured),
        };
        let base = choose("--base", &flags.base, base)?;
        let state = choose("--state", &flags.state, state)?;
        let data = choose("--data", &flags.data, data)?;
        if caller.is_root() {
            return Ok(Self {
                base: base.unwrap_or_else(|| PathBuf::from(DEFAULT_BASE)),
                state: state.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE)),
                data: data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)),
            });
        }
        let base = match base {
            Some(base) => base,
            None => dirs::base(&Account::of_caller()?)?,
        };
        Ok(Self {
            data: data.unwrap_or_else(|| dirs::data(&base)),
            state: state.map_or_else(|| dirs::state(caller.as_raw()), Ok)?,
            base,
        })
    }
}

fn absolute(option: &'static str, path: &Path) -> shim::Result<PathBuf> {
    let bad = || Error::new("read option").on(option);
    if path.as_os_str().is_empty() {
        return Err(bad().because("the path is empty").hint("give a directory"));
    }
    std::path::absolute(path).map_err(|error| {
        bad()
            .because(format!("no working directory for a relative path: {error}"))
            .hint("give an absolute path")
    })
}

/// The values of [`KEYS`] in the file; all absent where there is no file.
fn read(config: &Path) -> shim::Result<[Option<PathBuf>; 3]> {
    let source = Source {
        op: "read configuration",
        name: config,
        limit: LIMIT,
    };
    let seen = match source.look() {
        Ok(seen) => seen,
        Err(Errno::ENOENT) => return Ok([None, None, None]),
        Err(errno) => {
            return Err(source
                .error()
                .errno(errno)
                .hint("correct its permissions, or remove it"));
        }
    };
    let bytes = source.read(source.open(&seen)?)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        source
            .error()
            .flags(format!("line {line}"))
            .because("not UTF-8")
            .hint("TOML is UTF-8 text")
    })?;
    parse(&text, source)
}

fn parse(text: &str, source: Source<'_>) -> shim::Result<[Option<PathBuf>; 3]> {
    let at = |offset| {
        let line = line_of(text.as_bytes(), offset);
        source.error().flags(format!("line {line}"))
    };
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        at(offset)
            .because(error.message().replace('\n', ", "))
            .hint("the file is TOML: base = \"/media/startos\"")
    })?;
    let mut values = [None, None, None];
    for (key, value) in table.into_inner() {
        let offset = key.span().start;
        let name = key.into_inner();
        let Some(index) = KEYS.iter().position(|known| *known == name) else {
            let hint = match nearest(&name, KEYS) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the keys are {}", KEYS.join(", ")),
            };
            return Err(at(offset)
                .because(format!("unknown key {}", shown(name.as_ref().as_ref())))
                .hint(hint));
        };
        let path = directory(&value).map_err(|why| {
            at(value.span().start)
                .because(format!("{name} {why}"))
                .hint(format!("{name} is an absolute path in quotes"))
        })?;
        if let Some(slot) = values.get_mut(index) {
            *slot = Some(path);
        }
    }
    Ok(values)
}

fn directory(value: &Spanned<DeValue<'_>>) -> Result<PathBuf, String> {
    match value.as_ref() {
        DeValue::String(text) if text.contains('\0') => Err("contains a NUL byte".to_owned()),
        DeValue::String(text) if !text.starts_with('/') => {
            Err("is not an absolute path".to_owned())
        }
        DeValue::String(text) => Ok(PathBuf::from(text.as_ref())),
        other => Err(format!("is of type {}", other.type_str())),
    }
}

/// The line, counted from one, that a byte offset is in.
fn line_of(text: &[u8], offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As root, whoever runs the test.
    fn load(flags: &DirFlags, config: &Path) -> shim::Result<Dirs> {
        Dirs::load_for(flags, config, Uid::from_raw(0))
    }

    #[test]
    fn an_ordinary_users_data_is_below_the_base() {
        let flags = DirFlags {
            base: Some("/b".into()),
            state: Some("/s".into()),
            data: None,
        };
        let ordinary = Uid::from_raw(4711);
        let found = Dirs::load_for(&flags, Path::new("/nonexistent"), ordinary).unwrap();
        assert_eq!(found, dirs("/b", "/s", "/b/data"));
    }
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory =
                std::env::temp_dir().join(format!("runtime-config-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn file(&self, content: &[u8]) -> PathBuf {
            let path = self.0.join("config.toml");
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn dirs(base: &str, state: &str, data: &str) -> Dirs {
        Dirs {
            base: base.into(),
            state: state.into(),
            data: data.into(),
        }
    }

    #[test]
    fn without_a_file_the_defaults() {
        let scratch = Scratch::new("none");
        let found = Dirs::load(&DirFlags::default(), &scratch.0.join("absent")).unwrap();
        assert_eq!(found, dirs(DEFAULT_BASE, DEFAULT_STATE, DEFAULT_DATA));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let scratch = Scratch::new("order");
        let file = scratch.file(b"# where\nbase = \"/b\"\ndata = \"/d\"\n");
        let flags = DirFlags {
            base: Some("/flag".into()),
            ..DirFlags::default()
        };
        assert_eq!(
            load(&flags, &file).unwrap(),
            dirs("/flag", DEFAULT_STATE, "/d")
        );
        let found = load(&DirFlags::default(), &file).unwrap();
        assert_eq!(found, dirs("/b", DEFAULT_STATE, "/d"));
        let empty = scratch.file(b"");
        let found = Dirs::load(&DirFlags::default(), &empty).unwrap();
        assert_eq!(found, dirs(DEFAULT_BASE, DEFAULT_STATE, DEFAULT_DATA));
    }

    #[test]
    fn a_relative_flag_is_relative_to_the_working_directory_and_need_not_be_utf8() {
        let flags = DirFlags {
            base: Some("some/dir".into()),
            state: Some(OsStr::from_bytes(b"/s\xff").into()),
            data: None,
        };
        let found = load(&flags, Path::new("/nonexistent/config.toml")).unwrap();
        assert_eq!(
            found.base,
            std::env::current_dir().unwrap().join("some/dir")
        );
        assert_eq!(found.state.as_os_str().as_bytes(), b"/s\xff");
        let flags = DirFlags {
            base: Some("".into()),
            ..DirFlags::default()
        };
        let error = load(&flags, Path::new("/nonexistent")).unwrap_err();
        assert!(
            error.to_string().contains("\"--base\": the path is empty"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let scratch = Scratch::new("wrong");
        for (content, line, words) in [
            (
                &b"base = \"/b\"\nbsae = \"/c\"\n"[..],
                2,
                &["unknown key bsae", "did you mean base?"][..],
            ),
            (
                b"\n\nelephant = 1\n",
                3,
                &["unknown key elephant", "the keys are base, state, data"],
            ),
            (b"base = 7\n", 1, &["base is of type integer"]),
            (
                b"\nstate = \"run\"\n",
                2,
                &["state is not an absolute path"],
            ),
            (b"base = \"\"\n", 1, &["base is not an absolute path"]),
            (b"base = \"/a\\u0000b\"\n", 1, &["NUL byte"]),
            (
                b"base = \"/a\"\nbase = \"/b\"\n",
                2,
                &["hint: the file is TOML"],
            ),
            (b"base = /a\n", 1, &["hint: the file is TOML"]),
            (b"[base]\nx = 1\n", 1, &["base is of type table"]),
            (b"x\n", 1, &["hint: the file is TOML"]),
            (b"base = \"/a\"\nstate = \"\xff\"\n", 2, &["not UTF-8"]),
        ] {
            let file = scratch.file(content);
            let error = load(&DirFlags::default(), &file).unwrap_err();
            assert_eq!(error.exit_status(), 125);
            let text = error.to_string();
            assert!(
                text.contains(&format!("{}\" (line {line})", file.display())),
                "{text}"
            );
            assert_eq!(text.lines().count(), 2, "{text}");
            for word in words {
                assert!(text.contains(word), "{word:?} in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_file_is_an_error_and_does_not_block() {
        let scratch = Scratch::new("kind");
        let fifo = scratch.0.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let looped = scratch.0.join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        let large = scratch.file(&vec![b'#'; 1_048_577]);
        for (path, word) in [
            (scratch.0.clone(), "is a directory"),
            (fifo, "is a FIFO"),
            (looped, "ELOOP"),
            (large, "larger than 1048576 bytes"),
        ] {
            let error = load(&DirFlags::default(), &path).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(word) && text.contains("hint:"),
                "{word}: {text}"
            );
        }
    }
}
