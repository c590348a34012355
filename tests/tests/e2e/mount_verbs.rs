//! `subcontainer mount add|rm|list`: mounts of a running container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Done, Rootfs, Run, Seeded, Sentinel, Snapshot, World, mounts_below, spin};

use super::launch_mounts::{launch, mountinfo};
use super::mounts::{bind, source};

/// `subcontainer mount VERB ROOTFS WORD…`
fn mount(world: &World, verb: &str, root: &Rootfs, words: &[&str]) -> Run {
    let run = world.bare(["subcontainer", "mount", verb]);
    run.verb(world.places()).rootfs(root).cmd(words)
}

fn refused(done: &Done, words: &[&str]) {
    done.expect_refused(&[125]);
    for word in words {
        assert!(
            done.err_text().contains(word),
            "{word:?} in {}",
            done.err_text()
        );
    }
}

/// Makes a directory of the host a mount that is shared.
fn make_shared(data: &Path) {
    bind(data, data);
    let shared = MsFlags::MS_SHARED;
    nix::mount::mount(None::<&str>, data, None::<&str>, shared, None::<&str>).expect("share");
}

/// Containers with `data` as `/x`, `propagation=shared`, in the two ways that this is possible; each is stopped when it was looked at.
fn in_shared(world: &World, data: &Path, look: impl Fn(&Rootfs)) {
    for options in [
        &["--profile=none"][..],
        &["--profile=none", "--userns=host"],
    ] {
        let root = world.create();
        let entry = format!(
            "--mount=type=bind,src={},dst=/x,propagation=shared",
            data.display()
        );
        let leader = launch(world, &root, &[&[entry.as_str()], options].concat());
        look(&root);
        leader.stop().expect_code(0);
    }
}

#[test]
fn what_is_added_is_seen_by_running_processes_and_the_next_exec_and_nobody_else() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    for options in [&[][..], &["--userns=host"]] {
        let root = world.create();
        // Only what is mounted there is to be counted.
        fs::create_dir(root.join("late")).expect("directory");
        let leader = launch(&world, &root, options);
        let before = Snapshot::of(&world);
        let wait = "echo up; while [ ! -e /late/file ]; do sleep 0.01; done; cat /late/file; \
                    while [ -e /late/file ]; do sleep 0.01; done; echo gone";
        let mut inside = world.exec(&root).opt("--user=app").sh(wait).spawn();
        inside.expect("up");
        let entry = format!("type=bind,src={},dst=/late,ro", data.display());
        assert_eq!(mount(&world, "add", &root, &[&entry]).text(), "");
        inside.expect("data");
        let seen = world.exec(&root).sh("cat /late/file; touch /late/x").done();
        assert_eq!(seen.out_text(), "data");
        assert!(seen.err_text().contains("Read-only file system"));
        assert_eq!(mount(&world, "rm", &root, &["/late"]).text(), "");
        inside.expect("gone");
        inside.finish().expect_code(0);
        root.wait_alone();
        before.assert_same(&world);
        leader.stop().expect_code(0);
    }
}

#[test]
fn every_type_can_be_added() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let lower = source(&world, "lower");
    let (root, _leader) = world.idle();
    let before = mounts_below(&world.dir);
    for entry in [
        format!("type=bind,src={}/file,dst=/new/file", data.display()),
        format!("type=bind,src={},dst=/mapped,idmap=0:1000", data.display()),
        "type=volume,src=main,dst=/volume,noexec".to_owned(),
        "type=tmpfs,dst=/memory,size=1m,mode=0700".to_owned(),
        format!(
            "type=overlay,lower={}:{},dst=/over",
            lower.display(),
            data.display()
        ),
    ] {
        let _ = mount(&world, "add", &root, &[&entry]).text();
    }
    assert_eq!(
        world
            .exec(&root)
            .sh("cat /new/file /over/file; stat -c %u /mapped/file; stat -c %a:%u /memory /new /new/file")
            .text(),
        "data\nlower\n1000\n700:0\n755:0\n644:0"
    );
    let (options, _) = mountinfo(&root, "/volume").expect("volume");
    assert!(options.contains("noexec"), "{options}");
    assert_eq!(
        mounts_below(&world.dir),
        before,
        "an added mount is in the host's table"
    );
    // On top of another one, and away again.
    let _ = mount(&world, "add", &root, &["type=tmpfs,dst=/volume"]).text();
    for _ in 0..2 {
        let _ = mount(&world, "rm", &root, &["/volume"]).text();
    }
    refused(
        &mount(&world, "rm", &root, &["/volume"]).done(),
        &["it is no mount point"],
    );
}

