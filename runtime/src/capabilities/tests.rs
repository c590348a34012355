//! Names, numbers, lists and requests.

use super::*;

/// The kernel's numbers, from include/uapi/linux/capability.h.
const KERNEL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

#[test]
fn names_and_numbers_are_the_kernels() {
    let all: Vec<String> = Set::up_to(40).names().collect();
    assert_eq!(all, KERNEL);
    for (number, name) in KERNEL.iter().enumerate() {
        let set = Set(1 << number);
        assert_eq!(set.to_string(), *name);
        let bare = name.strip_prefix("CAP_").unwrap();
        for spelling in [
            (*name).to_owned(),
            bare.to_owned(),
            bare.to_lowercase(),
            name.to_lowercase().replace("cap_", "Cap_"),
        ] {
            let list = List::parse(&spelling).unwrap();
            assert_eq!((list.all, list.named), (false, set), "{spelling}");
        }
    }
}

#[test]
fn the_usual_fourteen() {
    assert_eq!(Set::USUAL.names().count(), 14);
    // As `CapBnd` shows it in a container of Docker.
    assert_eq!(Set::USUAL.bits(), 0xa804_25fb);
}

#[test]
fn all_is_what_the_kernel_has() {
    assert_eq!(Set::up_to(40).bits(), 0x01ff_ffff_ffff);
    assert_eq!(Set::up_to(0).bits(), 1);
    assert_eq!(Set::up_to(63).bits(), u64::MAX);
    assert_eq!(Set::up_to(200).bits(), u64::MAX);
    let newer = Set(1 << 41 | 1);
    assert_eq!(newer.to_string(), "CAP_CHOWN,41");
    let list = List::parse("all").unwrap();
    assert_eq!(list.resolve(Set::up_to(40)), Set::up_to(40));
    let list = List::parse("ALL,net_admin").unwrap();
    assert_eq!(list.resolve(Set::EMPTY).to_string(), "CAP_NET_ADMIN");
    assert!(List::default().is_empty() && !list.is_empty());
}

#[test]
fn requests_change_a_set_or_replace_it() {
    let list = |text: &str| match text {
        "" => List::default(),
        text => List::parse(text).unwrap(),
    };
    let all = Set::up_to(3);
    let before = Set::from_bits(0b0011);
    for (exact, add, drop, expected) in [
        (None, "", "", "CAP_CHOWN,CAP_DAC_OVERRIDE"),
        (None, "fowner", "", "CAP_CHOWN,CAP_DAC_OVERRIDE,CAP_FOWNER"),
        (None, "", "chown", "CAP_DAC_OVERRIDE"),
        (None, "", "ALL", ""),
        (None, "fowner", "ALL", "CAP_FOWNER"),
        (None, "fowner", "ALL,chown", "CAP_FOWNER"),
        (
            None,
            "ALL",
            "chown",
            "CAP_DAC_OVERRIDE,CAP_DAC_READ_SEARCH,CAP_FOWNER",
        ),
        (
            Some("ALL"),
            "",
            "",
            "CAP_CHOWN,CAP_DAC_OVERRIDE,CAP_DAC_READ_SEARCH,CAP_FOWNER",
        ),
        (Some("fowner"), "", "", "CAP_FOWNER"),
        (Some(""), "", "", ""),
    ] {
        let request = Request {
            exact: exact.map(list),
            add: list(add),
            drop: list(drop),
        };
        request.check().unwrap();
        let set = request.apply(before, all);
        assert_eq!(set.to_string(), expected, "{exact:?} +{add} -{drop}");
    }
    for (exact, add, drop, why) in [
        (Some("ALL"), "chown", "", "exclude each other"),
        (Some(""), "", "ALL", "exclude each other"),
        (None, "ALL", "ALL", "ALL is both added and dropped"),
        (
            None,
            "chown,kill",
            "net_raw,kill",
            "CAP_KILL is both added and dropped",
        ),
    ] {
        let request = Request {
            exact: exact.map(list),
            add: list(add),
            drop: list(drop),
        };
        let wrong = request.check().unwrap_err();
        assert!(wrong.why.contains(why), "{wrong:?}");
    }
}

#[test]
fn what_is_no_capability_is_named_with_the_nearest() {
    for (text, what, hint) in [
        (
            "NET_ADMN",
            "NET_ADMN is no capability",
            "did you mean NET_ADMIN?",
        ),
        (
            "chown,sysadmin",
            "sysadmin is no capability",
            "did you mean SYS_ADMIN?",
        ),
        (
            "CAP_NET_RAV",
            "CAP_NET_RAV is no capability",
            "did you mean NET_RAW?",
        ),
        ("al", "al is no capability", "did you mean ALL?"),
        ("CAP_ALL", "CAP_ALL is no capability", "did you mean ALL?"),
        (
            "elephant",
            "elephant is no capability",
            "give names of capabilities(7)",
        ),
        ("CAP_CAP_CHOWN", "is no capability", "give names"),
        ("", "a name is empty", "give names"),
        ("chown,", "a name is empty", "give names"),
        (" chown", " chown is no capability", "did you mean CHOWN?"),
        ("21", "21 is no capability", "give names"),
    ] {
        let wrong = List::parse(text).unwrap_err();
        assert!(wrong.why.contains(what), "{text:?}: {wrong:?}");
        assert!(wrong.hint.contains(hint), "{text:?}: {wrong:?}");
    }
}
