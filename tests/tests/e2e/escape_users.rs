//! Who a command is, tried in every profile: groups that it should not have, and ways to write a user that become root.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use tests::{Run, Sentinel, tool, until, write_file};

use crate::cases::{in_each, running, started, stop};

/// CVE-2022-2989 and its kin: groups of the caller stay, or the own one is missing.
#[test]
fn groups_are_the_containers_and_never_the_callers() {
    in_each(|world, case| {
        let setpriv = tool("setpriv");
        // An ordinary user, who cannot have others, has 4242 already.
        let grouped = |run: Run| match case.root {
            true => run.wrap([setpriv.to_str().expect("path"), "--groups=4242,4243"]),
            false => run,
        };
        let root = world.create();
        let leader = started(world, &root, grouped(world.launch_run(&root)));
        let first = world.exec(&root).sh("grep Groups: /proc/1/status").text();
        assert!(!first.contains("424"), "{case}: PID 1 {first}");
        let other = world.create();
        for (user, groups) in [
            ("0", "0 29"),
            ("app", "10 29 1000"),
            ("1000:1000", "1000"),
            ("4321:77", "77"),
            ("4321", "0"),
        ] {
            for run in [world.exec(&root), world.launch_run(&other)] {
                let text = grouped(run)
                    .opt(format!("--user={user}"))
                    .sh("grep Groups: /proc/self/status")
                    .text();
                let mut found: Vec<&str> = text.split_whitespace().skip(1).collect();
                found.sort_by_key(|number| number.parse::<u32>().expect("group"));
                assert_eq!(found.join(" "), groups, "{case} {user}");
            }
        }
        stop(leader);
    });
}

/// CVE-2024-40635, CVE-2026-30892: a number too large, or half a specification, becomes root.
#[test]
fn no_way_to_write_a_user_becomes_root() {
    in_each(|world, case| {
        let (root, _leader) = running(world);
        let id = |user: &str| {
            let done = world
                .exec(&root)
                .opt(format!("--user={user}"))
                .sh("echo $(id -u):$(id -g)")
                .done();
            (done.code(), done.out_text())
        };
        for (user, expected) in [
            ("1", "1:0"),
            ("1000:1001", "1000:1001"),
            ("1000", "1000:1000"),
            ("1001", "1001:0"),
        ] {
            assert_eq!(id(user), (Some(0), expected.to_owned()), "{case} {user}");
        }
        // Large is not negative; but an ordinary user is not granted so many.
        let large = match case.root {
            true => (Some(0), "2147483648:0".to_owned()),
            false => (Some(125), String::new()),
        };
        assert_eq!(id("2147483648"), large, "{case}");
        for user in [
            "-1",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "0x1",
            ":1",
            ":",
            "nobody-here",
            "1:4294967296",
            " 1",
        ] {
            let (code, text) = id(user);
            assert_eq!((code, text.as_str()), (Some(125), ""), "{case} {user:?}");
        }
    });
}

/// Puts something at a path.
type Maker<'m> = &'m dyn Fn(&Path);

/// CVE-2026-47262, CVE-2024-9676: user files of the image's that hold the client up, fill its memory, or are the host's.
#[test]
fn hostile_user_files_make_nobody_root_and_hold_nobody_up() {
    in_each(|world, case| {
        let sentinel = Sentinel::new(world.dir.join("sentinel"));
        let passwd = world.base.join("images/img/etc/passwd");
        let line = format!("app:{}\n", "x".repeat(65_536));
        let kinds: [(&str, Maker<'_>); 4] = [
            ("a FIFO", &|path| {
                nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o666)).expect("mkfifo");
            }),
            ("a file of the host's", &|path| {
                symlink(sentinel.join("etc/passwd"), path).expect("symlink");
            }),
            ("of 1 GiB", &|path| {
                let file = fs::File::create(path).expect("create");
                file.set_len(1 << 30).expect("sparse");
            }),
            ("one long line", &|path| write_file(path, &line)),
        ];
        for (kind, make) in kinds {
            fs::remove_file(&passwd).expect("remove");
            make(&passwd);
            if let Some(user) = case.user
                && !passwd.is_symlink()
            {
                chown(&passwd, Some(user), Some(user)).expect("chown");
            }
            let root = world.create();
            let leader = world.launch_run(&root).spawn();
            // An exec would look into these files.
            until("the container", || {
                let seen = world.verb("inspect").rootfs(&root).done();
                (seen.code() == Some(0)).then_some(())
            });
            for (name, allowed) in [("app", &[][..]), ("evil", &[]), ("1234:77", &["1234 77"])] {
                let run = world.exec(&root).opt(format!("--user={name}"));
                let done = run.sh("echo $(id -u) $(id -g)").done();
                let text = done.out_text();
                let right = done.code() == Some(125) && text.is_empty()
                    || done.code() == Some(0) && allowed.contains(&text.as_str());
                assert!(
                    right,
                    "{case} passwd is {kind}, {name}: {text} {:?}",
                    done.status
                );
            }
            stop(leader);
            world.destroy(&root);
            sentinel.assert_same();
        }
    });
}
