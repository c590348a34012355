//! Command lines and what they mean.

use super::*;
use crate::capabilities;
use crate::cli::args::{
    BindMountArgs, CreateFsArgs, DestroyFsArgs, ExecArgs, InspectArgs, MountAddArgs, MountListArgs,
    MountRemoveArgs, PtySize,
};
use crate::ids::Guid;
use crate::profile::{ProfileName, SeccompChoice};
use std::os::unix::ffi::OsStrExt;

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
fn launch_without_anything_is_an_idle_leader() {
    let args = launch_of("subcontainer launch /r");
    assert_eq!(
        args,
        LaunchArgs {
            rootfs: "/r".into(),
            command: None,
            entrypoint: None,
            process: ProcessArgs::default(),
            init: false,
            userns: None,
            confinement: ConfinementArgs::default(),
            mounts: MountArgs::default(),
            dry_run: None,
            dirs: DirFlags::default(),
        }
    );
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
fn confinement_of_a_launch() {
    let list = |text: &str| capabilities::List::parse(text).unwrap();
    assert_eq!(
        launch_of(
            "subcontainer launch --profile=hardened --cap-add=net_admin,CAP_CHOWN --cap-add Kill --cap-drop ALL \
             --seccomp=./p.json --read-only --no-new-privileges /r"
        )
        .confinement,
        ConfinementArgs {
            profile: Some(ProfileName::Hardened),
            caps: capabilities::Request {
                exact: None,
                add: list("CHOWN,KILL,NET_ADMIN"),
                drop: list("ALL"),
            },
            seccomp: Some(SeccompChoice::File("./p.json".into())),
            read_only: true,
            no_new_privileges: true,
        }
    );
    for (word, expected) in ProfileName::WORDS {
        let args = launch_of(&format!("subcontainer launch --profile {word} /r"));
        assert_eq!(args.confinement.profile, Some(expected));
    }
    let args = launch_of("subcontainer launch --cap=chown --seccomp=default /r --cap ALL");
    assert_eq!(args.confinement.caps.exact, Some(list("ALL")));
    assert_eq!(args.confinement.seccomp, Some(SeccompChoice::Default));
    let args = launch_of("subcontainer launch --seccomp unconfined /r");
    assert_eq!(args.confinement.seccomp, Some(SeccompChoice::Unconfined));
}

#[test]
fn mounts_of_a_launch() {
    let args = launch_of(
        "subcontainer launch --mount type=tmpfs,dst=/b --share=sys --mount=type=tmpfs,dst=/a --share run,sys --resolv-conf /r",
    );
    assert_eq!(args.rootfs, PathBuf::from("/r"));
    let specs =
        ["type=tmpfs,dst=/b", "type=tmpfs,dst=/a"].map(|entry| mounts::parse(entry).unwrap());
    assert_eq!(args.mounts.mounts, specs);
    assert_eq!(args.mounts.share, mounts::parse_share("sys,run").unwrap());
    assert_eq!(args.mounts.resolv_conf, Some("/etc/resolv.conf".into()));
    let args = launch_of("subcontainer launch --resolv-conf=some/file /r");
    assert_eq!(args.mounts.resolv_conf, Some("some/file".into()));
}

#[test]
fn mounts_of_a_running_container() {
    let dirs = DirFlags::default();
    assert_eq!(
        parsed("subcontainer mount add /r type=tmpfs,dst=/a"),
        Invocation::MountAdd(MountAddArgs {
            rootfs: "/r".into(),
            spec: mounts::parse("type=tmpfs,dst=/a").unwrap(),
            dirs: dirs.clone(),
        })
    );
    assert_eq!(
        parsed("subcontainer mount rm r /a/b"),
        Invocation::MountRemove(MountRemoveArgs {
            rootfs: "r".into(),
            target: values::target(OsStr::new("/a/b")).unwrap(),
            dirs: dirs.clone(),
        })
    );
    assert_eq!(
        parsed("subcontainer mount list /r --json"),
        Invocation::MountList(MountListArgs {
            rootfs: "/r".into(),
            json: true,
            dirs,
        })
    );
    for words in ["subcontainer mount --help", "help subcontainer mount"] {
        let Invocation::Help(text) = parsed(words) else {
            panic!("{words}");
        };
        assert!(
            text.contains("subcontainer mount rm ") && !text.contains("destroy-fs"),
            "{text}"
        );
    }
    let Invocation::Help(text) = parsed("help subcontainer mount add") else {
        panic!("help");
    };
    assert!(
        text.starts_with("Usage: start-container subcontainer mount add "),
        "{text}"
    );
}

#[test]
fn the_other_verbs() {
    let dirs = DirFlags {
        base: Some("/b".into()),
        state: Some("s".into()),
        data: None,
    };
    for line in [
        "subcontainer create-fs --base=/b main --state s",
        "subcontainer create-fs main --base /b --state=s",
        "subcontainer create-fs --state s --base /b -- main",
    ] {
        let expected = CreateFsArgs {
            image: ImageId::new("main").unwrap(),
            name: None,
            userns: None,
            verity: None,
            dirs: dirs.clone(),
        };
        assert_eq!(
            parse(words(line)).unwrap(),
            Invocation::CreateFs(expected),
            "{line}"
        );
    }
    assert_eq!(
        parse(words("subcontainer inspect --base /b /r --state=s")).unwrap(),
        Invocation::Inspect(InspectArgs {
            rootfs: "/r".into(),
            dirs: dirs.clone(),
        })
    );
    let mut named = words("subcontainer create-fs main");
    named.push("my sub".into());
    let Invocation::CreateFs(args) = parse(named).unwrap() else {
        panic!("not create-fs");
    };
    assert_eq!(args.name.as_deref(), Some("my sub"));
    let ids = parse(words("subcontainer create-fs --userns=auto main")).unwrap();
    assert!(matches!(ids, Invocation::CreateFs(args) if args.userns == Some(Userns::Auto)));
    let mut unnamed = words("subcontainer create-fs main");
    unnamed.push("".into());
    assert!(matches!(parse(unnamed).unwrap(), Invocation::CreateFs(args) if args.name.is_none()));

    assert_eq!(
        parse(words("subcontainer destroy-fs --state=s g1 --base=/b")).unwrap(),
        Invocation::DestroyFs(DestroyFsArgs {
            guid: Guid::new("g1").unwrap(),
            dirs: dirs.clone(),
        })
    );
    assert_eq!(
        parse(words(
            "image import x.tar --id=main --replace --flat --ref=v1 --progress json --squash --max-size=64g --max-files 5 --max-ratio=none --max-window=64M --base=/b --state=s"
        ))
        .unwrap(),
        Invocation::ImageImport(ImageImportArgs {
            source: "x.tar".into(),
            id: Some(ImageId::new("main").unwrap()),
            replace: true,
            flat: true,
            reference: Some("v1".into()),
            squash: true,
            limits: LimitArgs {
                size: Some(64 << 30),
                files: Some(5),
                ratio: Some(u64::MAX),
                window: Some(64 << 20),
            },
            progress: ProgressMode::Json,
            verity: None,
            dirs: dirs.clone(),
        })
    );
    let Ok(Invocation::ImageImport(all)) = parse(words("image import - --all")) else {
        panic!("image import - --all");
    };
    assert_eq!((all.source, all.id), ("-".into(), None));
    assert_eq!(
        parse(words(
            "bind-mount --source /s --target=/t --recursive --readonly --file --idmap 0:100000:65536 --idmap=70000:0 --base=/b --state=s"
        ))
        .unwrap(),
        Invocation::BindMount(BindMountArgs {
            source: "/s".into(),
            target: "/t".into(),
            recursive: true,
            readonly: true,
            file: true,
            idmap: vec![
                IdmapRange { from: 0, to: 100_000, range: 65536 },
                IdmapRange { from: 70_000, to: 0, range: 1 },
            ],
            dirs,
        })
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