#[test]
fn a_target_through_a_symlink_inside_is_refused() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let (root, _leader) = world.idle();
    for target in [
        sentinel.dir.to_str().expect("path"),
        "/mnt",
        "../mnt",
        "/proc/1/root",
        "nowhere",
    ] {
        let _ = fs::remove_file(root.join("link"));
        symlink(target, root.join("link")).expect("symlink");
        for place in ["/link", "/link/empty"] {
            let entry = format!("type=tmpfs,dst={place}");
            refused(
                &mount(&world, "add", &root, &[&entry]).done(),
                &["ELOOP", "is a symlink inside", place],
            );
            refused(
                &mount(&world, "rm", &root, &[place]).done(),
                &["ELOOP", "is a symlink inside"],
            );
            sentinel.assert_same();
        }
    }
}

#[test]
fn what_must_stay_is_not_taken_away() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    bind(&source(&world, "early"), &root.join("early"));
    let _leader = launch(&world, &root, &["--share=sys"]);
    bind(&source(&world, "late"), &root.join("late"));
    let host = mounts_below(&world.dir);
    for (path, word) in [
        ("/", "it is the root directory"),
        ("/proc", "it is in /proc"),
        ("/proc/kcore", "it is in /proc"),
        ("/a/../proc", "\"..\""),
        ("late", "it is not absolute"),
        ("/etc", "it is no mount point"),
        ("/missing", "ENOENT"),
        // It came with the root filesystem, in a more privileged namespace.
        ("/early", "EINVAL"),
    ] {
        refused(&mount(&world, "rm", &root, &[path]).done(), &[word]);
    }
    assert_eq!(
        world.exec(&root).sh("cat /early/file /late/file").text(),
        "early\nlate"
    );
    // A mount of the client's goes for the container alone, and a share with all that is in it.
    let _ = mount(&world, "rm", &root, &["/late"]).text();
    let _ = mount(&world, "rm", &root, &["/sys"]).text();
    assert_eq!(world.exec(&root).sh("ls -A /late; ls -A /sys").text(), "");
    assert_eq!(mounts_below(&world.dir), host);
    assert!(Path::new("/sys/kernel").exists());
    // Later ones still arrive below what could not be taken away.
    bind(&source(&world, "later"), &root.join("later"));
    assert_eq!(
        world.exec(&root).cmd(["cat", "/later/file"]).text(),
        "later"
    );
}

/// What is mounted in a shared mount is the host's as well, and in every other copy: unmounting it would travel there.
#[test]
fn what_is_taken_away_stays_on_the_host() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    make_shared(&data);
    bind(&source(&world, "sub"), &data.join("sub"));
    let peer = world.dir.join("peer");
    bind(&data, &peer);
    in_shared(&world, &data, |root| {
        let before = Snapshot::of(&world);
        let done = mount(&world, "rm", root, &["/x/sub"]).done();
        refused(&done, &["it lies in /x, which is shared"]);
        before.assert_same(&world);
        assert_eq!(world.exec(root).cmd(["cat", "/x/sub/file"]).text(), "sub");
        // The whole of it goes for the container alone.
        assert_eq!(mount(&world, "rm", root, &["/x"]).text(), "");
        before.assert_same(&world);
        for copy in [&data, &peer] {
            let text = fs::read_to_string(copy.join("sub/file")).expect("file");
            assert_eq!(text, "sub\n", "{}", copy.display());
        }
        assert!(mountinfo(root, "/x/sub").is_none());
        // What is shared inside alone is no obstacle.
        let _ = world.exec(root).sh("mount --make-rshared /").text();
        let _ = mount(&world, "add", root, &["type=tmpfs,dst=/x"]).text();
        assert_eq!(mount(&world, "rm", root, &["/x"]).text(), "");
    });
}

