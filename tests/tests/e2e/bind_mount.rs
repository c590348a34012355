//! CONTRACT 1: `bind-mount`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use tests::{Run, Sentinel, Snapshot, World, mounts_below, write_file};

fn bind(world: &World, source: &Path, target: &Path) -> Run {
    world
        .bare(["bind-mount"])
        .verb(world.places())
        .opt("--source")
        .opt(source)
        .opt("--target")
        .opt(target)
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::metadata(path).expect("stat");
    (meta.uid(), meta.gid())
}

/// A directory with one file of this owner.
fn owned(world: &World, name: &str, uid: u32) -> std::path::PathBuf {
    let dir = world.dir.join(name);
    write_file(dir.join("file"), format!("{name}\n"));
    chown(dir.join("file"), Some(uid), Some(uid)).expect("chown");
    chown(&dir, Some(uid), Some(uid)).expect("chown");
    dir
}

#[test]
fn makes_the_target_and_its_parents() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let target = root.join("a/b/c");
    let done = bind(&world, &owned(&world, "volume", 0), &target).done();
    assert_eq!(done.expect_ok(), "");
    assert_eq!(
        fs::read_to_string(target.join("file")).expect("read"),
        "volume\n"
    );
    assert_eq!(
        world.exec(&root).cmd(["cat", "/a/b/c/file"]).text(),
        "volume"
    );
    let mode = fs::metadata(root.join("a/b")).expect("stat").mode() & 0o7777;
    assert_eq!(mode, 0o755);
}

#[test]
fn value_after_equals() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let source = owned(&world, "volume", 0);
    let target = root.join("data");
    let run = world.bare([
        "bind-mount".into(),
        format!("--source={}", source.display()),
        format!("--target={}", target.display()),
    ]);
    let _ = run.text();
    assert!(target.join("file").exists());
}

#[test]
fn a_file_on_a_file() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let source = owned(&world, "volume", 0).join("file");
    for target in ["etc/new/config", "etc/group"] {
        let _ = bind(&world, &source, &root.join(target))
            .opt("--file")
            .text();
        assert_eq!(
            world.exec(&root).cmd(["cat", &format!("/{target}")]).text(),
            "volume"
        );
    }
}

#[test]
fn recursive_takes_the_mounts_below_and_without_it_does_not() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let outer = owned(&world, "outer", 0);
    let inner = owned(&world, "inner", 0);
    fs::create_dir(outer.join("sub")).expect("directory");
    mount(
        Some(&inner),
        &outer.join("sub"),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .expect("bind");
    let _ = bind(&world, &outer, &root.join("one")).text();
    assert!(!root.join("one/sub/file").exists());
    let _ = bind(&world, &outer, &root.join("all"))
        .opt("--recursive")
        .text();
    assert_eq!(
        fs::read_to_string(root.join("all/sub/file")).expect("read"),
        "inner\n"
    );
}

#[test]
fn readonly_is_read_only_also_below() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let outer = owned(&world, "outer", 0);
    let inner = owned(&world, "inner", 0);
    fs::create_dir(outer.join("sub")).expect("directory");
    mount(
        Some(&inner),
        &outer.join("sub"),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .expect("bind");
    let _ = bind(&world, &outer, &root.join("data"))
        .opts(["--recursive", "--readonly"])
        .text();
    for path in ["/data/x", "/data/sub/x"] {
        let done = world.exec(&root).cmd(["touch", path]).done();
        assert!(
            done.err_text().contains("Read-only file system"),
            "{path}: {}",
            done.err_text()
        );
        let error = fs::write(root.join(path), "x").expect_err("written");
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
    }
    // The volume itself stays writable.
    fs::write(outer.join("x"), "x").expect("write");
    fs::write(inner.join("x"), "x").expect("write");
}

#[test]
fn idmap_is_from_the_disk_to_what_is_seen() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let source = owned(&world, "volume", 500);
    let target = root.join("data");
    let _ = bind(&world, &source, &target)
        .opts(["--idmap", "500:1000"])
        .text();
    assert_eq!(owner(&target.join("file")), (1000, 1000));
    assert_eq!(
        world
            .exec(&root)
            .cmd(["stat", "-c", "%u:%g", "/data/file"])
            .text(),
        "1000:1000"
    );
    assert_eq!(
        owner(&source.join("file")),
        (500, 500),
        "the disk has changed"
    );
    // Written as the id seen, stored as the id on disk. Root has no id in this map, so the owner does it.
    let _ = world
        .exec(&root)
        .opt("--user=app")
        .sh("echo more >> /data/file")
        .text();
    let _ = world
        .exec(&root)
        .opt("--user=app")
        .sh("touch /data/made")
        .text();
    assert_eq!(owner(&source.join("made")), (500, 500));
}

#[test]
fn several_idmaps_with_ranges() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let source = world.dir.join("volume");
    for uid in [0, 100, 101, 109, 110, 7000] {
        write_file(source.join(uid.to_string()), "");
        chown(source.join(uid.to_string()), Some(uid), Some(uid)).expect("chown");
    }
    let target = root.join("data");
    let _ = bind(&world, &source, &target)
        .opts(["--idmap=0:0", "--idmap", "100:2000:10", "--idmap=7000:3"])
        .text();
    for (disk, seen) in [(0, 0), (100, 2000), (101, 2001), (109, 2009), (7000, 3)] {
        assert_eq!(
            owner(&target.join(disk.to_string())),
            (seen, seen),
            "{disk}"
        );
    }
    assert_eq!(
        owner(&target.join("110")),
        (65534, 65534),
        "an id that is not mapped is nobody"
    );
}

