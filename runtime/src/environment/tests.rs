//! Environments, and where commands are searched in them.

use super::*;
use std::fs;
use std::path::PathBuf;

fn pairs(text: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    text.iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn shown_as(environment: &[CString]) -> Vec<String> {
    let text = environment.iter().map(|line| line.to_string_lossy());
    text.map(std::borrow::Cow::into_owned).collect()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("runtime-environment-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.0.join("env");
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_later_one_wins_and_names_are_unique() {
    let scratch = Scratch::new("order");
    let file = scratch.file(b"B=file\nC=file\nD=file\n");
    let found = compose(
        pairs(&[("A", "inherited"), ("B", "inherited"), ("C", "inherited")]),
        Some(file.as_path()),
        &pairs(&[("C", "first"), ("E", ""), ("C", "option")]),
        OsStr::new("/h"),
    )
    .unwrap();
    assert_eq!(
        shown_as(&found),
        [
            "A=inherited",
            "B=file",
            "C=option",
            "HOME=/h",
            "D=file",
            "E="
        ]
    );
}

#[test]
fn home_is_the_users_unless_said_on_purpose() {
    let scratch = Scratch::new("home");
    let home = |inherited: &[(&str, &str)], file: &[u8], explicit: &[(&str, &str)]| {
        let file = scratch.file(file);
        let found = compose(
            pairs(inherited),
            Some(file.as_path()),
            &pairs(explicit),
            OsStr::new("/passwd"),
        );
        let found = shown_as(&found.unwrap());
        let homes: Vec<_> = found
            .into_iter()
            .filter(|line| line.starts_with("HOME="))
            .collect();
        assert_eq!(homes.len(), 1);
        homes.concat()
    };
    assert_eq!(home(&[], b"", &[]), "HOME=/passwd");
    assert_eq!(home(&[("HOME", "/service")], b"", &[]), "HOME=/passwd");
    assert_eq!(
        home(&[("HOME", "/service")], b"HOME=/file\n", &[]),
        "HOME=/file"
    );
    assert_eq!(
        home(&[], b"HOME=/file\n", &[("HOME", "/option")]),
        "HOME=/option"
    );
    assert_eq!(home(&[], b"HOME=\n", &[]), "HOME=");
}

#[test]
fn lines_of_a_file_are_verbatim() {
    let scratch = Scratch::new("lines");
    let file = scratch.file(
        b"A=1\n\nno equals\n=empty name\nB= \"two\" # x \r\n #C=3\nexport D=4\nE=a=b\nF=\xff\xfe\nG=\nA=again\nH=no newline",
    );
    let found = compose([], Some(file.as_path()), &[], OsStr::new("/")).unwrap();
    let found: Vec<_> = found.iter().map(|line| line.to_bytes()).collect();
    assert_eq!(
        found,
        [
            &b"HOME=/"[..],
            b"A=again",
            b"B= \"two\" # x \r",
            b" #C=3",
            b"export D=4",
            b"E=a=b",
            b"F=\xff\xfe",
            b"G=",
            b"H=no newline",
        ]
    );
}

#[test]
fn a_hundred_thousand_variables() {
    let many: Vec<_> = (0..100_000)
        .map(|number| (format!("V{number}").into(), "x".into()))
        .collect();
    let found = compose(many.clone(), None, &many, OsStr::new("/")).unwrap();
    assert_eq!(found.len(), 100_001);
}

#[test]
fn bad_files_are_named_and_do_not_block() {
    let scratch = Scratch::new("bad");
    let fifo = scratch.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let large = scratch.0.join("large");
    fs::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    let nul = scratch.0.join("nul");
    fs::write(&nul, b"A=1\nB=hunter2\0\n").unwrap();
    for (path, word) in [
        (scratch.0.join("missing"), "ENOENT"),
        (nul.join("below"), "ENOTDIR"),
        (scratch.0.clone(), "is a directory"),
        (fifo, "is a FIFO"),
        (PathBuf::from("/dev/zero"), "is a character device"),
        (large, "larger than 16777216 bytes"),
        (nul, "(line 2): contains a NUL byte"),
    ] {
        let error = compose([], Some(path.as_path()), &[], OsStr::new("/")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("read env-file \"{}\"", path.display())),
            "{text}"
        );
        assert!(
            text.contains(word) && text.contains("hint:") && !text.contains("hunter2"),
            "{text}"
        );
        assert_eq!(error.exit_status(), 125);
    }
    let empty = compose([], Some(Path::new("/dev/null")), &[], OsStr::new("/")).unwrap();
    assert_eq!(shown_as(&empty), ["HOME=/"]);
}

#[test]
fn bad_names_and_values_are_refused_without_the_value() {
    for (name, value) in [
        ("", "hunter2"),
        ("A=B", "hunter2"),
        ("A\0B", "hunter2"),
        ("A", "hunter2\0"),
    ] {
        let error = compose([], None, &pairs(&[(name, value)]), OsStr::new("/")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("hint:") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

fn search(path: Option<&str>, command: &str) -> Vec<String> {
    let path = path.map(|path| CString::new(format!("PATH={path}")).unwrap());
    let environment: Vec<_> = [Some(c"XPATH=/wrong".to_owned()), path]
        .into_iter()
        .flatten()
        .collect();
    let command = CString::new(command).unwrap();
    shown_as(&candidates(&environment, &command).unwrap())
}

#[test]
fn where_a_command_is_searched() {
    let default = [
        "/usr/local/sbin/sh",
        "/usr/local/bin/sh",
        "/usr/sbin/sh",
        "/usr/bin/sh",
        "/sbin/sh",
        "/bin/sh",
    ];
    assert_eq!(search(None, "sh"), default);
    assert_eq!(search(Some(""), "sh"), default);
    assert_eq!(search(Some("/a:/b"), "sh"), ["/a/sh", "/b/sh"]);
    assert_eq!(search(Some("/a::b:"), "sh"), ["/a/sh", "./sh", "b/sh"]);
    assert_eq!(search(Some(":"), "sh"), ["./sh"]);
    assert_eq!(
        search(Some("/b:/a:/b:/a:/c"), "sh"),
        ["/b/sh", "/a/sh", "/c/sh"]
    );
    for path in ["/bin/sh", "./sh", "a/b", "/"] {
        assert_eq!(search(Some("/a"), path), [path]);
    }
    let long = format!("/{}:/a:/{}", "x".repeat(4096), "y".repeat(4090));
    assert_eq!(search(Some(&long), "sh")[0], "/a/sh");
    assert_eq!(search(Some(&long), "sh").len(), 2);
    assert_eq!(search(Some(&long), "shell").len(), 1);
}

#[test]
fn commands_that_cannot_be_found_anywhere() {
    let environment = [c"PATH=/a".to_owned()];
    let long = CString::new("x".repeat(256)).unwrap();
    for command in [c"", long.as_c_str()] {
        let error = candidates(&environment, command).unwrap_err();
        assert_eq!(error.exit_status(), 127);
        assert!(error.to_string().contains("hint:"), "{error}");
    }
    let far = CString::new(format!("PATH=/{}", "x".repeat(5000))).unwrap();
    assert_eq!(candidates(&[far], c"sh").unwrap_err().exit_status(), 127);
    let directories: Vec<_> = (0..1025).map(|number| format!("/{number}")).collect();
    let many = CString::new(format!("PATH={}", directories.join(":"))).unwrap();
    assert_eq!(candidates(&[many], c"sh").unwrap_err().exit_status(), 125);
}
