//! Invariant 2: nothing outside ROOTFS is touched, whatever a container puts in it. Bad input: symlinks that lead out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tests::{Rootfs, Sentinel, Snapshot, World, write_file};

/// Replaces a name in the root filesystem by a symlink.
fn plant(root: &Rootfs, name: &str, target: impl Into<PathBuf>) {
    let path = root.join(name);
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(&path).expect("remove");
    } else {
        let _ = fs::remove_file(&path);
    }
    symlink(target.into(), path).expect("symlink");
}

/// The ways out: absolute, climbing, and to nowhere.
fn ways_out(sentinel: &Sentinel, name: &str) -> [PathBuf; 3] {
    let inside = sentinel.join(name);
    let climbing = format!(
        "{}{}",
        "../".repeat(40),
        inside.to_str().expect("path").trim_start_matches('/')
    );
    [inside, climbing.into(), sentinel.join("missing")]
}

#[test]
fn a_proc_that_leads_out_is_refused_by_launch() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let root = world.create();
    for target in ways_out(&sentinel, "proc") {
        plant(&root, "proc", target);
        let before = Snapshot::of(&world);
        world.launch_run(&root).done().expect_refused(&[125]);
        sentinel.assert_same();
        before.assert_same(&world);
        fs::remove_file(root.join("proc")).expect("remove");
        fs::create_dir(root.join("proc")).expect("directory");
    }
}

/// A /proc below it is the caller's, and no left-over of a launch. In a copy of the mount table, in case that it is taken
/// away.
#[test]
fn the_callers_own_root_is_refused_by_launch() {
    let Some(world) = World::new() else { return };
    let (unshare, sh) = (tests::tool("unshare"), tests::tool("sh"));
    let wrap = [
        unshare.to_str().expect("path"),
        "--mount",
        sh.to_str().expect("path"),
        "-c",
        "\"$@\"; code=$?; [ -e /proc/self ] || echo gone; exit $code",
        "sh",
    ];
    for root in ["/", "//.", "/proc/self/root"] {
        let refused = world.launch_run(root).wrap(wrap).done();
        refused.expect_refused(&[125]);
        let told = refused.err_text();
        assert!(told.contains("own root directory"), "{root}: {told}");
    }
}

#[test]
fn a_proc_that_is_a_file_or_missing() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    fs::remove_dir(root.join("proc")).expect("remove");
    write_file(root.join("proc"), "");
    let before = Snapshot::of(&world);
    world.launch_run(&root).done().expect_refused(&[125]);
    before.assert_same(&world);
}

#[test]
fn a_proc_replaced_while_it_runs_never_leads_exec_out() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let (root, _leader) = world.idle();
    let own = fs::read_link("/proc/self/ns/pid").expect("own");
    // From inside: the procfs goes away and something else takes its place, for the container and for the host.
    nix::mount::umount2(&root.join("proc"), nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    let targets = [
        Some(PathBuf::from("/proc")),
        Some(sentinel.join("proc")),
        None,
    ];
    for target in targets {
        let said = match target {
            Some(target) => {
                plant(&root, "proc", target);
                "its proc has been replaced: ELOOP"
            }
            None => {
                fs::remove_file(root.join("proc")).expect("remove");
                fs::create_dir(root.join("proc")).expect("directory");
                "nothing that is one is mounted at its proc"
            }
        };
        let done = world
            .exec(&root)
            .sh("readlink /proc/self/ns/pid; touch /tmp/ran")
            .done();
        assert_ne!(
            done.out_text(),
            own.to_str().expect("utf8"),
            "the exec ran on the host"
        );
        done.expect_refused(&[125]);
        assert!(done.err_text().contains(said), "{}", done.err_text());
        sentinel.assert_same();
    }
    assert!(!root.join("tmp/ran").exists());
}

#[test]
fn a_foreign_proc_is_not_trusted_when_the_record_is_gone() {
    let Some(world) = World::new() else { return };
    let (one, _one) = world.idle();
    // A directory with the host's own procfs, and one with plain files that look like one.
    let host = world.plain("host-proc");
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(
        Some("/proc"),
        &host.join("proc"),
        None::<&str>,
        flags,
        None::<&str>,
    )
    .expect("bind");
    let fake = world.plain("fake-proc");
    fs::create_dir_all(fake.join("proc/1/ns")).expect("directory");
    for name in ["pid", "mnt", "user", "ipc", "cgroup"] {
        symlink(
            format!("/proc/self/ns/{name}"),
            fake.join("proc/1/ns").join(name),
        )
        .expect("symlink");
    }
    // A link into another container's procfs.
    let link = world.plain("link-proc");
    plant(&link, "proc", one.join("proc"));
    for root in [&host, &fake, &link] {
        world
            .exec(root)
            .cmd(["touch", "/tmp/ran"])
            .done()
            .expect_refused(&[125]);
    }
    assert!(!PathBuf::from("/tmp/ran").exists());
    assert!(!one.join("tmp/ran").exists());
}

