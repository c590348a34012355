//! Profile files: what they mean.

use super::super::abi::Abi;
use super::super::profile::{self, Fault, Surroundings};
use super::super::{compile, from_profile};
use super::{SYS_ADMIN, USUAL, machine, verdict, verdict_of};

pub(super) const HERE: &str = "x86_64";

pub(super) fn filter(text: &str, arch: &str, capabilities: u64) -> Result<(Vec<u8>, u32), Fault> {
    asking(text, arch, capabilities, false)
}

/// The same where somebody may be asked about calls.
fn asking(
    text: &str,
    arch: &str,
    capabilities: u64,
    may_notify: bool,
) -> Result<(Vec<u8>, u32), Fault> {
    let profile = profile::parse(text.as_bytes())?;
    let here = Surroundings {
        machine: machine(arch),
        capabilities,
        kernel: (6, 1),
        may_notify,
    };
    let (rules, flags) = from_profile::rules(&profile, here)?;
    Ok((compile(&rules)?, flags))
}

/// A profile that refuses everything but execve, with these entries.
pub(super) fn strict(entries: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}}, {entries}]}}"#
    )
}

/// One that allows everything, with these entries.
pub(super) fn loose(entries: &str) -> String {
    format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{entries}]}}"#)
}

fn check(text: &str, table: &[(&str, &[u64], &str)]) {
    let (program, _) =
        filter(text, HERE, USUAL).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
    for (call, args, expected) in table {
        assert_eq!(
            verdict(&program, Abi::X86_64, call, args),
            *expected,
            "{call} {args:x?}: {text}"
        );
    }
}

