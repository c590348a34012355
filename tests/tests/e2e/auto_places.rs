//! `--userns=auto` and maps: what is refused, and on which filesystems and with which modes the layers may lie.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use tests::{Launch, Rootfs, Run, Snapshot, World, tool, write_file};

use crate::auto_ids::{auto, bind, create, owner, rootfs, start_of};
use crate::bad_input::{case, refuse_all};

#[test]
fn bad_maps_are_refused_before_anything_exists() {
    let Some(world) = World::new() else { return };
    // The fixed directories.
    world.destroy(&auto(&world));
    let line = |n: u32| format!("{n}:{}:1", 100_000 + n);
    let lines = |count: u32| (0..count).map(line).collect::<Vec<_>>().join(",");
    let mut cases = Vec::new();
    for (map, says) in [
        ("0:1", "\"0:1\" is no line of a map"),
        ("0:100000:0", "\"0:100000:0\": the range is empty"),
        ("0:100000:10,9:200000:1", "\"0:100000:10 and 9:200000:1\""),
        ("0:100000:10,10:100009:1", "\"0:100000:10 and 10:100009:1\""),
        ("0:4294967290:10", "ends beyond the largest id"),
        ("1:100000:10", "no id 0"),
        ("atuo", "did you mean auto?"),
    ] {
        cases.push(case(create(&world, map, "img"), says));
    }
    cases.push(case(create(&world, &lines(341), "img"), "341 lines"));
    cases.push(case(create(&world, &lines(340), "img"), "host's root"));
    let own = auto(&world);
    let plain = world.create();
    let with = |root: &Rootfs, userns: &str| {
        let run = world.launch_run(root).opt(format!("--userns={userns}"));
        run.cmd(["true"])
    };
    let start = owner(&own).0;
    let ids = format!("ids of its own, 0:{start}:65536");
    for userns in ["host", "identity", "0:100000:65536"] {
        cases.push(case(with(&own, userns), &ids));
        cases.push(case(with(&own, userns), format!("\"--userns={userns}\"")));
    }
    for userns in ["auto", "0:100000:65536"] {
        cases.push(case(with(&plain, userns), "made without ids of its own"));
    }
    refuse_all(&world, cases);
}

#[test]
fn ids_that_the_caller_has_not_cannot_be_given_away() {
    let Some(world) = World::new() else { return };
    let unshare = tool("unshare");
    let small = |run: Run| {
        run.wrap([
            unshare.to_str().expect("path"),
            "--user",
            "--map-root-user",
            "--mount",
        ])
    };
    let before = Snapshot::of(&world);
    for (userns, says) in [
        ("auto", "lxc.idmap"),
        ("0:0:2", "\"0:0:2\""),
        ("0:0:1,1:100000:1", "\"1:100000:1\""),
    ] {
        let done = small(create(&world, userns, "img")).done();
        done.expect_refused(&[125]);
        assert!(done.err_text().contains(says), "{}", done.err_text());
        before.assert_same(&world);
    }
}

#[test]
fn an_image_that_cannot_be_mapped_is_named_when_it_is_made() {
    let Some(world) = World::new() else { return };
    world.destroy(&auto(&world));
    let images = world.base.join("images");
    for name in ["over", "ram", "upper", "work"] {
        fs::create_dir(images.join(name)).expect("directory");
    }
    let shown = |name: &str| images.join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        shown("img"),
        shown("upper"),
        shown("work")
    );
    for (kind, name, options) in [("overlay", "over", options.as_str()), ("ramfs", "ram", "")] {
        let target = images.join(name);
        mount(
            Some(kind),
            &target,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        )
        .unwrap_or_else(|e| panic!("mount {kind}: {e}"));
    }
    refuse_all(
        &world,
        vec![
            case(
                create(&world, "auto", "over"),
                "overlay cannot be idmapped after merge",
            ),
            case(create(&world, "auto", "over"), shown("over")),
            case(
                create(&world, "auto", "ram"),
                "idmap is not supported by ramfs",
            ),
        ],
    );
    // The same images are fine where their ids stay as they are.
    world.destroy(&world.create_of("over"));
}

