//! Where the directories are, and which files are refused as a whole.

mod keys;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

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

/// As root, whoever runs the test.
fn load(flags: &DirFlags, config: &Path) -> shim::Result<Dirs> {
    Config::load(config)?.dirs_for(flags, Uid::from_raw(0))
}

#[test]
fn an_ordinary_users_data_is_below_the_base() {
    let flags = DirFlags {
        base: Some("/b".into()),
        state: Some("/s".into()),
        data: None,
    };
    let found = Config::default()
        .dirs_for(&flags, Uid::from_raw(4711))
        .unwrap();
    assert_eq!(found, dirs("/b", "/s", "/b/data"));
}

#[test]
fn without_a_file_the_defaults() {
    let scratch = Scratch::new("none");
    let found = load(&DirFlags::default(), &scratch.0.join("absent")).unwrap();
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
    let found = load(&DirFlags::default(), &empty).unwrap();
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
            &[
                "unknown key elephant",
                "the keys are base, state, data, id_pool",
            ],
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
