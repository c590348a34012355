//! Command lines that are refused, and what the messages say.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::words;
use crate::cli::parse::parse;

/// The message of a command line that must be refused: status 125, one line and a hint line.
fn refused(words: Vec<OsString>) -> String {
    let error = parse(words.clone()).expect_err(&format!("{words:?}"));
    assert_eq!(error.exit_status(), 125, "{words:?}");
    let text = error.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].starts_with("  hint: "), "{text}");
    assert!(text.len() < 600, "{text}");
    text
}

/// A line, and what its message must contain.
const WRONG: &[(&str, &[&str])] = &[
    (
        "subcontainer",
        &[
            "\"subcontainer\": a verb is missing",
            "launch, run, exec, inspect, create-fs, destroy-fs",
        ],
    ),
    ("image", &["a verb is missing", "import"]),
    (
        "subcontainr launch",
        &[
            "\"subcontainr\": no such verb",
            "did you mean subcontainer?",
        ],
    ),
    (
        "subcontainer lauch /r",
        &[
            "\"subcontainer lauch\"",
            "did you mean subcontainer launch?",
        ],
    ),
    ("exec /r c", &["did you mean subcontainer exec?"]),
    ("import x", &["did you mean image import?"]),
    ("subcontainer import x", &["did you mean image import?"]),
    ("image bind-mount", &["did you mean bind-mount?"]),
    (
        "zzzzzzzz",
        &["give one of: subcontainer, image, bind-mount, pipe-wrap, help"],
    ),
    (
        "--verison",
        &["no such option before the verb", "did you mean --version?"],
    ),
    (
        "--base=/b subcontainer exec",
        &["no such option before the verb"],
    ),
    (
        "help subcontainer lauch",
        &["did you mean subcontainer launch?"],
    ),
    ("help nothing", &["no such verb"]),
    (
        "subcontainer launch",
        &[
            "\"subcontainer launch\": ROOTFS is missing",
            "usage: start-container subcontainer launch",
        ],
    ),
    ("subcontainer exec", &["ROOTFS is missing"]),
    ("subcontainer exec /r", &["COMMAND is missing"]),
    ("subcontainer exec /r --", &["COMMAND is missing"]),
    (
        "subcontainer exec --envfile=x /r c",
        &[
            "\"--envfile\": subcontainer exec has no such option",
            "did you mean --env-file?",
        ],
    ),
    ("subcontainer exec --usr x /r c", &["did you mean --user?"]),
    (
        "subcontainer exec --init /r c",
        &["subcontainer exec has no such option"],
    ),
    (
        "subcontainer exec -x /r c",
        &["\"-x\"", "see start-container subcontainer exec --help"],
    ),
    ("subcontainer exec /r -x c", &["\"-x\""]),
    (
        "subcontainer exec --force-tty=yes /r c",
        &["\"--force-tty\": takes no value", "give --force-tty alone"],
    ),
    (
        "subcontainer exec /r --user",
        &[
            "\"--user\": its value is missing",
            "give --user=USER[:GROUP]",
        ],
    ),
    ("subcontainer exec -e", &["\"--env\": its value is missing"]),
    (
        "subcontainer exec --user= /r c",
        &["the user or the group is empty"],
    ),
    (
        "subcontainer exec --user=01 /r c",
        &["\"01\": a number with a leading zero"],
    ),
    (
        "subcontainer exec --workdir= /r c",
        &["\"--workdir\": the value is empty"],
    ),
    (
        "subcontainer exec --env-file= /r c",
        &["\"--env-file\": the value is empty"],
    ),
    (
        "subcontainer exec --base= /r c",
        &["\"--base\": the value is empty"],
    ),
    (
        "subcontainer exec --pty-size=24 /r c",
        &["\"--pty-size\": \"24\" is no terminal size"],
    ),
    (
        "subcontainer exec --format=json /r c",
        &["\"--format\"", "give both"],
    ),
    (
        "subcontainer exec --dry-run --format=jsno /r c",
        &["did you mean json?"],
    ),
    (
        "subcontainer launch --userns=private /r",
        &[
            "private is not one of its values",
            "give host, identity, auto or",
        ],
    ),
    (
        "subcontainer create-fs --userns=0:100:10,5:200:1 main",
        &["0:100:10 and 5:200:1", "share an id"],
    ),
    (
        "subcontainer launch --mount=type=tmpfs /r",
        &["read mount \"type=tmpfs\": dst is missing"],
    ),
    (
        "subcontainer launch --share=dve /r",
        &["read share \"dve\"", "did you mean dev?"],
    ),
    (
        "subcontainer launch --resolv-conf= /r",
        &["\"--resolv-conf\": the value is empty"],
    ),
    (
        "subcontainer mount",
        &[
            "\"subcontainer mount\": a verb is missing",
            "give one of: add, rm, list",
        ],
    ),
    (
        "subcontainer mount lst /r",
        &["did you mean subcontainer mount list?"],
    ),
    (
        "subcontainer mout add /r",
        &["did you mean subcontainer mount?"],
    ),
    ("subcontainer mount add /r", &["MOUNT is missing"]),
    (
        "subcontainer mount rm /r proc",
        &["use mount target \"proc\": it is not absolute"],
    ),
    ("subcontainer mount rm /r /proc/kcore", &["it is in /proc"]),
    ("subcontainer mount rm /r / --json", &["no such option"]),
    (
        "subcontainer launch --profile=hardend /r",
        &[
            "\"--profile\": hardend is not one of its values",
            "did you mean hardened?",
        ],
    ),
    (
        "subcontainer launch --profile=strict /r",
        &["give confined, outer, hardened or none"],
    ),
    (
        "subcontainer launch --profile= /r",
        &["\"--profile\"", "give confined"],
    ),
    (
        "subcontainer launch --cap-add=NET_ADMN /r",
        &[
            "read option \"--cap-add\": NET_ADMN is no capability",
            "did you mean NET_ADMIN?",
        ],
    ),
    (
        "subcontainer launch --cap-drop=chown, /r",
        &["\"--cap-drop\": a name is empty"],
    ),
    (
        "subcontainer launch --cap= /r",
        &["\"--cap\": a name is empty"],
    ),
    (
        "subcontainer launch --cap=ALL --cap-drop=MKNOD /r",
        &[
            "read options \"--cap, --cap-add, --cap-drop\": the exact set",
            "give the whole set",
        ],
    ),
    (
        "subcontainer launch --cap-add=mknod,kill --cap-drop=CAP_MKNOD /r",
        &["CAP_MKNOD is both added and dropped", "not both"],
    ),
    (
        "subcontainer launch --cap-add=ALL --cap-drop=all /r",
        &["ALL is both added and dropped"],
    ),
    (
        "subcontainer launch --seccomp=unconfind /r",
        &[
            "\"--seccomp\": unconfind is not one of its values",
            "did you mean unconfined?",
        ],
    ),
    (
        "subcontainer launch --seccomp=profile.json /r",
        &["or a path with a slash in it"],
    ),
    ("subcontainer launch --seccomp= /r", &["\"--seccomp\""]),
    (
        "subcontainer launch --readonly /r",
        &["did you mean --read-only?"],
    ),
    (
        "subcontainer launch --no-new-privs /r",
        &["did you mean --no-new-privileges?"],
    ),
    (
        "subcontainer launch --read-only=yes /r",
        &["takes no value"],
    ),
    (
        "subcontainer exec --cap-add=NET_ADMIN /r c",
        &["subcontainer exec has no such option"],
    ),
    ("subcontainer inspect", &["ROOTFS is missing"]),
    ("subcontainer inspect /r x", &["unexpected operand x"]),
    (
        "subcontainer inpsect /r",
        &["did you mean subcontainer inspect?"],
    ),
    ("subcontainer create-fs", &["IMAGE_ID is missing"]),
    (
        "subcontainer create-fs ../x",
        &["use image id \"../x\": begins with a dot"],
    ),
    ("subcontainer create-fs a b c", &["unexpected operand c"]),
    ("subcontainer create-fs -- -rf", &["begins with a dash"]),
    ("subcontainer destroy-fs", &["GUID is missing"]),
    ("subcontainer destroy-fs a/b", &["use guid \"a/b\""]),
    ("subcontainer destroy-fs a --force", &["\"--force\""]),
    ("image import", &["SOURCE is missing"]),
    ("image import x", &["\"--id\": it is required"]),
    ("image import x --id=a/b", &["use image id \"a/b\""]),
    ("image import x y --id=a", &["unexpected operand y"]),
    (
        "image import x --id=a --ref=",
        &["\"--ref\": the value is empty"],
    ),
    (
        "image import x --all --id=a",
        &["\"--all\": --id is for one image"],
    ),
    (
        "image import x --all --ref=a",
        &["\"--all\": --ref is for one image"],
    ),
    (
        "image import x --id=a --max-size=0",
        &["\"--max-size\"", "no limit", "or none"],
    ),
    (
        "image import x --id=a --max-files=-1",
        &["\"--max-files\"", "no limit"],
    ),
    (
        "image import x --id=a --progress=yes",
        &["\"--progress\": ", "auto, bar, json or none"],
    ),
    ("bind-mount", &["\"--source\": it is required"]),
    ("bind-mount --source=/s", &["\"--target\": it is required"]),
    (
        "bind-mount --source= --target=/t",
        &["\"--source\": the value is empty"],
    ),
    (
        "bind-mount --source=/s --target=/t /x",
        &["unexpected operand /x"],
    ),
    (
        "bind-mount --source=/s --target=/t --idmap=0:0:0",
        &["the range of 0:0:0 is zero"],
    ),
    (
        "bind-mount --source=/s --target=/t --idmap=0:0:10 --idmap=9:50",
        &["9:50 maps ids on disk"],
    ),
    ("pipe-wrap", &["COMMAND is missing"]),
    ("pipe-wrap --", &["COMMAND is missing"]),
    ("pipe-wrap --user=x c", &["pipe-wrap has no such option"]),
];

