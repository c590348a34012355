//! CONTRACT 3 and invariant 3: which mounts are seen where, and that the host keeps its own.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use tests::{Launch, Run, World, binary, mounts_below, tool, until, write_file};

/// A directory with one file, to be bound somewhere.
pub(super) fn source(world: &World, name: &str) -> std::path::PathBuf {
    let dir = world.dir.join(name);
    write_file(dir.join("file"), format!("{name}\n"));
    dir
}

pub(super) fn bind(source: &Path, target: &Path) {
    fs::create_dir_all(target).expect("directory");
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .expect("bind");
}

#[test]
fn mounts_made_after_launch_are_seen_by_new_execs() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    bind(&source(&world, "late"), &root.join("late"));
    assert_eq!(world.exec(&root).cmd(["cat", "/late/file"]).text(), "late");
}

#[test]
fn mounts_made_after_launch_are_seen_in_a_plain_directory() {
    let Some(world) = World::new() else { return };
    let root = world.plain("plain");
    let leader = world.launch(&root);
    bind(&source(&world, "late"), &root.join("late"));
    assert_eq!(world.exec(&root).cmd(["cat", "/late/file"]).text(), "late");
    leader.stop().expect_code(0);
}

#[test]
fn mounts_made_after_launch_are_seen_by_running_processes() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let wait = "echo up; while [ ! -e /late/file ]; do sleep 0.01; done; cat /late/file";
    let mut launched = world
        .launch_run(&root)
        .opt("--init")
        .sh(&format!("{wait}; exec sleep 100000"))
        .spawn();
    launched.expect("up");
    let mut inside = world.exec(&root).opt("--user=app").sh(wait).spawn();
    inside.expect("up");
    bind(&source(&world, "late"), &root.join("late"));
    inside.expect("late");
    launched.expect("late");
    inside.finish().expect_code(0);
}

#[test]
fn nested_mounts_and_unmounts_arrive_too() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    bind(&source(&world, "outer"), &root.join("data"));
    bind(&source(&world, "inner"), &root.join("data/sub"));
    assert_eq!(
        world
            .exec(&root)
            .cmd(["cat", "/data/file", "/data/sub/file"])
            .text(),
        "outer\ninner"
    );
    nix::mount::umount2(&root.join("data/sub"), nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    world
        .exec(&root)
        .cmd(["cat", "/data/sub/file"])
        .done()
        .expect_code(1);
}

#[test]
fn mounts_made_before_launch_are_seen() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    bind(&source(&world, "early"), &root.join("early"));
    let _leader = world.launch(&root);
    assert_eq!(
        world.exec(&root).cmd(["cat", "/early/file"]).text(),
        "early"
    );
}

#[test]
fn mounts_made_inside_do_not_appear_outside_but_in_the_next_exec() {
    let Some(world) = World::new() else { return };
    // A user namespace of its own cuts the way out by itself (mount_namespaces(7)); without one it is our doing.
    for userns in ["--userns=identity", "--userns=host"] {
        let root = world.create();
        let leader = Launch::start(
            // A confined container makes no mounts.
            world.launch_run(&root).opt("--profile=none").opt(userns),
            &root,
        );
        let before = mounts_below(&world.dir);
        let _ = world
            .exec(&root)
            .sh("mount -t tmpfs inside /mnt && echo secret > /mnt/x")
            .text();
        assert_eq!(world.exec(&root).cmd(["cat", "/mnt/x"]).text(), "secret");
        assert_eq!(
            mounts_below(&world.dir),
            before,
            "a mount made inside is seen outside: {userns}"
        );
        assert!(!root.join("mnt/x").exists());
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn unmounting_inside_does_not_unmount_outside() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    bind(&source(&world, "late"), &root.join("late"));
    let before = mounts_below(&world.dir);
    let _ = world
        .exec(&root)
        .sh("umount -l /late; umount -l /proc; true")
        .done();
    assert_eq!(mounts_below(&world.dir), before);
}

#[test]
fn the_clients_files_below_the_rootfs_are_seen() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n");
    write_file(root.join("var/deep/er/file"), "written\n");
    assert_eq!(
        world
            .exec(&root)
            .cmd(["cat", "/etc/resolv.conf", "/var/deep/er/file"])
            .text(),
        "nameserver 127.0.0.1\nwritten"
    );
    let _ = world.exec(&root).sh("echo back > /var/back").text();
    assert_eq!(
        fs::read_to_string(root.join("var/back")).expect("read"),
        "back\n"
    );
}

