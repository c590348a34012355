//! The binary itself: where text goes, and what the exit status is.

use std::fs::File;
use std::process::{Command, Output, Stdio};

fn start_container() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_start-container"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    let output = start_container().args(words).output();
    output.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

#[test]
fn help_and_version_are_on_stdout() {
    for (words, start) in [
        (&[][..], "Usage: start-container VERB"),
        (&["--help"], "Usage: start-container VERB"),
        (
            &["subcontainer", "exec", "-h"],
            "Usage: start-container subcontainer exec",
        ),
        (
            &["--version"],
            concat!("start-container ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
    ] {
        let output = run(words);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(start), "{text}");
        assert_eq!(output.stderr, b"");
    }
}

#[test]
fn an_error_is_on_stderr_once_and_the_status_is_125() {
    for words in [
        &["subcontainer", "exec", "--evn=A=b", "/r", "c"][..],
        &["subcontainer", "launch"],
        &["subcontainer", "destroy-fs", "a\nb"],
        &["nonsense"],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(125));
        assert_eq!(output.stdout, b"");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("start-container: "), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].starts_with("  hint: "), "{text}");
    }
}

#[test]
fn text_that_cannot_be_written_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = start_container()
        .arg("--help")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("start-container: write to \"stdout\": ENOSPC"),
        "{text}"
    );
}

#[test]
fn a_name_of_the_program_is_not_needed() {
    use std::os::unix::process::CommandExt;
    let output = start_container()
        .arg0("")
        .arg("--version")
        .output()
        .unwrap();
    assert!(output.status.success());
}