#[test]
fn the_writable_layer_may_be_on_other_filesystems() {
    let Some(world) = World::new() else { return };
    for directory in ["o/upper", "o/work", "o/lower"] {
        fs::create_dir_all(world.dir.join(directory)).expect("directory");
    }
    fs::create_dir(&world.data).expect("data");
    let shown = |name: &str| world.dir.join(name).display().to_string();
    let overlay = format!(
        "lowerdir={},upperdir={},workdir={}",
        shown("o/lower"),
        shown("o/upper"),
        shown("o/work")
    );
    for (kind, options, warning) in [
        ("tmpfs", "mode=700", ""),
        ("overlay", overlay.as_str(), "changes live in memory"),
    ] {
        mount(
            Some(kind),
            &world.data,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        )
        .unwrap_or_else(|e| panic!("mount {kind}: {e}"));
        let done = create(&world, "auto", "img").done();
        assert!(
            done.err_text().contains(warning),
            "{kind}: {}",
            done.err_text()
        );
        assert_eq!(done.err_text().is_empty(), warning.is_empty(), "{kind}");
        let root = rootfs(&done);
        let leader = world.launch(&root);
        let start = start_of(&world, &root);
        let script = "touch /f && chown 1000:1000 /f && stat -c %u /f";
        assert_eq!(world.exec(&root).sh(script).text(), "1000", "{kind}");
        assert_eq!(
            owner(root.join("f")),
            (start + 1000, start + 1000),
            "{kind}"
        );
        write_file(root.join("etc/fromhost"), "");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

/// As where the whole machine of the caller is on an idmapped mount: the layers' maps replace that one, so ids inside are
/// those on disk (Linux 6.15). Before, the refusal names the kernel that is needed.
#[test]
fn directories_on_an_idmapped_mount_are_mapped_anew() {
    let Some(world) = World::new() else { return };
    fs::create_dir(&world.data).expect("data");
    for place in [world.base.join("images"), world.data.clone()] {
        let _ = bind(&world, &place, &place)
            .opts(["--idmap=0:0", "--idmap=1:200001:65535"])
            .text();
    }
    let shifted = owner(world.base.join("images/img/home/app"));
    assert_eq!(shifted, (201_000, 201_000));
    let done = create(&world, "auto", "img").done();
    if done.code() != Some(0) {
        done.expect_refused(&[125]);
        assert!(done.err_text().contains("6.15"), "{}", done.err_text());
        return;
    }
    let root = rootfs(&done);
    let _leader = world.launch(&root);
    let start = start_of(&world, &root);
    let script = "touch /f && chown 1000:1000 /f && stat -c %u / /home/app /f";
    assert_eq!(world.exec(&root).sh(script).text(), "0\n1000\n1000");
    assert_eq!(owner(root.join("f")), (start + 1000, start + 1000));
    write_file(root.join("mark"), "");
}

/// Files on disk keep the ids that they have inside, so a set-user-ID file of the container's root is one of the host's
/// root there: nobody else may get to it.
#[test]
fn what_is_on_disk_is_out_of_reach_for_other_users() {
    let Some(world) = World::new() else { return };
    let setpriv = tool("setpriv");
    let stranger = [
        setpriv.to_str().expect("path"),
        "--reuid=4000",
        "--regid=4000",
        "--clear-groups",
    ];
    for mask in ["000", "077"] {
        let sh = tool("sh");
        let line = format!("umask {mask}; exec \"$@\"");
        let wrap = [sh.to_str().expect("path"), "-c", &line, "sh"];
        let root = rootfs(&create(&world, "auto", "img").wrap(wrap).done());
        let leader = Launch::start(world.launch_run(&root).wrap(wrap), &root);
        let script = "cp /bin/busybox /bin/become && chmod 4755 /bin/become";
        let _ = world.exec(&root).sh(script).text();
        let start = owner(&root).0;
        let range = world.state.join("ranges").join(start.to_string());
        let container = world.data.join("containers").join(&root.guid);
        let mode = |path: &Path| fs::metadata(path).expect("stat").mode() & 0o7777;
        for (path, expected) in [
            (&world.state, 0o700),
            (&world.state.join("ranges"), 0o700),
            (&world.state.join("subcontainers"), 0o700),
            (&world.state.join("subcontainers").join(&root.guid), 0o600),
            (&world.data, 0o700),
            (&world.data.join("containers"), 0o700),
            (&container, 0o700),
            (&container.join("work"), 0o700),
            (&container.join("upper"), 0o755),
            (&range, 0o700),
            (&range.join(&root.guid), 0o600),
            (&root.join("etc/hosts"), 0o644),
            (&root.join("run"), 0o755),
        ] {
            assert_eq!(mode(path), expected, "umask {mask}: {}", path.display());
        }
        let on_disk = container.join("upper/bin/become");
        assert_eq!((owner(&on_disk).0, mode(&on_disk)), (0, 0o4755));
        for path in [&on_disk, &container, &range] {
            let done = Run::new("/bin/ls").wrap(stranger).cmd([path]).done();
            assert_ne!(done.code(), Some(0), "{}", path.display());
        }
        // Below ROOTFS, where others may pass, it belongs to an id that nobody else has.
        assert_eq!(owner(root.join("bin/become")).0, start);
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

/// What `mount add` makes for its target is made by the container's root, as whoever joins for it becomes.
#[test]
fn a_mount_point_that_is_added_belongs_to_the_containers_root() {
    let Some(world) = World::new() else { return };
    let root = rootfs(&create(&world, "auto", "img").done());
    let leader = world.launch(&root);
    let add = world
        .bare(["subcontainer", "mount", "add"])
        .verb(world.places());
    let _ = add
        .rootfs(&root)
        .cmd(["type=tmpfs,dst=/made/for/it"])
        .text();
    let seen = world.exec(&root).sh("stat -c %u:%g /made /made/for");
    assert_eq!(seen.text(), "0:0\n0:0");
    leader.stop().expect_code(0);
}
