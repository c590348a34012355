//! What holds for the words of any verb: how options are spelt, where they end, what is passed on byte for byte.

mod refusals;
mod verbs;

use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::cli::args::{Command, ExecArgs, Format, LaunchArgs, ProcessArgs, PtySize, Userns};
use crate::ids::ImageId;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn launch_of(line: &str) -> LaunchArgs {
    match parse(words(line)) {
        Ok(Invocation::Launch(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

fn exec_of(line: &str) -> ExecArgs {
    match parse(words(line)) {
        Ok(Invocation::Exec(args)) => args,
        other => panic!("{line}: {other:?}"),
    }
}

fn parsed(line: &str) -> Invocation {
    parse(words(line)).expect(line)
}

fn command(program: &str, arguments: &[&str]) -> Command {
    Command {
        program: program.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
    }
}

#[test]
fn both_spellings_of_every_option_mean_the_same() {
    let expected = ProcessArgs {
        image: Some(ImageId::new("img").unwrap()),
        env_file: Some("/e".into()),
        env: vec![
            ("A".into(), "1".into()),
            ("B".into(), "2=3".into()),
            ("A".into(), "".into()),
        ],
        user: Some("app:1".into()),
        workdir: Some("/w".into()),
        force_tty: true,
        force_stderr_tty: true,
        pty_size: Some(PtySize {
            rows: 24,
            cols: 80,
            xpixel: 3,
            ypixel: 4,
        }),
    };
    for line in [
        "--env-file=/e --env=A=1 --env=B=2=3 --env=A= --user=app:1 --workdir=/w --force-tty --force-stderr-tty --pty-size=24:80:3:4 --image=img /r c",
        "--env-file /e --env A=1 --env B=2=3 --env A= --user app:1 --workdir /w --force-tty --force-stderr-tty --pty-size 24:80:3:4 --image img /r c",
        "-eA=1 -e B=2=3 -e=A= -u app:1 -w/w --env-file /e /r --force-tty --force-stderr-tty --pty-size 24:80:3:4 --image=img -- c",
        "/r --env-file=/e --env A=1 -eB=2=3 --env=A= -uapp:1 -w=/w --pty-size=24:80:3:4 --force-tty --force-stderr-tty --image img c",
    ] {
        let exec = exec_of(&format!("subcontainer exec {line}"));
        assert_eq!(exec.process, expected, "{line}");
        assert_eq!(exec.command, command("c", &[]), "{line}");
        let launch = launch_of(&format!("subcontainer launch {line}"));
        assert_eq!(launch.process, expected, "{line}");
        assert_eq!(
            (launch.rootfs, launch.command),
            ("/r".into(), Some(command("c", &[])))
        );
    }
}

#[test]
fn where_options_end() {
    let run = |words: &[&str]| {
        let all = ["subcontainer", "exec"].iter().chain(words);
        match parse(all.map(OsString::from)) {
            Ok(Invocation::Exec(args)) => (args.rootfs, args.command, args.process.user),
            other => panic!("{words:?}: {other:?}"),
        }
    };
    let me = Some(OsString::from("me"));
    for (words, rootfs, expected, user) in [
        (&["/r", "--", "c"][..], "/r", command("c", &[]), None),
        (
            &["/r", "--", "--user=me"],
            "/r",
            command("--user=me", &[]),
            None,
        ),
        (&["/r", "--", "--", "c"], "/r", command("--", &["c"]), None),
        (&["/r", "c", "--"], "/r", command("c", &["--"]), None),
        (
            &["/r", "c", "--", "--user=me"],
            "/r",
            command("c", &["--", "--user=me"]),
            None,
        ),
        (
            &["/r", "--", "c", "--", "-x"],
            "/r",
            command("c", &["--", "-x"]),
            None,
        ),
        (
            &["/r", "c", "--user=me", "--help", "-h", ""],
            "/r",
            command("c", &["--user=me", "--help", "-h", ""]),
            None,
        ),
        (&["--", "-r", "c"], "-r", command("c", &[]), None),
        (
            &["--", "-r", "--user=me", "c"],
            "-r",
            command("c", &[]),
            me.clone(),
        ),
        (
            &["--", "-r", "--", "c", "--"],
            "-r",
            command("c", &["--"]),
            None,
        ),
        (
            &["--user=me", "/r", "--", "c"],
            "/r",
            command("c", &[]),
            me.clone(),
        ),
        (&["/r", "--user", "me", "c"], "/r", command("c", &[]), me),
        (&["-", "-"], "-", command("-", &[]), None),
    ] {
        assert_eq!(run(words), (rootfs.into(), expected, user), "{words:?}");
    }
}

#[test]
fn arguments_are_verbatim_whatever_they_are() {
    let raw = [
        &b"\xff\xfe"[..],
        b"",
        b"\n",
        b"--env",
        b"A=1",
        b"--",
        b"--\xff",
    ];
    let mut all = words("subcontainer launch /r prog");
    all.extend(raw.iter().map(|word| OsStr::from_bytes(word).to_owned()));
    all.push("x".repeat(120_000).into());
    all.extend((0..400).map(|number| OsString::from(number.to_string())));
    let Invocation::Launch(args) = parse(all.clone()).unwrap() else {
        panic!("not launch");
    };
    assert_eq!(args.command.unwrap().arguments, all[4..]);

    let mut all = words("pipe-wrap -- prog --help --");
    all.push(OsStr::from_bytes(b"\xff").to_owned());
    let Invocation::PipeWrap(args) = parse(all.clone()).unwrap() else {
        panic!("not pipe-wrap");
    };
    assert_eq!(args.command.program, "prog");
    assert_eq!(args.command.arguments, all[3..]);
}

#[test]
fn values_need_not_be_utf8() {
    let mut all = words("subcontainer exec");
    for word in [
        &b"--env=A\xfd=\xff"[..],
        b"--workdir",
        b"/\xfe",
        b"-u\xfc",
        b"/r\xfb",
        b"c\xfa",
    ] {
        all.push(OsStr::from_bytes(word).to_owned());
    }
    let Invocation::Exec(args) = parse(all).unwrap() else {
        panic!("not exec");
    };
    let (name, value) = &args.process.env[0];
    assert_eq!(
        (name.as_bytes(), value.as_bytes()),
        (&b"A\xfd"[..], &b"\xff"[..])
    );
    assert_eq!(args.process.workdir.unwrap().as_bytes(), b"/\xfe");
    assert_eq!(args.process.user.unwrap().as_bytes(), b"\xfc");
    assert_eq!(args.rootfs.as_os_str().as_bytes(), b"/r\xfb");
    assert_eq!(args.command.program.as_bytes(), b"c\xfa");
}

#[test]
fn of_a_repeated_option_the_last_one_counts() {
    let args = launch_of(
        "subcontainer launch --user=a --base=/1 --base /2 --userns=host /r --user b --userns identity --init --init --dry-run --format=json --format=text",
    );
    assert_eq!(args.process.user.as_deref(), Some(OsStr::new("b")));
    assert_eq!(args.dirs.base, Some("/2".into()));
    assert_eq!(args.userns, Some(Userns::Identity));
    assert_eq!(args.dry_run, Some(Format::Text));
    assert!(args.init);
    assert_eq!(
        exec_of("subcontainer exec --dry-run /r --format json c").dry_run,
        Some(Format::Json)
    );
}

#[test]
fn help_and_version() {
    let text = |line: &str| match parse(words(line)) {
        Ok(Invocation::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(text(""), help::short());
    for line in ["--help", "-h", "help"] {
        assert_eq!(text(line), help::all());
    }
    for line in [
        "subcontainer --help",
        "subcontainer -h",
        "subcontainer help",
        "help subcontainer",
    ] {
        assert_eq!(text(line), help::group("subcontainer"));
    }
    let exec = help::verb(table::verb("subcontainer", "exec").unwrap());
    for line in [
        "subcontainer exec --help",
        "subcontainer exec -h",
        "subcontainer exec --user=x -h",
        "subcontainer exec /r --help",
        "help subcontainer exec",
    ] {
        assert_eq!(text(line), exec, "{line}");
    }
    assert_eq!(text("help pipe-wrap"), text("pipe-wrap --help"));
    for line in ["--version", "-V"] {
        assert_eq!(parse(words(line)).unwrap(), Invocation::Version);
    }
}
