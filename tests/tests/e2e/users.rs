//! CONTRACT 5: who the command is. The table is FIELD S14: every odd form is exactly what it says, or refused.

use std::fs;

use tests::{Rootfs, Run, World};

/// Real, effective, saved and file-system ids, and the groups, as the kernel has them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

pub(crate) fn ids(run: Run) -> Ids {
    let text = run.cmd(["cat", "/proc/self/status"]).text();
    let numbers = |name: &str| -> Vec<u32> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("status line");
        line.split_whitespace()
            .map(|word| word.parse().expect("number"))
            .collect()
    };
    let (uids, gids) = (numbers("Uid:"), numbers("Gid:"));
    assert!(
        uids.iter().all(|uid| *uid == uids[0]),
        "a way back to another uid: {uids:?}"
    );
    assert!(
        gids.iter().all(|gid| *gid == gids[0]),
        "a way back to another gid: {gids:?}"
    );
    let mut groups = numbers("Groups:");
    groups.sort_unstable();
    Ids {
        uid: uids[0],
        gid: gids[0],
        groups,
    }
}

/// The client starts with this supplementary group, which must never show inside.
pub(crate) fn exec(world: &World, root: &Rootfs, user: &str) -> Run {
    let setpriv = tests::tool("setpriv");
    let wrap = [setpriv.to_str().expect("path"), "--groups", "4242"];
    world.exec(root).wrap(wrap).opt(format!("--user={user}"))
}

#[test]
fn a_name_or_its_number_has_the_groups_of_the_rootfs() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for user in ["app", "1000"] {
        let ids = ids(exec(&world, &root, user));
        assert_eq!(
            ids,
            Ids {
                uid: 1000,
                gid: 1000,
                groups: vec![10, 29, 1000]
            },
            "{user}"
        );
    }
    assert_eq!(
        ids(exec(&world, &root, "solo")),
        Ids {
            uid: 3000,
            gid: 3000,
            groups: vec![3000]
        }
    );
}

#[test]
fn root_is_the_default_and_has_no_group_of_the_caller() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let expected = Ids {
        uid: 0,
        gid: 0,
        groups: vec![0, 29],
    };
    for user in ["root", "0"] {
        assert_eq!(ids(exec(&world, &root, user)), expected, "{user}");
    }
    let setpriv = tests::tool("setpriv");
    let wrap = [setpriv.to_str().expect("path"), "--groups", "4242,10"];
    assert_eq!(ids(world.exec(&root).wrap(wrap)), expected);
}

#[test]
fn supplementary_groups_of_launch_are_the_rootfs_own_too() {
    let Some(world) = World::new() else { return };
    for options in [&["--user=app"][..], &["--user=app", "--init"]] {
        let root = world.create();
        let setpriv = tests::tool("setpriv");
        let wrap = [setpriv.to_str().expect("path"), "--groups", "4242"];
        let ids = ids(world.launch_run(&root).wrap(wrap).opts(options));
        assert_eq!(
            ids,
            Ids {
                uid: 1000,
                gid: 1000,
                groups: vec![10, 29, 1000]
            }
        );
    }
}

#[test]
fn the_idle_leader_keeps_no_group_of_the_caller() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let setpriv = tests::tool("setpriv");
    let run = world
        .launch_run(&root)
        .wrap([setpriv.to_str().expect("path"), "--groups", "4242"]);
    let _leader = tests::Launch::start(run, &root);
    let status = fs::read_to_string(root.join("proc/1/status")).expect("status");
    assert!(!status.contains("4242"), "{status}");
}

#[test]
fn a_group_of_the_callers_choice() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for (user, uid, gid) in [
        ("app:staff", 1000, 50),
        ("app:50", 1000, 50),
        ("1000:staff", 1000, 50),
        ("1000:50", 1000, 50),
        ("app:77", 1000, 77),
        ("4321:staff", 4321, 50),
        ("4321:77", 4321, 77),
        ("root:staff", 0, 50),
        ("0:0", 0, 0),
    ] {
        let ids = ids(exec(&world, &root, user));
        assert_eq!((ids.uid, ids.gid), (uid, gid), "{user}");
        // It replaces all others. It is in the list itself, or permissions that deny it could be evaded.
        assert_eq!(ids.groups, [gid], "{user}");
    }
}

#[test]
fn an_unknown_number_is_that_uid_with_gid_0() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    assert_eq!(
        ids(exec(&world, &root, "4321")),
        Ids {
            uid: 4321,
            gid: 0,
            groups: vec![0]
        }
    );
    assert_eq!(exec(&world, &root, "4321").sh("echo $HOME").text(), "/");
}

