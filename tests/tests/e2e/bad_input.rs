//! Bad input: one line that says what, on which object, and one that says what to do; the right exit code; nothing
//! changed, nothing left. One table per verb.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;

use tests::{Rootfs, Run, Snapshot, World, write_file};

/// A call that has to be refused, and a piece of text that the message has to have.
pub(crate) struct Case {
    run: Run,
    codes: &'static [i32],
    says: String,
}

pub(crate) fn case(run: Run, says: impl Into<String>) -> Case {
    Case {
        run,
        codes: &[125],
        says: says.into(),
    }
}

pub(crate) fn refuse_all(world: &World, cases: Vec<Case>) {
    let before = Snapshot::of(world);
    for Case { run, codes, says } in cases {
        let done = run.done();
        done.expect_refused(codes);
        let text = done.err_text();
        assert!(
            text.contains(&says),
            "{}: does not name {says:?}: {text}",
            done.what
        );
        before.assert_same(world);
    }
}

/// Malformed values of the options that launch and exec share.
fn process_options(call: impl Fn() -> Run) -> Vec<Case> {
    let mut cases = Vec::new();
    for env in ["", "=v", "novalue", "="] {
        cases.push(case(
            call().opt(format!("--env={env}")).cmd(["true"]),
            "hint: give NAME=VALUE",
        ));
    }
    for size in [
        "",
        "1",
        "1:",
        ":1",
        "1:2:3",
        "1:2:3:4:5",
        "a:b",
        "-1:2",
        "65536:1",
        "1:65536",
        "1:2:65536:0",
        "1 :2",
        "0x1:2",
        "1:2:",
        "+1:2",
    ] {
        cases.push(case(
            call()
                .opt(format!("--pty-size={size}"))
                .opt("--force-tty")
                .cmd(["true"]),
            "--pty-size",
        ));
    }
    for user in [
        "",
        ":",
        "1:",
        ":1",
        "-1",
        "+1",
        "01",
        "0x1",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "1:2:3",
        "no-such-user",
        "root:no-such-group",
        "1:4294967295",
        "1:-1",
        "a\nb",
        "root ",
    ] {
        cases.push(case(
            call().opt(format!("--user={user}")).cmd(["true"]),
            "user",
        ));
    }
    cases.push(case(
        call().opt("--env-file=/no/such/file").cmd(["true"]),
        "/no/such/file",
    ));
    cases.push(case(call().opt("--env-file=").cmd(["true"]), "--env-file"));
    cases.push(case(call().opt("--env-file=/tmp").cmd(["true"]), "/tmp"));
    cases.push(case(
        call().opt("--env-file=/etc/passwd/x").cmd(["true"]),
        "/etc/passwd/x",
    ));
    cases.push(case(call().opt("--workdir=").cmd(["true"]), "workdir"));
    cases.push(case(
        call().opt("--workdir=/no/such/directory").cmd(["true"]),
        "/no/such/directory",
    ));
    cases.push(case(
        call().opt("--no-such-option").cmd(["true"]),
        "--no-such-option",
    ));
    cases.push(case(call().opt("-z").cmd(["true"]), "-z"));
    cases.push(case(
        call().opt("--force-tty=yes").cmd(["true"]),
        "--force-tty",
    ));
    cases.push(case(
        call().opt("--format=xml").opt("--dry-run").cmd(["true"]),
        "--format",
    ));
    cases.push(case(call().opt("--base=").cmd(["true"]), "--base"));
    let not_found: &[i32] = &[127];
    for command in ["no-such-command", "/no/such/command"] {
        cases.push(Case {
            run: call().cmd([command]),
            codes: not_found,
            says: command.into(),
        });
    }
    cases.push(Case {
        run: call().cmd([""]),
        codes: &[125, 127],
        says: String::new(),
    });
    cases.push(Case {
        run: call().cmd(["/etc"]),
        codes: &[126],
        says: "/etc".into(),
    });
    cases.push(Case {
        run: call().cmd(["/etc/passwd"]),
        codes: &[126],
        says: "/etc/passwd".into(),
    });
    cases
}

