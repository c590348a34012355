//! What the words of each verb mean.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{launch_of, parsed, words};
use crate::capabilities;
use crate::cli::args::*;
use crate::cli::parse::parse;
use crate::cli::values;
use crate::config::DirFlags;
use crate::ids::{Guid, ImageId};
use crate::image::{LimitArgs, ProgressMode};
use crate::mounts::{self, MountArgs};
use crate::profile::{ProfileName, SeccompChoice};

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
