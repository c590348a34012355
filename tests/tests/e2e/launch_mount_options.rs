//! The options of `launch --mount`: read-only, attributes, ids, propagation, recursion.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use tests::{Rootfs, World, mounts_below, write_file};

use super::launch_mounts::{launch, mountinfo, with_mounts};
use super::mounts::{bind, source};

fn mount_tmpfs(target: &Path, flags: MsFlags) {
    fs::create_dir_all(target).expect("directory");
    mount(Some("t"), target, Some("tmpfs"), flags, None::<&str>).expect("mount tmpfs");
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