/// Root filesystems that are none.
fn roots(world: &World, call: impl Fn(&str) -> Run) -> Vec<Case> {
    let file = world.dir.join("file");
    write_file(&file, "");
    let file = file.to_str().expect("path");
    let deep = format!("/{}", "x/".repeat(2100));
    let long = format!("/tmp/{}", "x".repeat(300));
    let mut cases: Vec<Case> = ["/no/such/rootfs", file, "/dev/null"]
        .into_iter()
        .map(|root| case(call(root), root))
        .collect();
    cases.push(case(call(""), ""));
    cases.push(case(call("no-such-relative"), "no-such-relative"));
    cases.push(case(call(&deep), "ENAMETOOLONG"));
    cases.push(case(call(&long), "ENAMETOOLONG"));
    cases
}

#[test]
fn of_exec() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut cases = process_options(|| world.exec(&root));
    cases.extend(roots(&world, |path| {
        world.verb("exec").rootfs(path).cmd(["true"])
    }));
    cases.push(case(world.verb("exec"), "exec"));
    cases.push(case(world.exec(&root), "COMMAND"));
    cases.push(case(world.exec(&root).cmd(["--"]), "COMMAND"));
    cases.push(case(world.verb("exec").opt("--user"), "--user"));
    let bytes = OsString::from_vec(b"--user=\xff\xfe".to_vec());
    cases.push(case(world.exec(&root).opt(bytes).cmd(["true"]), "user"));
    refuse_all(&world, cases);
}

#[test]
fn of_launch() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut cases = process_options(|| world.launch_run(&root));
    cases.extend(roots(&world, |path| world.verb("launch").rootfs(path)));
    cases.push(case(world.verb("launch"), "launch"));
    cases.push(case(
        world.launch_run(&root).opt("--userns=other"),
        "--userns",
    ));
    cases.push(case(
        world.launch_run(&root).opt("--init=yes").cmd(["true"]),
        "--init",
    ));
    refuse_all(&world, cases);
}

#[test]
fn of_exec_without_a_leader() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let plain = world.dir.join("plain");
    fs::create_dir(&plain).expect("directory");
    let cases = vec![
        case(
            world.exec(&root).cmd(["true"]),
            root.path.to_str().expect("path"),
        ),
        case(
            world.exec(&plain).cmd(["true"]),
            plain.to_str().expect("path"),
        ),
    ];
    refuse_all(&world, cases);
}

pub(crate) fn bad_ids() -> Vec<OsString> {
    let mut ids: Vec<OsString> = [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../x",
        "../../etc",
        "/etc",
        "a\nb",
        "\n",
        "a b",
        "*",
        "a\tb",
        "\u{1b}[2J",
    ]
    .iter()
    .map(OsString::from)
    .collect();
    ids.push("x".repeat(1025).into());
    ids.push(OsString::from_vec(b"a\xff".to_vec()));
    ids
}

#[test]
fn of_create_fs() {
    let Some(world) = World::new() else { return };
    let mut cases = vec![
        case(world.verb("create-fs"), "create-fs"),
        case(
            world.verb("create-fs").cmd(["no-such-image"]),
            "no-such-image",
        ),
        case(
            world.verb("create-fs").cmd(["img", "name", "third"]),
            "third",
        ),
        case(world.verb("create-fs").cmd(["-rf"]), "-r"),
        case(world.verb("create-fs").cmd(["--", "-rf"]), "-rf"),
        case(
            world.verb("create-fs").cmd(["--unknown", "img"]),
            "--unknown",
        ),
    ];
    for id in bad_ids() {
        // Not the message of an image that does not exist.
        let says = if id.is_empty() {
            "IMAGE_ID"
        } else {
            "use image id"
        };
        cases.push(case(world.verb("create-fs").cmd([&id]), says));
    }
    for name in ["a\nb", "a\u{7f}b"] {
        cases.push(case(world.verb("create-fs").cmd(["img", name]), ""));
    }
    refuse_all(&world, cases);
}