#[test]
fn the_list_is_the_kernels() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    let entry = format!(
        "--mount=type=bind,src={},dst=/data,ro,noexec",
        data.display()
    );
    let _leader = launch(
        &world,
        &root,
        &[entry.as_str(), "--mount=type=tmpfs,dst=/new\nline"],
    );
    let text = mount(&world, "list", &root, &[]).text();
    let kernel = world
        .exec(&root)
        .cmd(["cat", "/proc/self/mountinfo"])
        .text();
    assert_eq!(text.lines().count(), 1 + kernel.lines().count(), "{text}");
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(
        words(text.lines().next().expect("heading")),
        ["TARGET", "SOURCE", "TYPE", "OPTIONS"]
    );
    let line = text
        .lines()
        .find(|line| line.starts_with("/data "))
        .expect("data");
    assert!(
        line.contains("/data]") && line.contains("ro") && line.contains("noexec"),
        "{line}"
    );
    assert!(text.contains("/new\\nline "), "{text}");
    let json = mount(&world, "list", &root, &[]).opt("--json").text();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let of = |target: &str| {
        let list = json.as_array().expect("list");
        list.iter()
            .find(|one| one["target"] == target)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(of("/new\nline")["type"], "tmpfs");
    assert_eq!(of("/")["type"], "overlay");
    let options: Vec<_> = of("/data")["options"].as_array().expect("options").clone();
    assert!(
        options.contains(&"ro".into()) && options.contains(&"noexec".into()),
        "{options:?}"
    );
    assert!(of("/data")["propagation"].is_array());
}

#[test]
fn without_a_container_or_a_source_nothing_happens() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let before = Snapshot::of(&world);
    for (verb, word) in [("add", "type=tmpfs,dst=/x"), ("rm", "/x")] {
        refused(
            &mount(&world, verb, &root, &[word]).done(),
            &["find a running container"],
        );
    }
    refused(
        &mount(&world, "list", &root, &[]).done(),
        &["find a running container"],
    );
    before.assert_same(&world);
    // It waits for PID 1 to have the name that it keeps, which is part of the snapshot.
    let _leader = launch(&world, &root, &[] as &[&str]);
    let before = Snapshot::of(&world);
    for (entry, word) in [
        ("type=bind,src=/no/such,dst=/x", "ENOENT"),
        ("type=tmpfs,dst=/", "root directory"),
        ("type=tmpfs,dst=/proc/x", "in /proc"),
        ("type=dev", "give it to launch"),
        (
            "type=bind,src=/etc/passwd,dst=/etc",
            "source and target must both be directories",
        ),
    ] {
        refused(&mount(&world, "add", &root, &[entry]).done(), &[word]);
    }
    before.assert_same(&world);
    assert!(!root.join("x").exists());
}

#[test]
fn an_add_that_is_killed_has_mounted_or_not() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let (root, leader) = world.idle();
    fs::create_dir(root.join("late")).expect("directory");
    let before = Snapshot::of(&world);
    let mut random = Seeded::new(11);
    let entry = format!("type=bind,src={},dst=/late,idmap=0:0", data.display());
    for _ in 0..30 {
        let client = mount(&world, "add", &root, &[&entry]).spawn();
        spin(std::time::Duration::from_micros(random.below(15_000)));
        client.signal(Signal::SIGKILL);
        drop(client);
        before.assert_same(&world);
    }
    leader.stop().expect_code(0);
}

#[test]
fn nothing_is_added_where_it_would_stay_on_the_host() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    make_shared(&data);
    in_shared(&world, &data, |root| {
        let before = Snapshot::of(&world);
        let done = mount(&world, "add", root, &["type=tmpfs,dst=/x/y/sub"]).done();
        refused(&done, &["it lies in /x, which is shared"]);
        before.assert_same(&world);
        // What is shared inside alone is no obstacle, as an init system has it.
        let _ = world.exec(root).sh("mount --make-rshared /").text();
        assert_eq!(
            mount(&world, "add", root, &["type=tmpfs,dst=/sub"]).text(),
            ""
        );
        assert!(mountinfo(root, "/sub").is_some());
    });
}

#[test]
fn no_target_is_made_in_a_directory_that_is_shared_with_the_host() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--share=dev"]);
    let name = format!("sce2e-{}", std::process::id());
    let entry = format!("type=tmpfs,dst=/dev/{name}");
    let done = mount(&world, "add", &root, &[&entry]).done();
    let made = Path::new("/dev").join(&name);
    let was_made = fs::remove_dir(made).is_ok();
    refused(&done, &["a directory that is shared with the host"]);
    assert!(!was_made);
    leader.stop().expect_code(0);
}
