//! `launch --mount` and `--resolv-conf`: what is mounted, how, and that only the container sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use tests::{Launch, Rootfs, Seeded, Snapshot, World, mounts_below, spin, tool, until, write_file};

use super::mounts::source;

/// A ready idle leader with these options.
pub(super) fn launch<S: AsRef<str>>(world: &World, root: &Rootfs, options: &[S]) -> Launch {
    let options = options.iter().map(AsRef::as_ref);
    let launched = Launch::start(world.launch_run(root).opts(options), root);
    until("PID 1 to be init", || {
        (root.cmdline(1) == "init").then_some(())
    });
    launched
}

/// An idle leader with these mounts, and its root filesystem.
pub(super) fn with_mounts<S: AsRef<str>>(world: &World, mounts: &[S]) -> (Rootfs, Launch) {
    let root = world.create();
    let options: Vec<_> = mounts
        .iter()
        .map(|entry| format!("--mount={}", entry.as_ref()))
        .collect();
    let launched = launch(world, &root, &options);
    (root, launched)
}

/// The mount at `target` as PID 1's /proc has it: options, and optional fields like `master:1`.
pub(super) fn mountinfo(root: &Rootfs, target: &str) -> Option<(String, String)> {
    let table = fs::read_to_string(root.join("proc/1/mountinfo")).expect("mountinfo");
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(target))?;
    let fields: Vec<_> = line.split(' ').collect();
    let end = fields.iter().position(|field| *field == "-")?;
    Some((fields[5].to_owned(), fields[6..end].join(" ")))
}

#[test]
fn every_type_shows_what_it_should() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    write_file(world.base.join("volumes/main/in-volume"), "volume\n");
    let layers = ["low1", "low2", "up", "work"].map(|name| world.dir.join(name));
    for layer in &layers {
        fs::create_dir(layer).expect("directory");
    }
    write_file(layers[0].join("who"), "upper of both\n");
    write_file(layers[1].join("who"), "lower of both\n");
    let [low1, low2, up, work] = layers.each_ref().map(|layer| layer.display());
    let (root, _leader) = with_mounts(
        &world,
        &[
            format!("type=bind,src={},dst=/made/dir", data.display()),
            format!("type=bind,src={}/file,dst=/made/file", data.display()),
            "type=volume,src=main,dst=/volume".to_owned(),
            "type=tmpfs,dst=/memory,size=64k,mode=0750,nr_inodes=10".to_owned(),
            format!("type=overlay,lower={low1}:{low2},upper={up},work={work},dst=/over"),
            format!("type=overlay,lower={low1}:{low2},dst=/over-ro"),
        ],
    );
    let shown = "cat /made/dir/file /made/file /volume/in-volume /over/who /over-ro/who";
    assert_eq!(
        world.exec(&root).sh(shown).text(),
        "data\ndata\nvolume\nupper of both\nupper of both"
    );
    let _ = world
        .exec(&root)
        .sh("echo inside > /made/dir/new && echo inside > /volume/new && echo inside > /over/new && echo x > /memory/x")
        .text();
    for place in [
        data.join("new"),
        world.base.join("volumes/main/new"),
        layers[2].join("new"),
    ] {
        assert_eq!(
            fs::read_to_string(&place).expect("written inside"),
            "inside\n"
        );
    }
    let memory = "stat -c %a /memory; ! head -c 100000 /dev/zero > /memory/big; stat -c %s /memory/big; touch /over-ro/x || echo refused";
    let done = world.exec(&root).sh(memory).done();
    assert_eq!(done.expect_ok(), "750\n61440\nrefused");
    // What was made for the targets is the image's from now on.
    let mode = |path: &str| {
        fs::metadata(root.join(path))
            .expect("made")
            .permissions()
            .mode()
    };
    assert_eq!(mode("made/dir") & 0o7777, 0o755);
    assert_eq!(mode("made/file") & 0o7777, 0o644);
    assert_eq!(fs::metadata(root.join("made/file")).expect("made").len(), 0);
}

#[test]
fn only_the_container_has_them_and_they_end_with_it() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    let plain = world.launch(&root);
    let with_nothing = mounts_below(&world.dir);
    plain.stop().expect_code(0);
    let before = Snapshot::of(&world);
    for end in [Signal::SIGTERM, Signal::SIGKILL] {
        let options = [
            format!("--mount=type=bind,src={},dst=/mnt", data.display()),
            "--mount=type=tmpfs,dst=/tmp".to_owned(),
            "--mount=type=dev".to_owned(),
        ];
        let leader = launch(&world, &root, &options);
        assert!(mountinfo(&root, "/mnt").is_some());
        assert_eq!(mounts_below(&world.dir), with_nothing);
        leader.signal(end);
        let _ = leader.into_client().finish();
        if end == Signal::SIGTERM {
            before.assert_same(&world);
        }
    }
    world.destroy(&root);
    assert_eq!(mounts_below(&root.path), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        fs::read_to_string(data.join("file")).expect("kept"),
        "data\n"
    );
}

#[test]
fn parents_come_before_children_in_whatever_order_they_are_given() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let (root, _leader) = with_mounts(
        &world,
        &[
            format!("type=bind,src={},dst=/a/b/c", data.display()),
            "type=tmpfs,dst=/a/b".to_owned(),
            format!("type=bind,src={}/file,dst=/a/b/d/file", data.display()),
            "type=tmpfs,dst=/a".to_owned(),
        ],
    );
    assert_eq!(
        world.exec(&root).sh("cat /a/b/c/file /a/b/d/file").text(),
        "data\ndata"
    );
    // All of it was made in the tmpfs, nothing in the root filesystem but the first.
    assert_eq!(fs::read_dir(root.join("a")).expect("made").count(), 0);
}

