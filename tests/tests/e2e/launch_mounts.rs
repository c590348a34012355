//! `launch --mount` and `--resolv-conf`: what is mounted, how, and that only the container sees it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use tests::{Launch, Rootfs, Seeded, Snapshot, World, mounts_below, spin, tool, until, write_file};

use super::mounts::{bind, source};

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

fn mount_tmpfs(target: &Path, flags: MsFlags) {
    fs::create_dir_all(target).expect("directory");
    mount(Some("t"), target, Some("tmpfs"), flags, None::<&str>).expect("mount tmpfs");
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
fn read_only_is_so_also_below() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    mount_tmpfs(&data.join("nested"), MsFlags::empty());
    mount_tmpfs(&data.join("nested/deep"), MsFlags::empty());
    for propagation in ["slave", "private", "shared"] {
        let entry = format!(
            "type=bind,src={},dst=/data,ro,propagation={propagation}",
            data.display()
        );
        let (root, leader) = with_mounts(&world, &[entry]);
        for place in [
            "/data/x",
            "/data/nested/x",
            "/data/nested/deep/x",
            "/data/file",
        ] {
            let done = world.exec(&root).sh(&format!("echo x > {place}")).done();
            assert!(
                done.err_text().contains("Read-only file system"),
                "{place}: {}",
                done.err_text()
            );
        }
        leader.stop().expect_code(0);
    }
    // The source itself is as it was.
    write_file(data.join("nested/deep/x"), "x");
}

#[test]
fn attributes_are_added_to_those_of_the_source_and_none_is_lost() {
    let Some(world) = World::new() else { return };
    let strict = world.dir.join("strict");
    mount_tmpfs(
        &strict,
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
    );
    let plain = source(&world, "plain");
    mount_tmpfs(&plain.join("below"), MsFlags::MS_NODEV);
    let (root, _leader) = with_mounts(
        &world,
        &[
            format!("type=bind,src={},dst=/strict", strict.display()),
            format!("type=bind,src={},dst=/plain,nosuid,noexec", plain.display()),
            "type=tmpfs,dst=/t".to_owned(),
            "type=tmpfs,dst=/t-ro,ro,noexec".to_owned(),
        ],
    );
    for (target, wanted) in [
        ("/strict", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/plain", &["rw", "nosuid", "noexec"]),
        ("/plain/below", &["rw", "nosuid", "nodev", "noexec"]),
        ("/t", &["rw", "nosuid", "nodev"]),
        ("/t-ro", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let (options, _) = mountinfo(&root, target).expect(target);
        let mut found: Vec<_> = options
            .split(',')
            .filter(|one| !one.ends_with("atime"))
            .collect();
        let mut wanted = wanted.to_vec();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{target}");
    }
}

#[test]
fn ids_are_mapped() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    chown(data.join("file"), Some(500), Some(500)).expect("chown");
    let (root, _leader) = with_mounts(
        &world,
        &[
            format!(
                "type=bind,src={},dst=/data,idmap=500:1000;0:0",
                data.display()
            ),
            format!(
                "type=bind,src={}/file,dst=/file,idmap=500:7:1,ro",
                data.display()
            ),
        ],
    );
    assert_eq!(
        world
            .exec(&root)
            .sh("stat -c %u:%g /data/file /file; touch /data/root")
            .text(),
        "1000:1000\n7:7"
    );
    let _ = world
        .exec(&root)
        .opt("--user=app")
        .sh("echo more >> /data/file")
        .text();
    let meta = fs::metadata(data.join("file")).expect("file");
    assert_eq!((meta.uid(), meta.gid(), meta.len()), (500, 500, 10));
    assert_eq!(fs::metadata(data.join("root")).expect("file").uid(), 0);
}

#[test]
fn ids_of_the_containers_own() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let volume = world.base.join("volumes/main");
    write_file(volume.join("file"), "volume\n");
    let create = world.verb("create-fs").opt("--userns=auto");
    let path = std::path::PathBuf::from(create.cmd(["img"]).text());
    let guid = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("guid")
        .to_owned();
    let root = Rootfs { path, guid };
    let options = [
        "--mount=type=volume,src=main,dst=/volume".to_owned(),
        format!("--mount=type=bind,src={},dst=/plain", data.display()),
        format!(
            "--mount=type=bind,src={},dst=/mapped,idmap=0:1000",
            data.display()
        ),
        "--mount=type=tmpfs,dst=/made/tmpfs".to_owned(),
        "--mount=type=tmpfs,dst=/volume/below".to_owned(),
        "--mount=type=dev".to_owned(),
        "--share=sys".to_owned(),
        "--resolv-conf".to_owned(),
    ];
    let _leader = launch(&world, &root, &options);
    let added = "type=volume,src=main,dst=/added";
    let run = world
        .bare(["subcontainer", "mount", "add"])
        .verb(world.places());
    let _ = run.rootfs(&root).cmd([added]).text();
    let shown = "stat -c %u /volume/file /plain/file /mapped/file /made /made/tmpfs /volume/below /added/file \
                 /added /etc/resolv.conf; echo x > /volume/new && echo x > /dev/null && exec 3<>/dev/ptmx && stat -c %g /dev/pts/0";
    assert_eq!(
        world.exec(&root).sh(shown).text(),
        "0\n0\n1000\n0\n0\n0\n0\n0\n0\n5"
    );
    // On disk it is root's, as what the container writes into its root filesystem is.
    for name in ["new", "below"] {
        assert_eq!(fs::metadata(volume.join(name)).expect("made").uid(), 0);
    }
}