#[test]
fn a_number_is_never_looked_up_as_a_name() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // The image has a user whose name is 1001 and whose uid is 2002.
    assert_eq!(
        ids(exec(&world, &root, "1001")),
        Ids {
            uid: 1001,
            gid: 0,
            groups: vec![0]
        }
    );
    assert_eq!(ids(exec(&world, &root, "1000:1001")).gid, 1001);
}

/// Nothing runs as such a user.
fn refused(world: &World, root: &Rootfs, user: &str) {
    let done = exec(world, root, user).cmd(["touch", "/tmp/ran"]).done();
    done.expect_refused(&[125]);
    assert!(!root.join("tmp/ran").exists(), "{user:?} ran");
}

#[test]
fn unknown_names_are_refused() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for user in [
        "nobody-here",
        "Root",
        "root ",
        " root",
        "app:nogroup-here",
        "1000:nogroup-here",
        "ROOT",
        "ro*t",
    ] {
        refused(&world, &root, user);
    }
}

#[test]
fn odd_numbers_are_exact_or_refused() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for (user, exact) in [
        ("1", Some(1)),
        ("2147483648", Some(2_147_483_648)),
        ("4294967294", Some(4_294_967_294)),
        ("01", None),
        ("0x1", None),
        ("1:", None),
        (":1", None),
        (":", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1 ", None),
        ("1.0", None),
        ("1:2:3", None),
        ("app:", None),
        (":app", None),
        ("4294967295", None),
        ("4294967296", None),
        ("18446744073709551616", None),
        ("1:4294967295", None),
        ("1:4294967296", None),
        ("1:-1", None),
    ] {
        if let Some(uid) = exact {
            assert_eq!(ids(exec(&world, &root, user)).uid, uid, "{user:?}");
        } else {
            refused(&world, &root, user);
        }
    }
}

#[test]
fn after_the_switch_there_is_no_way_back() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let status = exec(&world, &root, "app")
        .cmd(["cat", "/proc/self/status"])
        .text();
    // Real, effective, saved and that of the file system: none is left to go back to.
    for ids in [
        "Uid:\t1000\t1000\t1000\t1000\n",
        "Gid:\t1000\t1000\t1000\t1000\n",
    ] {
        assert!(status.contains(ids), "not {ids:?}: {status}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000")),
            "{set} is not empty: {status}"
        );
    }
    // setgroups, setgid and setuid to 0, as busybox does for a daemon.
    let run = exec(&world, &root, "app").cmd([
        "start-stop-daemon",
        "-S",
        "-c",
        "0:0",
        "-x",
        "/bin/id",
        "--",
        "-u",
    ]);
    let done = run.done();
    assert!(
        done.code() != Some(0) && !done.out_text().contains('0'),
        "{:?} {}",
        done.status,
        done.out_text()
    );
    exec(&world, &root, "app")
        .sh("echo x > /etc/passwd")
        .done()
        .expect_code(1);
    exec(&world, &root, "app")
        .sh("kill -0 1")
        .done()
        .expect_code(1);
}

#[test]
fn the_capabilities_of_root_survive_no_switch_by_a_number() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for user in ["4321", "4321:77", "1000:0"] {
        let status = exec(&world, &root, user)
            .cmd(["cat", "/proc/self/status"])
            .text();
        assert!(
            status.contains("CapEff:\t0000000000000000"),
            "{user}: {status}"
        );
    }
}

/// In a user namespace of its own a process has none of the caller's anyway. Inheritable ones would come back with a program
/// that has them as inheritable too.
#[test]
fn inheritable_capabilities_of_the_caller_are_not_kept() {
    let Some(world) = World::new() else { return };
    let setpriv = tests::tool("setpriv");
    let inheriting = [setpriv.to_str().expect("path"), "--inh-caps=+chown,+kill"];
    for options in [
        &["--profile=none", "--userns=host"][..],
        &["--userns=host"],
        &[],
    ] {
        let root = world.create();
        let script = "grep CapInh /proc/self/status";
        let run = world.launch_run(&root).wrap(inheriting).opts(options);
        let mut client = run.sh(&format!("{script}; exec sleep 100000")).spawn();
        client.expect("\n");
        let none = "CapInh:\t0000000000000000";
        assert_eq!(client.seen().trim_end(), none, "launch {options:?}");
        for user in ["root", "app"] {
            let run = exec(&world, &root, user).wrap(inheriting).sh(script);
            assert_eq!(run.text(), none, "exec {user} {options:?}");
        }
    }
}