#[test]
fn of_destroy_fs() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let mut cases = vec![
        case(world.verb("destroy-fs"), "destroy-fs"),
        case(
            world.verb("destroy-fs").cmd([&root.guid, &root.guid]),
            &*root.guid,
        ),
        case(world.verb("destroy-fs").cmd(["-rf"]), "-r"),
        case(world.verb("destroy-fs").cmd(["--", "-rf"]), "-rf"),
    ];
    for id in bad_ids() {
        cases.push(case(world.verb("destroy-fs").cmd([&id]), ""));
    }
    cases.push(case(
        world
            .verb("destroy-fs")
            .cmd([&format!("../subcontainers/{}", root.guid)]),
        &*root.guid,
    ));
    refuse_all(&world, cases);
    assert!(root.join("bin").exists());
}

#[test]
fn of_the_command_line_itself() {
    let Some(world) = World::new() else { return };
    let words: [&[&str]; 10] = [
        &["no-such-verb"],
        &["subcontainer", "no-such-verb"],
        &["subcontainer", "execc"],
        &["subcontainer"],
        &["image"],
        &["--no-such-option"],
        &["-z"],
        &[""],
        &["subcontainer", ""],
        &["image", "import"],
    ];
    let mut cases: Vec<Case> = words
        .iter()
        .map(|words| case(world.bare(*words), ""))
        .collect();
    cases.push(case(world.bare([OsString::from_vec(vec![0xff, 0xfe])]), ""));
    refuse_all(&world, cases);
}

#[test]
fn an_unreadable_env_file_without_permission() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let file = world.dir.join("secret.env");
    write_file(&file, "K=v\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
    let done = as_nobody(
        world
            .exec(&root)
            .no_opts()
            .opt(format!("--env-file={}", file.display()))
            .cmd(["true"]),
    )
    .done();
    done.expect_refused(&[125]);
}

/// Runs it as a user who owns nothing.
fn as_nobody(run: Run) -> Run {
    let setpriv = tests::tool("setpriv");
    run.wrap([
        setpriv.to_str().expect("path"),
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ])
}

#[test]
fn of_a_caller_without_permission() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let source = world.base.join("volumes/main");
    let bind = world
        .bare(["bind-mount"])
        .verb(world.places())
        .opt("--source")
        .opt(&source)
        .opt("--target")
        .opt(root.join("data"));
    let other = Rootfs {
        path: world.dir.join("other"),
        guid: String::new(),
    };
    fs::create_dir(&other.path).expect("directory");
    let cases = vec![
        case(as_nobody(world.exec(&root).cmd(["true"])), ""),
        case(as_nobody(world.launch_run(&root)), ""),
        case(as_nobody(world.launch_run(&other)), ""),
        case(as_nobody(world.verb("create-fs").cmd(["img"])), ""),
        case(as_nobody(world.verb("destroy-fs").cmd([&root.guid])), ""),
        case(as_nobody(bind), ""),
    ];
    refuse_all(&world, cases);
    assert_eq!(
        world.exec(&root).cmd(["echo", "still there"]).text(),
        "still there"
    );
}

#[test]
fn messages_cannot_be_forged_by_names() {
    let Some(world) = World::new() else { return };
    let forged = "/x\nstart-container: all is well\n  hint: go on\u{1b}[2J";
    let done = world.verb("exec").rootfs(forged).cmd(["true"]).done();
    done.expect_refused(&[125]);
    assert!(
        !done.err.contains(&0x1b),
        "an escape sequence reached the terminal"
    );
}

#[test]
fn help_and_version_are_no_errors() {
    let Some(world) = World::new() else { return };
    for words in [
        &["--help"][..],
        &["subcontainer", "exec", "--help"],
        &["--version"],
        &["bind-mount", "-h"],
    ] {
        let done = world.bare(words).done();
        assert!(
            !done.expect_ok().is_empty() && done.err.is_empty(),
            "{words:?}"
        );
    }
}