#[test]
fn wrong_lines_say_what_and_what_to_do() {
    for (line, parts) in WRONG {
        let text = refused(words(line));
        for part in *parts {
            assert!(text.contains(part), "{line}: {part:?} in {text}");
        }
    }
}

#[test]
fn empty_and_broken_words_are_refused() {
    for (before, after, part) in [
        ("subcontainer exec", "c", "ROOTFS is empty"),
        ("subcontainer launch", "", "ROOTFS is empty"),
        ("subcontainer exec /r", "x", "COMMAND is empty"),
        ("subcontainer exec /r --", "", "COMMAND is empty"),
        ("subcontainer launch /r", "", "COMMAND is empty"),
        ("pipe-wrap", "", "COMMAND is empty"),
        ("subcontainer create-fs", "", "IMAGE_ID is empty"),
        ("image import --id=a", "", "SOURCE is empty"),
        ("subcontainer", "", "no such verb"),
        ("", "", "no such verb"),
    ] {
        let mut line = words(before);
        line.push("".into());
        line.extend(words(after));
        let text = refused(line);
        assert!(text.contains(part), "{before:?}: {text}");
    }
    for before in [
        "",
        "subcontainer",
        "subcontainer destroy-fs",
        "subcontainer create-fs",
        "subcontainer create-fs a",
    ] {
        for bytes in [&b"\xff"[..], b"--\xff", b"a\nb"] {
            let mut line = words(before);
            line.push(OsStr::from_bytes(bytes).to_owned());
            refused(line);
        }
    }
    let long = OsString::from(format!("--{}", "x".repeat(120_000)));
    refused([words("subcontainer exec"), vec![long]].concat());
}

