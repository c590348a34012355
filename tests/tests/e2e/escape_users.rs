//! Who a command is, tried in every profile: groups that it should not have, and ways to write a user that become root.

use tests::{Run, tool};

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
