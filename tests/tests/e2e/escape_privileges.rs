//! What a container is granted stays what it is: by later execs, when records are lost, with a capability more, and for
//! users of the host who find its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use tests::{Launch, Rootfs, Run, World, bare_host, tool};

const FIELDS: &str =
    "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";

/// What the kernel says of a command, and of the same one with a set-user-id program in between.
fn granted(world: &World, root: &Rootfs, user: &str) -> String {
    world
        .exec(root)
        .opt(format!("--user={user}"))
        .sh(FIELDS)
        .text()
}

fn only_file(directory: PathBuf) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("list")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert_eq!(found.len(), 1, "{}", directory.display());
    found.remove(0)
}

/// The profiles, and a set that none of them has.
const GRANTS: [&[&str]; 6] = [
    &["--profile=confined"],
    &["--profile=hardened"],
    &["--profile=outer"],
    &["--profile=none"],
    &["--profile=confined", "--cap-drop=ALL", "--cap-add=CHOWN"],
    &["--profile=none", "--no-new-privileges"],
];

#[test]
fn every_exec_has_what_the_launch_was_granted() {
    for options in GRANTS {
        let Some(world) = World::new() else { return };
        let world = world.launching_with(options.iter().copied());
        let launched = |user: &str| {
            let root = world.create();
            world
                .launch_run(&root)
                .opt(format!("--user={user}"))
                .sh(FIELDS)
                .text()
        };
        let (root, _leader) = world.idle();
        for user in ["root", "app"] {
            assert_eq!(
                granted(&world, &root, user),
                launched(user),
                "{options:?} {user}"
            );
        }
    }
}

/// Without the record there is only what the kernel tells of PID 1; never may that grant more. A filter cannot be read
/// back: on a bare host whoever joins gets the default one, whether PID 1 has one or not.
#[test]
fn a_lost_record_grants_no_exec_more() {
    let on_bare_host = bare_host().is_some();
    for options in GRANTS {
        let Some(world) = World::new() else { return };
        let world = world.launching_with(options.iter().copied());
        let (root, leader) = world.idle();
        let before = ["root", "app"].map(|user| granted(&world, &root, user));
        fs::remove_file(only_file(world.state.join("leaders"))).expect("remove");
        let after = ["root", "app"].map(|user| granted(&world, &root, user));
        for (before, after) in before.iter().zip(&after) {
            let (others, filter) = before.rsplit_once("Seccomp:").expect("Seccomp");
            let (others_after, filter_after) = after.rsplit_once("Seccomp:").expect("Seccomp");
            assert_eq!(others_after, others, "{options:?}");
            assert!(filter_after.trim() >= filter.trim(), "{options:?}: {after}");
            assert!(
                !on_bare_host || filter_after.trim() == "2",
                "{options:?}: {after}"
            );
        }
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

/// A record without its filter, or with half of it, is not taken for one without a filter.
#[test]
fn a_lost_filter_lets_nothing_run() {
    let Some(world) = World::new() else { return };
    let world = world.launching_with(["--profile=confined"]);
    let (root, _leader) = world.idle();
    let filter = only_file(world.state.join("filters"));
    let program = fs::read(&filter).expect("filter");
    for half in [Some(&program[..program.len() / 2]), Some(&[][..]), None] {
        match half {
            Some(bytes) => fs::write(&filter, bytes).expect("write"),
            None => fs::remove_file(&filter).expect("remove"),
        }
        let done = world.exec(&root).cmd(["touch", "/ran"]).done();
        done.expect_refused(&[125]);
        assert!(!root.join("ran").exists());
    }
}

/// Who may trace everything inside may trace what joins; that is no way to what the container does not see.
#[test]
fn tracing_what_joins_uncovers_no_setting_of_the_kernel() {
    let Some(world) = bare_host() else { return };
    let world = world.launching_with(["--cap-add=SYS_PTRACE"]);
    let (root, _leader) = world.idle();
    let script = "exec 2>&1; for f in /proc/[0-9]*/fd/*; do [ -d $f/sys/kernel ] || continue; echo found; \
                  (exec 3>> $f/sys/kernel/core_pattern) && echo OPENED $f; done; echo looked";
    let text = world.exec(&root).sh(script).done().out_text();
    assert!(
        text.contains("found"),
        "the attendant's procfs was to be tried: {text}"
    );
    assert!(
        text.ends_with("looked") && !text.contains("OPENED"),
        "{text}"
    );
}

/// CVE-2021-41103: a program that root inside makes set-user-id is run by a user of the host.
#[test]
fn users_of_the_host_do_not_reach_into_a_root_filesystem() {
    for options in [
        &["--profile=confined"][..],
        &["--profile=outer"],
        &["--userns=host"],
    ] {
        let Some(world) = World::new() else { return };
        let world = world.launching_with(options.iter().copied());
        let (root, _leader) = world.idle();
        let script = "cp /bin/busybox /tmp/become; chmod 4755 /tmp/become; echo secret > /tmp/file; chmod 644 /tmp/file";
        let _ = world.exec(&root).sh(script).text();
        let setpriv = tool("setpriv");
        let stranger = [
            setpriv.to_str().expect("path"),
            "--reuid=4000",
            "--regid=4000",
            "--clear-groups",
        ];
        for words in [&["cat", "tmp/file"][..], &["ls", "tmp"]] {
            let done = Run::new(tool(words[0]))
                .wrap(stranger)
                .cmd([root.join(words[1])])
                .done();
            assert_eq!(
                (done.code(), done.out_text().as_str()),
                (Some(if words[0] == "ls" { 2 } else { 1 }), ""),
                "{words:?}"
            );
        }
        let done = Run::new(root.join("tmp/become"))
            .wrap(stranger)
            .cmd(["id", "-u"])
            .done();
        assert_ne!(done.code(), Some(0), "{}", done.out_text());
    }
}

/// With the host's ids, a device that root inside made would be the host's.
#[test]
fn no_device_can_be_made_with_the_hosts_ids_either() {
    let Some(world) = bare_host() else { return };
    let root = world.create();
    let run = world.launch_run(&root).opt("--userns=host");
    let _leader = Launch::start(run, &root);
    let done = world
        .exec(&root)
        .sh("mknod /disk b 7 0 2>&1; mknod /mnt/memory c 1 1 2>&1")
        .done();
    let text = done.out_text();
    assert_eq!(text.matches("Operation not permitted").count(), 2, "{text}");
}

/// Keys of the caller's session (session-keyring(7)): a process has them by inheritance alone, whatever its ids. An
/// ordinary user inside sees a keyring of root's in /proc/keys only where it has it so.
#[test]
fn the_keys_of_the_caller_are_not_inherited() {
    let Some(world) = bare_host() else { return };
    let world = world.launching_with(["--profile=outer"]);
    let (root, leader) = world.idle();
    let keyrings = |text: String| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.contains("keyring"));
        lines.map(|line| line[..8].to_owned()).collect()
    };
    let seen = || {
        let run = world.exec(&root).opt("--user=app");
        keyrings(run.cmd(["cat", "/proc/keys"]).text())
    };
    let (one, two) = (seen(), seen());
    assert!(!one.is_empty() && one.is_disjoint(&two), "{one:?} {two:?}");
    leader.stop().expect_code(0);
    let launched = world.launch_run(&root).opt("--user=app");
    let three = keyrings(launched.cmd(["cat", "/proc/keys"]).text());
    assert!(!three.is_empty() && three.is_disjoint(&one), "{three:?}");
}