#[test]
fn an_idmapped_source_can_be_mapped_again() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let source = owned(&world, "volume", 500);
    let middle = world.dir.join("middle");
    let _ = bind(&world, &source, &middle)
        .opt("--idmap=500:1000")
        .text();
    let _ = bind(&world, &middle, &root.join("plain")).text();
    assert_eq!(owner(&root.join("plain/file")), (1000, 1000));
    // On disk it is 500, whatever the source shows.
    let _ = bind(&world, &middle, &root.join("again"))
        .opt("--idmap=500:2000")
        .text();
    assert_eq!(owner(&root.join("again/file")), (2000, 2000));
}

#[test]
fn idmap_with_file_and_readonly() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let source = owned(&world, "volume", 500).join("file");
    let target = root.join("etc/app.conf");
    let _ = bind(&world, &source, &target)
        .opts(["--file", "--readonly", "--idmap=500:1000"])
        .text();
    assert_eq!(owner(&target), (1000, 1000));
    assert!(fs::write(&target, "x").is_err());
}

#[test]
fn refused_without_a_trace() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let before = Snapshot::of(&world);
    let listing = || fs::read_dir(&root.path).expect("list").count();
    let names = listing();
    let source = owned(&world, "volume", 0);
    let target = root.join("new/target");
    bind(&world, &world.dir.join("missing"), &target)
        .done()
        .expect_refused(&[125]);
    bind(&world, &source.join("file"), &target)
        .done()
        .expect_refused(&[125]);
    bind(&world, &source, &target)
        .opt("--file")
        .done()
        .expect_refused(&[125]);
    bind(&world, &source, &root.join("etc/passwd/x"))
        .done()
        .expect_refused(&[125]);
    for idmap in [
        "",
        "1",
        "1:",
        ":1",
        "a:b",
        "1:2:0",
        "1:2:3:4",
        "-1:2",
        "1:-2",
        "4294967295:0",
        "0:0:4294967297",
        "1:4294967290:100",
        "1 :2",
    ] {
        bind(&world, &source, &target)
            .opt(format!("--idmap={idmap}"))
            .done()
            .expect_refused(&[125]);
    }
    bind(&world, &source, &target)
        .opts(["--idmap=0:100:10", "--idmap=5:200"])
        .done()
        .expect_refused(&[125]);
    bind(&world, &source, &target)
        .opt("--unknown")
        .done()
        .expect_refused(&[125]);
    bind(&world, &source, &target)
        .opt("stray")
        .done()
        .expect_refused(&[125]);
    world.bare(["bind-mount"]).done().expect_refused(&[125]);
    world
        .bare(["bind-mount", "--source=/tmp"])
        .done()
        .expect_refused(&[125]);
    world
        .bare(["bind-mount", "--target=/tmp/nowhere"])
        .done()
        .expect_refused(&[125]);
    assert_eq!(listing(), names, "a refused mount has made its target");
    before.assert_same(&world);
}

#[test]
fn a_target_through_a_symlink_stays_in_the_rootfs() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let (root, _leader) = world.idle();
    let source = owned(&world, "volume", 0);
    symlink(&sentinel.dir, root.join("link")).expect("symlink");
    symlink(sentinel.join("empty"), root.join("leaf")).expect("symlink");
    symlink("../../../../../../../../../../tmp", root.join("climb")).expect("symlink");
    for target in [
        "link",
        "link/empty",
        "link/new/deep",
        "leaf",
        "climb/sce2e-never",
        "proc/self/root/tmp/sce2e-never",
    ] {
        let _ = bind(&world, &source, &root.join(target)).done();
        sentinel.assert_same();
        assert!(
            !Path::new("/tmp/sce2e-never").exists(),
            "{target} led outside"
        );
    }
    symlink(sentinel.join("etc/hostname"), root.join("file-link")).expect("symlink");
    let _ = bind(&world, &source.join("file"), &root.join("file-link"))
        .opt("--file")
        .done();
    sentinel.assert_same();
}

#[test]
fn a_readonly_mount_is_never_seen_writable() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let source = owned(&world, "volume", 500);
    for round in 0..30 {
        let target = root.join(&format!("data{round}"));
        let mut client = bind(&world, &source, &target)
            .opts(["--readonly", "--idmap=500:1000"])
            .spawn();
        let field = tests::until("the mount or the end", || {
            let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            let name = target.to_str().expect("path");
            let line = table
                .lines()
                .find(|line| line.split(' ').nth(4) == Some(name))
                .map(str::to_owned);
            assert!(
                line.is_some() || client.ended().is_none() || mounts_below(&target).len() == 1,
                "no mount"
            );
            line
        });
        let options = field.split(' ').nth(5).expect("options").to_owned();
        assert!(
            options.split(',').any(|o| o == "ro"),
            "attached before it was read-only: {field}"
        );
        assert!(
            field.contains("idmapped") || owner(&target.join("file")) == (1000, 1000),
            "attached before it was mapped: {field}"
        );
        client.finish().expect_code(0);
    }
}