#[test]
fn what_is_mounted_at_the_source_later_arrives_unless_private() {
    let Some(world) = World::new() else { return };
    let data = world.dir.join("data");
    mount_tmpfs(&data, MsFlags::empty());
    mount(
        None::<&str>,
        &data,
        None::<&str>,
        MsFlags::MS_SHARED,
        None::<&str>,
    )
    .expect("share");
    for name in ["late", "inside", "sent"] {
        fs::create_dir(data.join(name)).expect("directory");
    }
    let entry = |name| {
        format!(
            "type=bind,src={},dst=/{name},propagation={name}",
            data.display()
        )
    };
    let root = world.create();
    let options = ["slave", "private", "shared"].map(|name| format!("--mount={}", entry(name)));
    let (confined, options) = ("--profile=none".to_owned(), options.to_vec());
    let _leader = launch(&world, &root, &[vec![confined], options].concat());
    bind(&source(&world, "other"), &data.join("late"));
    let seen = "ls /slave/late; ls /private/late; ls /shared/late";
    assert_eq!(world.exec(&root).sh(seen).text(), "file\nfile");
    // And the other way only if it was asked for.
    let before = mounts_below(&data);
    let _ = world
        .exec(&root)
        .sh("mount -t tmpfs x /slave/inside && mount -t tmpfs x /private/inside")
        .text();
    assert_eq!(mounts_below(&data), before);
    let _ = world.exec(&root).sh("mount -t tmpfs x /shared/sent").text();
    assert!(mounts_below(&data).contains(&data.join("sent")));
}

#[test]
fn not_recursive_shows_what_is_below_the_mounts() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    mount_tmpfs(&data.join("nested"), MsFlags::empty());
    write_file(data.join("nested/hidden"), "x");
    let (root, _leader) = with_mounts(
        &world,
        &[
            format!("type=bind,src={},dst=/flat,recursive=false", data.display()),
            format!("type=bind,src={},dst=/deep", data.display()),
        ],
    );
    let shown = world
        .exec(&root)
        .sh("ls /flat/nested; ls /deep/nested")
        .text();
    assert_eq!(shown, "hidden");
    assert!(mountinfo(&root, "/flat/nested").is_none());
    assert!(mountinfo(&root, "/deep/nested").is_some());
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
fn the_hosts_resolv_conf() {
    let Some(world) = World::new() else { return };
    let given = world.dir.join("resolv");
    write_file(&given, "nameserver 192.0.2.1\n");
    let link = world.dir.join("link");
    symlink(&given, &link).expect("symlink");
    let option = format!("--resolv-conf={}", link.display());
    let stub = world.dir.join("stub");
    write_file(&stub, "outside\n");
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        stub.to_str().expect("path"),
        "/nowhere",
    ] {
        let root = world.create();
        symlink(target, root.join("etc/resolv.conf")).expect("symlink");
        let _leader = launch(&world, &root, &[&option]);
        let seen = world
            .exec(&root)
            .sh("cat /etc/resolv.conf; stat -c '%a %u %F' /etc/resolv.conf; ls -A /etc/.res*");
        let done = seen.done();
        assert_eq!(done.out_text(), "nameserver 192.0.2.1\n644 0 regular file");
        assert_eq!(fs::read_to_string(&stub).expect("stub"), "outside\n");
        assert_eq!(
            fs::read_to_string(root.join("etc/resolv.conf")).expect("file"),
            "nameserver 192.0.2.1\n"
        );
    }
    let root = world.create();
    let _leader = launch(&world, &root, &["--resolv-conf"]);
    assert_eq!(
        fs::read(root.join("etc/resolv.conf")).expect("file"),
        fs::read("/etc/resolv.conf").expect("the host's")
    );
}

#[test]
fn resolv_conf_is_written_before_it_is_covered() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let given = world.dir.join("resolv");
    write_file(&given, "nameserver 192.0.2.1\n");
    let options = [
        format!("--resolv-conf={}", given.display()),
        "--mount=type=tmpfs,dst=/etc/resolv.conf.d".to_owned(),
        "--read-only".to_owned(),
    ];
    let _leader = launch(&world, &root, &options);
    assert_eq!(
        world.exec(&root).cmd(["cat", "/etc/resolv.conf"]).text(),
        "nameserver 192.0.2.1"
    );
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
        .skip_while(|call| !call.starts_with("pivot_root"))
        .skip(1)
        .take_while(|call| !call.starts_with("send(") && !call.contains("procfs"))
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