#[test]
fn every_action() {
    for (action, expected) in [
        (r#""SCMP_ACT_KILL""#, "THREAD"),
        (r#""SCMP_ACT_KILL_THREAD""#, "THREAD"),
        (r#""SCMP_ACT_KILL_PROCESS""#, "PROCESS"),
        (r#""SCMP_ACT_TRAP""#, "TRAP"),
        (r#""SCMP_ACT_ERRNO""#, "EPERM"),
        (r#""SCMP_ACT_ERRNO", "errnoRet": 22"#, "EINVAL"),
        (r#""SCMP_ACT_ERRNO", "errno": "EINVAL""#, "EINVAL"),
        (
            r#""SCMP_ACT_ERRNO", "errno": "EINVAL", "errnoRet": 1"#,
            "EINVAL",
        ),
        (r#""SCMP_ACT_TRACE", "errnoRet": 7"#, "TRACE7"),
        (r#""SCMP_ACT_LOG""#, "LOG"),
        (r#""SCMP_ACT_ALLOW""#, "ALLOW"),
    ] {
        let text = loose(&format!(r#"{{"names": ["mount"], "action": {action}}}"#));
        check(&text, &[("mount", &[], expected), ("read", &[], "ALLOW")]);
        if expected != "ALLOW" {
            let text = format!(
                r#"{{"defaultAction": {}, "syscalls": [{{"names": ["execve", "mseal"], "action": "SCMP_ACT_ALLOW"}}]}}"#,
                action
                    .replace("errnoRet", "defaultErrnoRet")
                    .replace("\"errno\"", "\"defaultErrno\"")
            );
            check(&text, &[("mount", &[], expected), ("execve", &[], "ALLOW")]);
        }
    }
}

/// Numbers that the profile's author could not know: whoever lets the rest through, or asks about it, means them too.
#[test]
fn unknown_numbers_go_the_way_of_a_default_that_may_permit() {
    for (action, expected) in [
        (r#""SCMP_ACT_ALLOW""#, "ALLOW"),
        (r#""SCMP_ACT_LOG""#, "LOG"),
        (r#""SCMP_ACT_TRACE", "defaultErrnoRet": 7"#, "TRACE7"),
        (r#""SCMP_ACT_ERRNO""#, "ENOSYS"),
        (r#""SCMP_ACT_KILL_PROCESS""#, "ENOSYS"),
    ] {
        let text = format!(
            r#"{{"defaultAction": {action}, "syscalls": [{{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        );
        let (program, _) = filter(&text, HERE, USUAL).expect("filter");
        assert_eq!(
            verdict_of(&program, Abi::X86_64.audit(), 4095, &[]),
            expected,
            "{action}"
        );
    }
}

#[test]
fn every_operator() {
    for (op, value, two, fits, not) in [
        ("NE", 5, 0, 6, 5),
        ("LT", 5, 0, 4, 5),
        ("LE", 5, 0, 5, 6),
        ("EQ", 5, 0, 5, 1 << 32 | 5),
        ("GE", 5, 0, 1 << 32, 4),
        ("GT", 5, 0, 6, 5),
        ("MASKED_EQ", 0xf0, 0x50, 0x15f, 0x60),
    ] {
        let arg = format!(
            r#"{{"index": 1, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}"}}"#
        );
        let text = strict(&format!(
            r#"{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{arg}]}}"#
        ));
        check(
            &text,
            &[
                ("ioctl", &[not, fits], "ALLOW"),
                ("ioctl", &[fits, not], "EPERM"),
            ],
        );
    }
}

#[test]
fn comparisons_in_one_entry_must_all_hold_and_entries_are_alternatives() {
    let eq = |index: u32, value: u64| {
        format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#)
    };
    let entry = |args: &[String]| {
        let args = args.join(",");
        format!(r#"{{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}"#)
    };
    let both = strict(&entry(&[eq(2, 6), eq(0, 1)]));
    check(
        &both,
        &[
            ("socket", &[1, 0, 6], "ALLOW"),
            ("socket", &[1], "EPERM"),
            ("socket", &[0, 0, 6], "EPERM"),
        ],
    );
    let either = strict(&[entry(&[eq(0, 1)]), entry(&[eq(2, 6)])].join(","));
    check(
        &either,
        &[
            ("socket", &[1], "ALLOW"),
            ("socket", &[0, 0, 6], "ALLOW"),
            ("socket", &[0], "EPERM"),
        ],
    );
    // Twice the same argument: all of the entry's comparisons are alternatives, as in runc.
    let repeated = strict(&entry(&[eq(0, 1), eq(0, 2), eq(2, 6)]));
    check(
        &repeated,
        &[
            ("socket", &[1], "ALLOW"),
            ("socket", &[2], "ALLOW"),
            ("socket", &[3, 0, 6], "ALLOW"),
            ("socket", &[3], "EPERM"),
        ],
    );
}

#[test]
fn an_entry_without_arguments_decides() {
    let some = r#"{"names": ["socket"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#;
    let all = r#"{"names": ["socket"], "action": "SCMP_ACT_LOG"}"#;
    for entries in [format!("{some},{all}"), format!("{all},{some}")] {
        check(
            &strict(&entries),
            &[("socket", &[1], "LOG"), ("socket", &[2], "LOG")],
        );
    }
    // The first of several; and one that says what the default does is passed over.
    let kill = r#"{"names": ["socket"], "action": "SCMP_ACT_KILL"}"#;
    check(
        &strict(&format!("{all},{kill}")),
        &[("socket", &[1], "LOG")],
    );
    let same = r#"{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}"#;
    check(
        &strict(&format!("{some},{same}")),
        &[("socket", &[1], "TRAP"), ("socket", &[2], "EPERM")],
    );
}

#[test]
fn what_the_author_did_not_know_is_enosys() {
    let number = |text: &str, number| {
        let (program, _) = filter(text, HERE, USUAL).expect(text);
        verdict_of(&program, Abi::X86_64.audit(), number, &[])
    };
    // 332 is statx, the highest that is named, also where its entry says what the default does.
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"] {
        let text = strict(&format!(r#"{{"names": ["statx"], "action": "{action}"}}"#));
        assert_eq!(number(&text, 331), "EPERM");
        assert_eq!(number(&text, 333), "ENOSYS");
        assert_eq!(number(&text, 4095), "ENOSYS");
    }
    let deny = loose(r#"{"names": ["statx"], "action": "SCMP_ACT_ERRNO"}"#);
    assert_eq!(number(&deny, 332), "EPERM");
    assert_eq!(number(&deny, 4095), "ALLOW");
    assert_eq!(number(&deny, 0x4000_0000 | 39), "ENOSYS");
}

#[test]
fn architectures() {
    let entry = r#""syscalls": [{"names": ["execve", "getpid"], "action": "SCMP_ACT_ALLOW"}]"#;
    for (architectures, i386) in [
        (
            r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],"#,
            "ALLOW",
        ),
        (r#""architectures": ["SCMP_ARCH_X86_64"],"#, "PROCESS"),
        (
            r#""architectures": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],"#,
            "PROCESS",
        ),
        (r#""architectures": null,"#, "PROCESS"),
        (
            r#""archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],"#,
            "ALLOW",
        ),
        (
            r#""archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_X86"]}],"#,
            "PROCESS",
        ),
        (
            r#""archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null}],"#,
            "PROCESS",
        ),
        ("", "PROCESS"),
    ] {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", {architectures} {entry}}}"#);
        let (program, _) = filter(&text, HERE, USUAL).expect(&text);
        assert_eq!(
            verdict(&program, Abi::X86_64, "getpid", &[]),
            "ALLOW",
            "{text}"
        );
        assert_eq!(verdict(&program, Abi::I386, "getpid", &[]), i386, "{text}");
        let (arm, _) = filter(&text, "aarch64", USUAL).expect(&text);
        let expected = if text.contains("ARM") {
            "ENOSYS"
        } else {
            "PROCESS"
        };
        assert_eq!(
            verdict_of(&arm, Abi::Arm.audit(), 20, &[]),
            expected,
            "{text}"
        );
    }
}

#[test]
fn i386_compares_32_bits_and_looks_behind_socketcall() {
    let text = strict(
        r#"{"names": ["connect", "shmat"], "action": "SCMP_ACT_ALLOW"},
           {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 4294967301, "op": "SCMP_CMP_EQ"}]},
           {"names": ["socket"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]}"#,
    );
    let (program, _) = filter(&text, HERE, USUAL).expect(&text);
    for (call, args, expected) in [
        ("connect", &[][..], "ALLOW"),
        ("socketcall", &[3], "ALLOW"),
        ("socketcall", &[2], "EPERM"),
        // Its domain cannot be seen there, so all of them are meant.
        ("socketcall", &[1, 1], "TRAP"),
        ("socket", &[40], "TRAP"),
        ("socket", &[1], "EPERM"),
        ("ipc", &[21], "ALLOW"),
        ("ipc", &[1], "EPERM"),
        ("ioctl", &[0, 5], "ALLOW"),
        ("ioctl", &[0, 6], "EPERM"),
    ] {
        assert_eq!(
            verdict(&program, Abi::I386, call, args),
            expected,
            "{call} {args:?}"
        );
    }
}

#[test]
fn entries_for_some_surroundings() {
    let program = |condition: &str, capabilities| {
        let text = strict(&format!(
            r#"{{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "comment": "x", {condition}}},
                {{"names": ["statx"], "action": "SCMP_ACT_ALLOW"}}"#
        ));
        let (program, _) =
            filter(&text, HERE, capabilities).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
        verdict(&program, Abi::X86_64, "mount", &[])
    };
    for (condition, without, with) in [
        (
            r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#,
            "EPERM",
            "ALLOW",
        ),
        (
            r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_BOOT"]}"#,
            "EPERM",
            "EPERM",
        ),
        (
            r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_BOOT"]}"#,
            "ALLOW",
            "EPERM",
        ),
        (
            r#""includes": {"arches": ["amd64", "x32"]}"#,
            "ALLOW",
            "ALLOW",
        ),
        (r#""includes": {"arches": ["s390x"]}"#, "EPERM", "EPERM"),
        (r#""excludes": {"arches": ["amd64"]}"#, "EPERM", "EPERM"),
        (
            r#""includes": {"minKernel": "4.8"}, "excludes": {}"#,
            "ALLOW",
            "ALLOW",
        ),
        (r#""includes": {"minKernel": "6.2"}"#, "EPERM", "EPERM"),
        (r#""excludes": {"minKernel": "6.1"}"#, "EPERM", "EPERM"),
    ] {
        assert_eq!(program(condition, USUAL), without, "{condition}");
        assert_eq!(program(condition, USUAL | SYS_ADMIN), with, "{condition}");
    }
}

#[test]
fn names_of_other_machines_are_passed_over() {
    let names = r#"{"names": ["s390_pci_mmio_read", "swapcontext", "riscv_flush_icache", "waitpid", "send"], "action": "SCMP_ACT_ALLOW"}"#;
    check(&strict(names), &[("read", &[], "EPERM")]);
}

#[test]
fn flags() {
    for (flags, expected) in [
        ("", 4),
        (r#""flags": [],"#, 0),
        (r#""flags": ["SECCOMP_FILTER_FLAG_LOG"],"#, 2),
        (
            r#""flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],"#,
            4,
        ),
    ] {
        let text = format!(r#"{{{flags} "defaultAction": "SCMP_ACT_ALLOW"}}"#);
        assert_eq!(
            filter(&text, HERE, USUAL).expect(&text).1,
            expected,
            "{text}"
        );
    }
}

#[test]
fn somebody_is_asked_about_calls_that_are_named() {
    const LISTENER: u32 = 1 << 3;
    const WAIT: u32 = 1 << 5;
    let asked = r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#;
    let of = |text: &str| asking(text, HERE, USUAL, true);
    let (program, flags) = of(&loose(asked)).unwrap();
    assert_eq!(verdict(&program, Abi::X86_64, "mkdir", &[]), "NOTIFY");
    assert_eq!(verdict(&program, Abi::X86_64, "rmdir", &[]), "ALLOW");
    assert_eq!(flags & (LISTENER | WAIT), LISTENER);
    let killable = r#""flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls""#;
    let with = |text: String| of(&text.replace(r#""syscalls""#, killable)).unwrap().1;
    assert_eq!(with(loose(asked)) & (LISTENER | WAIT), LISTENER | WAIT);
    assert_eq!(with(loose("")) & (LISTENER | WAIT), 0);
    for (text, place) in [
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(),
            "defaultAction",
        ),
        (
            loose(r#"{"names": ["mkdir", "write"], "action": "SCMP_ACT_NOTIFY"}"#),
            "syscalls[0]",
        ),
    ] {
        let fault = of(&text).unwrap_err();
        assert_eq!(fault.entry.as_deref(), Some(place));
        assert!(fault.why.contains("write"), "{fault:?}");
    }
}
