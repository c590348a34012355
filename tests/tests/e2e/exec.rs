//! CONTRACT 1 and 3: what `subcontainer exec` joins, and that execs do not disturb each other.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tests::{Snapshot, World, write_file};

#[test]
fn exec_sees_the_container_and_not_the_host() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("mark"), "this one\n");
    assert_eq!(world.exec(&root).cmd(["cat", "/mark"]).text(), "this one");
    let outside = world.dir.to_str().expect("path");
    world.exec(&root).cmd(["ls", outside]).done().expect_code(1);
}

#[test]
fn execs_share_processes_and_files() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut first = world
        .exec(&root)
        .sh("echo $$ > /tmp/pid; echo up; exec sleep 100000")
        .spawn();
    first.expect("up");
    assert_eq!(
        world
            .exec(&root)
            .sh("tr '\\0' ' ' < /proc/$(cat /tmp/pid)/cmdline")
            .text(),
        "sleep 100000 "
    );
    let _ = world.exec(&root).sh("kill -KILL $(cat /tmp/pid)").text();
    assert_eq!(first.finish().signal(), Some(9));
}

#[test]
fn execs_in_two_containers_do_not_meet() {
    let Some(world) = World::new() else { return };
    let (one, _one) = world.idle();
    let (two, _two) = world.idle();
    let _ = world.exec(&one).sh("echo one > /mark").text();
    let _ = world.exec(&two).sh("echo two > /mark").text();
    assert_eq!(world.exec(&one).cmd(["cat", "/mark"]).text(), "one");
    assert_eq!(world.exec(&two).cmd(["cat", "/mark"]).text(), "two");
    assert_eq!(
        fs::read_to_string(world.base.join("images/img/mark")).ok(),
        None,
        "the image has changed"
    );
}

#[test]
fn fifty_execs_at_once_three_times() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let before = Snapshot::of(&world);
    for round in 0..3 {
        let clients: Vec<_> = (0..50)
            .map(|n| {
                (
                    n,
                    world
                        .exec(&root)
                        .sh(&format!("echo {round} {n}; exit {n}"))
                        .spawn(),
                )
            })
            .collect();
        for (n, client) in clients {
            let done = client.finish();
            assert_eq!(
                (done.code(), done.out_text()),
                (Some(n), format!("{round} {n}")),
                "{}",
                done.err_text()
            );
        }
    }
    before.assert_same(&world);
    assert_eq!(root.pids(), [1]);
}

#[test]
fn an_exec_writes_nothing_to_the_disk() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let _ = world.exec(&root).cmd(["true"]).text();
    root.wait_alone();
    let before = Snapshot::of(&world);
    let mut running = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    running.expect("up");
    let files = |root: &std::path::Path| {
        let mut names: Vec<_> = fs::read_dir(root)
            .expect("list")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        names.sort();
        names
    };
    let leaders = files(&world.state.join("leaders"));
    assert_eq!(leaders.len(), 1, "an exec has a record: {leaders:?}");
    drop(running);
    before.assert_same(&world);
}

#[test]
fn exec_works_on_a_read_only_root_filesystem() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let flags = nix::mount::MsFlags::MS_REMOUNT
        | nix::mount::MsFlags::MS_BIND
        | nix::mount::MsFlags::MS_RDONLY;
    nix::mount::mount(
        None::<&str>,
        root.path.as_path(),
        None::<&str>,
        flags,
        None::<&str>,
    )
    .expect("read-only");
    assert_eq!(world.exec(&root).cmd(["echo", "ro"]).text(), "ro");
}

#[test]
fn exec_adds_nothing_to_the_root_filesystem() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let names = || {
        let mut names = Vec::new();
        let mut open = vec![root.path.clone()];
        while let Some(path) = open.pop() {
            for entry in fs::read_dir(&path).expect("list").flatten() {
                names.push(entry.path());
                // The procfs is mounted there on purpose.
                if entry.file_type().expect("type").is_dir() && entry.path() != root.join("proc") {
                    open.push(entry.path());
                }
            }
        }
        names.sort();
        names
    };
    let before = names();
    let leader = world.launch(&root);
    let _ = world.exec(&root).opt("--user=app").cmd(["true"]).text();
    assert_eq!(names(), before);
    leader.stop().expect_code(0);
    assert_eq!(names(), before);
}

#[test]
fn an_image_without_anything_but_a_program() {
    let Some(world) = World::new() else { return };
    let image = world.base.join("images/scratch");
    fs::create_dir_all(&image).expect("directory");
    fs::copy("/bin/busybox", image.join("busybox")).expect("copy");
    fs::set_permissions(image.join("busybox"), fs::Permissions::from_mode(0o755)).expect("mode");
    let root = world.create_of("scratch");
    let leader = world.launch(&root);
    let run = |user: &str| {
        world
            .exec(&root)
            .no_opts()
            .opt(format!("--user={user}"))
            .cmd(["/busybox", "sh", "-c", "echo $HOME"])
    };
    assert_eq!(run("0").text(), "/");
    assert_eq!(
        run("root").done().code(),
        Some(0),
        "root is root without a passwd file: {}",
        run("root").done().err_text()
    );
    assert_eq!(run("1234:99").text(), "/");
    run("app").done().expect_refused(&[125]);
    leader.stop().expect_code(0);
    world.destroy(&root);
}

/// init runs with the command's limits: it must not need more stack than a shell.
#[test]
fn a_small_stack_limit_is_enough() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let limited = ["-c", "ulimit -s 192 && exec \"$@\"", "sh"];
    let run = world.exec(&root).wrap([tests::tool("sh")]).wrap(limited);
    assert_eq!(run.cmd(["echo", "small"]).text(), "small");
}