#[test]
fn a_command_finds_them_at_its_start() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let entry = format!("--mount=type=bind,src={},dst=/data", data.display());
    for options in [
        &[][..],
        &["--init"],
        &["--userns=host"],
        &["--profile=hardened"],
    ] {
        let root = world.create();
        let run = world.launch_run(&root).opts(options).opt(&entry);
        assert_eq!(run.cmd(["cat", "/data/file"]).text(), "data");
    }
}

#[test]
fn a_dev_of_its_own() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = with_mounts(&world, &["type=dev"]);
    assert_eq!(
        world.exec(&root).sh("ls /dev; ls /dev/pts").text(),
        "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\nptmx"
    );
    assert_eq!(
        world
            .exec(&root)
            .sh("stat -c %n:%a:%t:%T /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
                 stat -c %a /dev /dev/shm /dev/pts/ptmx; readlink /dev/fd; readlink /dev/ptmx")
            .text(),
        "/dev/null:666:1:3\n/dev/zero:666:1:5\n/dev/full:666:1:7\n/dev/random:666:1:8\n/dev/urandom:666:1:9\n\
         /dev/tty:666:5:0\n755\n1777\n666\n/proc/self/fd\npts/ptmx"
    );
    // As an ordinary user, because that is who needs the modes.
    let used = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c && \
                ! echo x 2>/dev/null > /dev/full && echo x > /dev/shm/x && echo on > /dev/stdout && ls /dev/shm";
    assert_eq!(
        world.exec(&root).opt("--user=app").sh(used).text(),
        "3\n5\non\nx"
    );
    // A terminal that is made inside is of the container's own devpts.
    let pair = "exec 3<>/dev/ptmx; ls /dev/pts; stat -c %g:%a:%u /dev/pts/0";
    let made = world.exec(&root).opt("--user=app").sh(pair).text();
    assert_eq!(made, "0\nptmx\n5:620:1000");
    // Nothing can be mounted from a device, and none is there to be opened.
    let done = world.exec(&root).sh("find /dev -type b").text();
    assert_eq!(done, "");
}

#[test]
fn more_mounts_than_open_files() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    let options = (0..300).map(|number| {
        format!(
            "--mount=type=bind,src={},dst=/many/{number}",
            data.display()
        )
    });
    let prlimit = tool("prlimit");
    let run = world.launch_run(&root).opts(options);
    let run = run.wrap([prlimit.to_str().expect("path"), "--nofile=256:256"]);
    let _leader = Launch::start(run, &root);
    let count = world
        .exec(&root)
        .sh("cat /many/*/file | wc -l; ulimit -n; ls /proc/1/fd");
    let text = count.text();
    assert!(text.starts_with("300\n"), "{text}");
    let limits = fs::read_to_string(root.join("proc/1/limits")).expect("limits");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    assert!(files.expect("limit").contains("256"), "{limits}");
}

#[test]
fn a_dry_run_has_a_step_for_each() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    let before = Snapshot::of(&world);
    let entry = format!(
        "--mount=type=bind,src={},dst=/x/y,ro,idmap=0:1",
        data.display()
    );
    let options = [
        entry.as_str(),
        "--mount=type=tmpfs,dst=/t,size=1m",
        "--share=sys",
        "--resolv-conf",
        "--dry-run",
    ];
    let text = world.launch_run(&root).opts(options).text();
    let calls: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once("child  ").map(|(_, call)| call))
        .skip_while(|call| !call.starts_with("fchdir"))
        .skip(1)
        .take_while(|call| !call.starts_with("pivot_root"))
        .collect();
    let open = format!(
        "move_mount(open_tree({}, OPEN_TREE_CLONE|AT_RECURSIVE",
        data.display()
    );
    assert_eq!(calls[0], "rename(/etc/.resolv.conf.new, /etc/resolv.conf)");
    assert!(
        calls[1].starts_with("move_mount(open_tree(/sys, OPEN_TREE_CLONE|AT_RECURSIVE"),
        "{text}"
    );
    assert_eq!(
        calls[2],
        "move_mount(fsmount(tmpfs, nosuid,nodev,mode=1777,size=1m), /t)"
    );
    assert_eq!(calls[3], format!("{open}, ro,slave,idmap=0:1:1), /x/y)"));
    let json = world
        .launch_run(&root)
        .opts(options)
        .opt("--format=json")
        .text();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["mounts"][2]["target"], "/x/y");
    assert_eq!(json["mounts"][2]["idmap"][0], "0:1:1");
    before.assert_same(&world);
    assert!(!root.join("x").exists());
}

#[test]
fn a_launch_that_is_killed_at_any_moment_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    let mut random = Seeded::new(7);
    let mut options: Vec<_> = (0..40)
        .map(|number| format!("--mount=type=bind,src={},dst=/m/{number}", data.display()))
        .collect();
    options.push("--mount=type=dev".to_owned());
    options.push(format!(
        "--mount=type=bind,src={},dst=/mapped,idmap=0:1",
        data.display()
    ));
    // The first makes the targets, which stay.
    launch(&world, &root, &options).stop().expect_code(0);
    let before = Snapshot::of(&world);
    for _ in 0..60 {
        let client = world.launch_run(&root).opts(&options).spawn();
        spin(std::time::Duration::from_micros(random.below(40_000)));
        client.signal(Signal::SIGKILL);
        drop(client);
    }
    // A killed launch may leave its procfs and the shared mount to the next one.
    launch(&world, &root, &options).stop().expect_code(0);
    before.assert_same(&world);
    world.destroy(&root);
}
