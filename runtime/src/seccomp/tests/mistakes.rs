//! Profile files that are refused: what is wrong, in which entry or line, and what the error says about it.

use super::USUAL;
use super::files::{HERE, filter, loose, strict};
use crate::seccomp::from_file;

fn refused(text: &str, place: Option<&str>, words: &[&str]) {
    let fault = filter(text, HERE, USUAL).expect_err(text);
    assert_eq!(fault.entry.as_deref(), place, "{fault:?}: {text}");
    let said = format!("{} {}", fault.why, fault.hint);
    for word in words {
        assert!(said.contains(word), "{said:?} without {word:?}: {text}");
    }
}

#[test]
fn in_the_profile() {
    for (text, place, words) in [
        ("", Some("line 1"), &["EOF"][..]),
        ("[]", Some("line 1"), &["Profile"]),
        ("{}", Some("line 1"), &["defaultAction"]),
        (
            r#"{"defaultAction": "SCMP_ACT_ALOW"}"#,
            Some("line 1"),
            &["SCMP_ACT_ALOW"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}"#,
            Some("line 1"),
            &["sycalls"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW"} x"#,
            Some("line 1"),
            &["trailing"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            Some("defaultAction"),
            &["not supported"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/s"}"#,
            Some("listenerPath"),
            &["not supported"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            Some("flags"),
            &["not supported"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}"#,
            Some("line 1"),
            &["x86"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            Some("archMap"),
            &["both"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#,
            Some("defaultAction"),
            &["execve is refused"],
        ),
        (
            &loose(r#"{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}"#),
            Some("syscalls[0]"),
            &["execve is refused"],
        ),
        (
            &loose(r#"{"names": ["execve"], "action": "SCMP_ACT_TRACE"}"#),
            Some("syscalls[0]"),
            &["execve is refused"],
        ),
    ] {
        refused(text, place, words);
    }
}

#[test]
fn in_an_entry() {
    for (text, place, words) in [
        (
            &strict(r#"{"names": ["read", "mout"], "action": "SCMP_ACT_ALLOW"}"#),
            Some("syscalls[1]"),
            &["\"mout\"", "did you mean mount?"][..],
        ),
        (
            &strict(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#),
            Some("syscalls[1]"),
            &["no names"],
        ),
        (
            &strict(r#"{"action": "SCMP_ACT_ALLOW"}"#),
            Some("syscalls[1]"),
            &["no names"],
        ),
        (
            &strict(r#"{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}"#),
            Some("syscalls[1]"),
            &["both name and names"],
        ),
        (
            &strict(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#),
            Some("syscalls[1]"),
            &["not supported"],
        ),
        (
            &strict(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#),
            Some("syscalls[1]"),
            &["4096", "4095"],
        ),
        (
            &strict(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EPREM"}"#),
            Some("syscalls[1]"),
            &["EPREM"],
        ),
        (
            &strict(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            Some("syscalls[1]"),
            &["index 6"],
        ),
        (
            &strict(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_LIKE"}]}"#,
            ),
            Some("line 2"),
            &["SCMP_CMP_LIKE"],
        ),
        (
            &strict(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"caps": ["CAP_SYS_ADMN"]}}"#,
            ),
            Some("syscalls[1]"),
            &["CAP_SYS_ADMN", "did you mean CAP_SYS_ADMIN?"],
        ),
        (
            &strict(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["x86_64"]}}"#,
            ),
            Some("syscalls[1]"),
            &["x86_64"],
        ),
        (
            &strict(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}"#,
            ),
            Some("syscalls[1]"),
            &["new"],
        ),
        (
            &strict(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
                   {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            Some("syscalls[2]"),
            &["\"read\"", "another action"],
        ),
    ] {
        refused(text, place, words);
    }
}

#[test]
fn a_profile_that_needs_too_many_instructions() {
    let args = |value| format!(r#"[{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]"#);
    let entries: Vec<String> = (0..600)
        .map(|value| {
            format!(
                r#"{{"names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": {}}}"#,
                args(value)
            )
        })
        .collect();
    let fault = filter(&strict(&entries.join(",")), HERE, USUAL).expect_err("too long");
    assert!(fault.why.contains("the kernel takes 4096"), "{fault:?}");
}

/// What is no profile to be read, by path.
#[test]
fn bad_files() {
    let dir = std::env::temp_dir().join(format!("seccomp-files-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("directory");
    let huge = dir.join("huge.json");
    let file = std::fs::File::create(&huge).expect("file");
    file.set_len((1 << 20) + 1).expect("size");
    let fifo = dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("fifo");
    let binary = dir.join("binary");
    std::fs::write(&binary, b"\x80\xff").expect("write");
    let refused = |path: &std::path::Path| {
        let error = from_file(path, USUAL).expect_err("refused").to_string();
        assert!(
            error.starts_with(&format!("read seccomp profile {path:?}")),
            "{error}"
        );
        assert_eq!(error.lines().count(), 2, "{error}");
        error
    };
    assert!(refused(&huge).contains("larger than"));
    assert!(refused(&fifo).contains("FIFO"));
    assert!(refused(&dir).contains("a directory"));
    assert!(refused(&dir.join("missing")).contains("ENOENT"));
    assert!(refused("/dev/null".as_ref()).contains("a character device"));
    refused(&binary);
    std::fs::remove_dir_all(&dir).expect("remove");
}