#[test]
fn dev_and_etc_that_lead_out_are_not_followed() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    for name in ["dev", "etc", "sys", "tmp"] {
        for target in ways_out(&sentinel, name) {
            let root = world.create();
            plant(&root, name, target);
            let before = Snapshot::of(&world);
            let leader = world.launch(&root);
            for user in ["0", "evil", "victim", "4321"] {
                let done = world
                    .exec(&root)
                    .opt(format!("--user={user}"))
                    .opt("--force-tty")
                    .cmd(["true"])
                    .done();
                let refused = user.parse::<u32>().is_err() && name == "etc";
                assert!(
                    !refused || done.code() == Some(125),
                    "{name}: a user from outside was believed: {user}"
                );
                sentinel.assert_same();
            }
            leader.stop().expect_code(0);
            sentinel.assert_same();
            before.assert_same(&world);
            world.destroy(&root);
            sentinel.assert_same();
        }
    }
}

#[test]
fn create_fs_writes_hostname_and_hosts_inside_only() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    for (number, (name, target)) in ["etc", "etc/hostname", "etc/hosts"]
        .into_iter()
        .flat_map(|name| ways_out(&sentinel, name).map(|target| (name, target)))
        .enumerate()
    {
        let id = format!("hostile{number}");
        tests::Image::at(&world.base.join("images"), &id).build();
        let image = Rootfs {
            path: world.base.join("images").join(&id),
            guid: id.clone(),
        };
        plant(&image, name, target);
        let done = world.verb("create-fs").cmd([&id]).done();
        sentinel.assert_same();
        assert!(
            matches!(done.code(), Some(0 | 125)),
            "{:?} {}",
            done.status,
            done.err_text()
        );
        if done.code() == Some(0) {
            let guid = done.out_text().rsplit('/').next().expect("guid").to_owned();
            let _ = world.verb("destroy-fs").cmd([&guid]).text();
        } else {
            done.expect_refused(&[125]);
        }
        sentinel.assert_same();
    }
}

#[test]
fn hostname_and_hosts_that_are_fifos_or_directories() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let image = world.base.join("images/img");
    nix::unistd::mkfifo(
        &image.join("etc/hostname"),
        nix::sys::stat::Mode::from_bits_truncate(0o666),
    )
    .expect("mkfifo");
    fs::create_dir(image.join("etc/hosts")).expect("directory");
    let done = world.verb("create-fs").cmd(["img"]).done();
    if done.code() == Some(0) {
        let guid = done.out_text().rsplit('/').next().expect("guid").to_owned();
        let _ = world.verb("destroy-fs").cmd([&guid]).text();
    } else {
        done.expect_refused(&[125]);
    }
    before.assert_same(&world);
}

#[test]
fn a_workdir_through_a_symlink_stays_inside() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let (root, _leader) = world.idle();
    for target in ways_out(&sentinel, "secret") {
        plant(&root, "desk", target);
        world
            .exec(&root)
            .opt("--workdir=/desk")
            .cmd(["true"])
            .done()
            .expect_refused(&[125]);
    }
    plant(&root, "desk", "/var/log");
    assert_eq!(
        world.exec(&root).opt("--workdir=/desk").sh("pwd -P").text(),
        "/var/log"
    );
    // A directory of the host behind a descriptor would be a way out.
    for number in 0..64 {
        let done = world
            .exec(&root)
            .opt(format!("--workdir=/proc/self/fd/{number}"))
            .sh("ls; pwd -P")
            .done();
        assert!(
            done.code() == Some(125) || !done.out_text().contains("sce2e"),
            "{number}: {}",
            done.out_text()
        );
        if done.code() != Some(125) {
            assert!(
                !done.out_text().contains("unreachable"),
                "{number}: {}",
                done.out_text()
            );
        }
    }
}

#[test]
fn destroy_removes_no_file_behind_a_symlink_or_a_mount() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let root = world.create();
    for (number, name) in ["", "etc", "secret", "empty"].into_iter().enumerate() {
        symlink(sentinel.join(name), root.join(&format!("link{number}"))).expect("symlink");
    }
    let upper = world.data.join("containers").join(&root.guid).join("upper");
    symlink(&sentinel.dir, upper.join("below")).expect("symlink");
    nix::mount::umount2(&root.path, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    world.destroy(&root);
    sentinel.assert_same();
    assert!(!upper.exists());
}

#[test]
fn a_guid_that_is_a_symlink_is_not_followed() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let _first = world.create();
    for place in [
        world.base.join("subcontainers"),
        world.data.join("containers"),
    ] {
        symlink(&sentinel.dir, place.join("planted")).expect("symlink");
        let _ = world.verb("destroy-fs").cmd(["planted"]).done();
        sentinel.assert_same();
        let _ = fs::remove_file(place.join("planted"));
    }
}

#[test]
fn a_race_at_proc_never_wins() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    // No overlay: that does not rename directories of its lower layer.
    let root = world.plain("tree");
    symlink(sentinel.join("proc"), root.join("swap")).expect("symlink");
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let swapped = renameat2(
                    AT_FDCWD,
                    &root.join("proc"),
                    AT_FDCWD,
                    &root.join("swap"),
                    RenameFlags::RENAME_EXCHANGE,
                );
                swaps.fetch_add(u32::from(swapped.is_ok()), Ordering::Relaxed);
            }
        });
        for _ in 0..40 {
            // Ends at once, or is refused; which of both is the race's business.
            let _ = world.launch_run(&root).cmd(["true"]).done();
        }
        stop.store(true, Ordering::Relaxed);
    });
    sentinel.assert_same();
    assert!(swaps.into_inner() > 40, "the race was not run");
}
