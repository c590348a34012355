//! `launch --share`: the host's directories inside, and nothing of it on the host.

use std::path::Path;

use tests::{World, mounts_below};

use super::launch_mounts::{launch, mountinfo};
use super::mounts::on_a_shared_host;

#[test]
fn the_hosts_directories_are_there_with_all_that_is_mounted_in_them() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let plain = world.launch(&root);
    let with_nothing = mounts_below(&world.dir);
    plain.stop().expect_code(0);
    let leader = launch(&world, &root, &["--share=dev,sys", "--share=run"]);
    assert_eq!(
        mounts_below(&world.dir),
        with_nothing,
        "a share is in the host's table"
    );
    assert_eq!(
        world
            .exec(&root)
            .sh("test -c /dev/null && test -e /dev/pts/ptmx && test -d /sys/kernel && test -d /run && echo yes")
            .text(),
        "yes"
    );
    for host in mounts_below(Path::new("/dev"))
        .iter()
        .chain(&mounts_below(Path::new("/sys")))
    {
        let host = host.to_str().expect("path");
        assert!(mountinfo(&root, host).is_some(), "{host} is missing inside");
    }
    let tty = world
        .exec(&root)
        .opt("--force-tty")
        .sh("test -t 0 && tty")
        .text();
    assert!(tty.starts_with("/dev/"), "{tty}");
    leader.stop().expect_code(0);
    world.destroy(&root);
    assert!(Path::new("/dev/pts/ptmx").exists() && Path::new("/sys/kernel").exists());
}

/// The harmless nodes are put on those of the root filesystem; a /dev that is mounted has its own.
#[test]
fn a_shared_dev_stays_as_it_is() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    for (options, covered) in [(&["--share=dev"][..], false), (&[], true)] {
        let options = [&["--profile=confined"], options].concat();
        let leader = launch(&world, &root, &options);
        for node in ["/dev/null", "/dev/zero"] {
            assert_eq!(
                mountinfo(&root, node).is_some(),
                covered,
                "{options:?} {node}"
            );
        }
        leader.stop().expect_code(0);
    }
    world.destroy(&root);
}

#[test]
fn init_and_commands_have_them_too() {
    let Some(world) = World::new() else { return };
    for options in [
        &["--init"][..],
        &[],
        &["--userns=host", "--profile=outer"],
        &["--profile=hardened"],
    ] {
        let root = world.create();
        let run = world
            .launch_run(&root)
            .opts(options)
            .opt("--share=dev,sys,run");
        let done = run
            .sh("echo x > /dev/null && test -d /sys/kernel && echo fine")
            .done();
        assert_eq!(done.expect_ok(), "fine", "{options:?}");
    }
}

/// On a host where all mounts are shared, as systemd makes them: what is unmounted inside, or goes with the container,
/// stays on the host; what is mounted on the host later arrives.
#[test]
fn a_host_with_shared_mounts_keeps_its_own_and_its_later_mounts_arrive() {
    let Some(world) = World::new() else { return };
    let script = r#"
        table() { cut -d' ' -f3- /proc/self/mountinfo | awk -v own=$W/ '$3 ~ "^/(dev|sys|run)(/|$)" || index($0, own)' | sort; }
        mkdir $W/run && mount --bind $W/run /run && mount --make-shared /run
        mkdir /run/late /run/inside
        for end in TERM KILL umount; do
            R=$($SC subcontainer create-fs $P img)
            table > $W/before
            $SC subcontainer launch $P --profile=none --share=dev,sys,run $R & L=$!
            $SC subcontainer exec $P $ENV $R true
            table > $W/running
            mount -t tmpfs late /run/late; echo arrived > /run/late/file
            $SC subcontainer exec $P $ENV $R cat /run/late/file
            umount /run/late
            $SC subcontainer exec $P $ENV $R sh -c 'test ! -e /run/late/file && mount -t tmpfs x /run/inside'
            table | diff $W/running -
            case $end in
                TERM) kill -TERM $L; wait $L;;
                KILL) kill -KILL $L; wait $L || true;;
                umount) $SC subcontainer exec $P $ENV $R sh -c \
                    'for m in $(cut -d" " -f5 /proc/self/mountinfo | grep -E "^/(dev|sys|run)" | sort -r); do umount -l $m || exit 9; done'
                    table | diff $W/running -
                    kill -TERM $L; wait $L;;
            esac
            $SC subcontainer destroy-fs $P ${R##*/}
            table > $W/after
            grep -v "subcontainers/${R##*/}" $W/before | diff - $W/after
            test -e /dev/pts/ptmx; test -d /sys/kernel; test -d /run/late
        done
        echo kept
    "#;
    let done = on_a_shared_host(&world, script).done();
    assert_eq!(
        done.expect_ok(),
        "arrived\narrived\narrived\nkept",
        "{}",
        done.err_text()
    );
}