#[test]
fn no_message_tells_the_value_of_a_variable() {
    for line in [
        "subcontainer exec --env hunter2 /r c",
        "subcontainer exec --env=hunter2 /r c",
        "subcontainer exec -ehunter2 /r c",
        "subcontainer exec --env==hunter2 /r c",
        "subcontainer exec --evn=A=hunter2 /r c",
        "subcontainer exec --force-tty=hunter2 /r c",
        "subcontainer exec -xA=hunter2 /r c",
        "subcontainer exec --env=A=hunter2 /r",
    ] {
        let text = refused(words(line));
        assert!(!text.contains("hunter2"), "{text}");
    }
    let args = parse(words("subcontainer exec --env=A=hunter2 /r c hunter2"));
    assert!(!format!("{args:?}").contains("hunter2"));
}

/// No sequence of plausible words makes the parser fail in any other way than with an error.
#[test]
fn any_words_end_in_a_value_or_an_error() {
    let pieces = [
        "subcontainer",
        "exec",
        "launch",
        "--",
        "-",
        "",
        "--env",
        "--env=",
        "A=1",
        "-e",
        "-eA=1",
        "--force-tty",
        "--force-tty=1",
        "--user",
        "root",
        "/r",
        "--help",
        "-hx",
        "--idmap=0:0",
        "bind-mount",
        "---",
        "-=",
        "--=",
        "--=x",
    ];
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut line = Vec::new();
        for _ in 0..(state >> 60) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let pick = usize::try_from(state >> 33).unwrap() % pieces.len();
            line.push(OsString::from(pieces[pick]));
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        for start in [&[][..], &["subcontainer", "exec"], &["bind-mount"]] {
            let words = start.iter().map(OsString::from).chain(line.iter().cloned());
            if let Err(error) = parse(words) {
                assert!(error.to_string().contains("hint: "), "{line:?}: {error}");
            }
        }
    }
}