#[test]
fn the_hosts_dev_and_sys_are_there_after_rbind() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    world.rbind_host(&root);
    assert_eq!(
        world
            .exec(&root)
            .sh("test -c /dev/null && test -d /dev/pts && test -d /sys/kernel && echo yes")
            .text(),
        "yes"
    );
    assert_eq!(
        world
            .exec(&root)
            .opt("--force-tty")
            .sh("test -t 0 && tty")
            .text(),
        world.exec(&root).opt("--force-tty").sh("tty").text()
    );
    leader.stop().expect_code(0);
    world.destroy(&root);
    assert!(Path::new("/dev/pts/ptmx").exists() && Path::new("/sys/kernel").exists());
}

/// Runs a script in a private copy of the mount table in which every mount is shared, as on a host with systemd.
pub(super) fn on_a_shared_host(world: &World, script: &str) -> Run {
    let places = world.places().join(" ");
    let script = format!(
        "set -e; export PATH=/usr/sbin:/usr/bin:/sbin:/bin; mount --make-rshared /; \
         SC={}; P='{places}'; W={}; ENV=--env-file={}; {script}",
        binary().display(),
        world.dir.display(),
        world.env_file().display()
    );
    Run::new(tool("unshare")).cmd([
        "-m",
        "--propagation",
        "private",
        tool("sh").to_str().expect("path"),
        "-c",
        &script,
    ])
}

/// The script comes to its end, which says that all is as it was.
fn is_kept(world: &World, script: &str) {
    let done = on_a_shared_host(world, script).done();
    let out = done.expect_ok();
    assert!(out.ends_with("kept"), "{out} {}", done.err_text());
}

#[test]
fn a_host_with_shared_mounts_keeps_its_own() {
    let Some(world) = World::new() else { return };
    let script = r#"
        table() { cut -d' ' -f3- /proc/self/mountinfo | awk -v own=$W/ '!/\/sce2e-/ || index($0, own)' | sort; }
        for end in TERM KILL destroy; do
            table > $W/before
            R=$($SC subcontainer create-fs $P img)
            $SC subcontainer launch $P $ENV $R & L=$!
            for i in $(seq 4000); do [ -e $R/proc/1 ] && break; $SC subcontainer exec $P $R true && break; done
            mount --rbind /dev $R/dev; mount --rbind /sys $R/sys
            mkdir -p $R/run; mount --rbind /run $R/run
            $SC bind-mount --source $W/base/volumes/main --target $R/data --recursive
            $SC subcontainer exec $P $ENV $R sh -c 'test -e /dev/pts/ptmx && test -d /sys/kernel'
            case $end in
                TERM) kill -TERM $L; wait $L;;
                KILL) kill -KILL $L; wait $L || true;;
            esac
            $SC subcontainer destroy-fs $P ${R##*/}
            wait $L || true
            table > $W/after
            diff $W/before $W/after
            test -e /dev/pts/ptmx; test -d /sys/kernel
        done
        echo kept
    "#;
    is_kept(&world, script);
}

#[test]
fn inside_does_not_unmount_a_shared_hosts_mounts() {
    let Some(world) = World::new() else { return };
    let script = r#"
        table() { cut -d' ' -f3- /proc/self/mountinfo | awk -v own=$W/ '!/\/sce2e-/ || index($0, own)' | sort; }
        R=$($SC subcontainer create-fs $P img)
        $SC subcontainer launch $P $ENV $R & L=$!
        $SC subcontainer exec $P $ENV $R true
        mount --rbind /dev $R/dev
        table > $W/before
        $SC subcontainer exec $P $ENV $R sh -c 'umount -l /dev/pts; umount -l /dev/shm; umount -l /dev; mount -t tmpfs x /mnt; true'
        table > $W/after
        diff $W/before $W/after
        kill $L; wait $L; $SC subcontainer destroy-fs $P ${R##*/}
        echo kept
    "#;
    is_kept(&world, script);
}

#[test]
fn readiness_is_seen_in_the_namespace_of_the_caller_only() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let script = format!(
        "SC={}; P='{}'; R={}; $SC subcontainer launch $P $R & L=$!; $SC subcontainer exec $P $R /bin/true; \
         [ -e $R/proc/1 ] && echo ready; kill $L; wait $L",
        binary().display(),
        world.places().join(" "),
        root.path.display(),
    );
    let run =
        Run::new(tool("unshare")).cmd(["-m", "--propagation", "private", "/bin/sh", "-c", &script]);
    assert_eq!(run.done().out_text(), "ready");
    until("nothing in our own table", || {
        mounts_below(&root.join("proc")).is_empty().then_some(())
    });
}