/// exec believes what is in the state directory, which is in /run unless it is said otherwise.
#[test]
fn a_shared_run_does_not_show_our_own_state() {
    let Some(world) = World::new() else { return };
    let script = r#"
        mkdir $W/run && mount --bind $W/run /run
        P="$P --state=/run/own/state"
        R=$($SC subcontainer create-fs $P img)
        $SC subcontainer launch $P --share=run $R & L=$!
        $SC subcontainer exec $P $ENV $R sh -c 'ls -A /run/own/state; touch /run/own/state/x || rmdir /run/own/state || echo hidden'
        ls /run/own/state
        kill $L; wait $L; $SC subcontainer destroy-fs $P ${R##*/}
    "#;
    let done = on_a_shared_host(&world, script).done();
    let text = done.expect_ok();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("hidden"), "{text} {}", done.err_text());
    assert!(lines.any(|name| name == "leaders"), "{text}");
}

#[test]
fn sys_is_read_only_in_a_confined_container_with_all_that_is_mounted_in_it() {
    let Some(world) = World::new() else { return };
    for (profile, wanted) in [("confined", "ro"), ("hardened", "ro"), ("none", "rw")] {
        let root = world.create();
        let options = [format!("--profile={profile}"), "--share=sys".to_owned()];
        let leader = launch(&world, &root, &options);
        let host = mounts_below(Path::new("/sys"));
        assert!(!host.is_empty(), "the host has no /sys");
        let table = world
            .exec(&root)
            .sh("cut -d' ' -f5,6 /proc/self/mountinfo | grep '^/sys'")
            .text();
        for target in &host {
            let target = target.to_str().expect("path");
            let all: Vec<_> = table
                .lines()
                .filter_map(|line| line.split_once(' '))
                .collect();
            let (_, options) = all
                .iter()
                .find(|(place, _)| *place == target)
                .expect(target);
            let writable = options.split(',').any(|option| option == "rw");
            assert!(
                !writable || wanted == "rw",
                "{profile}: {target} is {options}"
            );
        }
        let (options, _) = mountinfo(&root, "/sys").expect("sys");
        assert!(
            options.split(',').any(|option| option == wanted),
            "{profile}: {options}"
        );
        leader.stop().expect_code(0);
    }
}

#[test]
fn a_confined_container_cannot_change_its_mounts() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let entry = "--mount=type=volume,src=main,dst=/v,ro";
    let _leader = launch(
        &world,
        &root,
        &["--profile=confined", "--share=dev,sys", entry],
    );
    for attempt in [
        "mount -o remount,bind,rw /v",
        "mount -o remount,bind,rw /sys",
        "umount -l /v",
        "umount -l /dev",
        "mount -t tmpfs x /mnt",
    ] {
        let done = world
            .exec(&root)
            .sh(&format!("! {attempt} && echo refused"))
            .done();
        assert_eq!(
            done.expect_ok(),
            "refused",
            "{attempt}: {}",
            done.err_text()
        );
    }
    let done = world.exec(&root).sh("touch /v/x").done();
    assert!(
        done.err_text().contains("Read-only file system"),
        "{}",
        done.err_text()
    );
}
