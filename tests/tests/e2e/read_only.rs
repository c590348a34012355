//! `--read-only` and the profile hardened: writing to the root filesystem fails, whoever tries, and nothing inside can
//! undo it; what is mounted in it stays as it is.

use std::fs;

use nix::sys::signal::Signal;
use tests::{Done, Run, World, write_file};

use crate::rootless::User;

/// Every way to change a file system, at its top and in a directory that everybody may write to. Each has to fail.
const WRITES: &[&str] = &[
    "echo x > /new",
    "echo x >> /etc/passwd",
    "mkdir /tmp/new",
    "rm /etc/group",
    "mv /etc/group /etc/moved",
    "ln /etc/group /etc/linked",
    "ln -s /etc/group /link",
    "mknod /tmp/fifo p",
    "chmod 0777 /etc/passwd",
    "chown 0:0 /etc/passwd",
    "touch /etc/passwd",
];

/// What takes the attribute away again where it is allowed.
const REMOUNTS: &[&str] = &[
    "mount -o remount,rw /",
    "mount -o remount,bind,rw /",
    "mount --bind / /mnt && mount -o remount,bind,rw /mnt",
    "umount -l /",
];

fn refused_as_read_only(done: &Done, what: &str) {
    assert_ne!(done.code(), Some(0), "{what}");
    let text = done.err_text();
    assert!(text.contains("Read-only file system"), "{what}: {text}");
}

fn fails(call: impl Fn() -> Run, case: &str) {
    for write in WRITES {
        refused_as_read_only(&call().sh(write).done(), &format!("{case}: {write}"));
    }
    let open = call()
        .sh("echo x > /volume/new && echo x > /t/new && echo x > /dev/null && echo fine")
        .done();
    assert_eq!(open.expect_ok(), "fine", "{case}: {}", open.err_text());
}

const MOUNTS: [&str; 3] = [
    "--mount=type=volume,src=main,dst=/volume",
    "--mount=type=tmpfs,dst=/t",
    "--mount=type=dev",
];

#[test]
fn nothing_can_be_written_to_the_root_filesystem() {
    let Some(world) = World::new() else { return };
    for options in [
        &["--read-only"][..],
        &["--read-only", "--profile=outer"],
        &["--read-only", "--userns=host"],
        &["--profile=hardened"],
    ] {
        let case = format!("{options:?}");
        let root = world.create();
        // Mount points are made also in a read-only one: these, so that nothing else is new afterwards.
        for place in ["volume", "t"] {
            fs::create_dir(root.join(place)).expect("directory");
        }
        let upper = world.data.join("containers").join(&root.guid).join("upper");
        let changed = || fs::read_dir(&upper).expect("upper").count();
        let before = changed();
        let launch = || world.launch_run(&root).opts(options).opts(MOUNTS);
        fails(launch, &format!("PID 1, {case}"));
        fails(|| launch().opt("--init"), &format!("below init, {case}"));
        let leader = launch().spawn();
        fails(|| world.exec(&root), &format!("exec, {case}"));
        assert_eq!(changed(), before, "{case}: the upper layer has changed");
        // The host can, and it is seen inside.
        write_file(root.join("from-host"), "host\n");
        let seen = world.exec(&root).cmd(["cat", "/from-host"]).text();
        assert_eq!(seen, "host", "{case}");
        leader.signal(Signal::SIGTERM);
        leader.finish().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn a_confined_or_hardened_container_cannot_undo_it() {
    let Some(world) = World::new() else { return };
    for options in [
        &["--profile=confined", "--read-only"][..],
        &["--profile=hardened"],
        &["--profile=hardened", "--seccomp=unconfined"],
    ] {
        let root = world.create();
        let launch = world.launch_run(&root).opts(options).opts(MOUNTS);
        let leader = tests::Launch::start(launch, &root);
        for attempt in REMOUNTS {
            let script = format!("{{ {attempt}; }} && echo undone; echo x > /new");
            let done = world.exec(&root).sh(&script).done();
            let what = format!("{options:?}: {attempt}");
            assert_eq!(done.out_text(), "", "{what}");
            refused_as_read_only(&done, &what);
        }
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn an_ordinary_users_container_has_it_too() {
    for user in [User::granted(), User::single()] {
        let Some(user) = user else { return };
        let _ = user.import();
        let volume = user.base().join("volumes/main");
        fs::create_dir_all(&volume).expect("volume");
        std::os::unix::fs::chown(&volume, Some(user.uid), Some(user.uid)).expect("chown");
        for option in ["--read-only", "--profile=hardened"] {
            let root = user.create();
            let launch = || user.launch(&root).opt(option).opts(MOUNTS);
            fails(launch, &format!("PID 1, {option}"));
            let leader = launch().spawn();
            fails(|| user.exec(&root), &format!("exec, {option}"));
            leader.signal(Signal::SIGTERM);
            leader.finish().expect_code(0);
            user.destroy(&root);
        }
        user.assert_nothing_left();
    }
}
