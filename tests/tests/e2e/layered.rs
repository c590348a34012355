//! Root filesystems of layered images: several lower layers, out of a store that other images share.

use std::fs::{self, File};
use std::os::unix::fs::{chown, lchown};
use std::path::Path;

use tests::{Image, Layered, Snapshot, World, opaque, tool, until, whiteout, write_file};

use crate::auto_ids::{create, owner, rootfs};
use crate::bad_input::{case, refuse_all};
use crate::rootless::User;

/// Three layers: the files of `img`, one that adds and replaces, one that hides.
fn image(world: &World) -> Layered {
    let mut image = Layered::new(world, "img");
    let bottom = image.img();
    write_file(bottom.join("hidden"), "");
    write_file(bottom.join("opaque/below"), "");
    write_file(bottom.join("replaced"), "bottom\n");
    let middle = image.layer();
    write_file(middle.join("replaced"), "middle\n");
    write_file(middle.join("added/file"), "added\n");
    chown(middle.join("added/file"), Some(1000), Some(50)).expect("chown");
    let top = image.layer();
    whiteout(top.join("hidden"));
    write_file(top.join("opaque/above"), "");
    opaque(top.join("opaque"), "trusted");
    image.publish();
    image
}

const LOOK: &str = "cat /replaced; ls /opaque; stat -c '%u:%g' /added/file; ls /hidden 2>&1";
const SEEN: &str = "middle\nabove\n1000:50\nls: /hidden: No such file or directory";

#[test]
fn upper_layers_add_replace_and_hide() {
    let Some(world) = World::new() else { return };
    let image = image(&world);
    let before = Snapshot::of(&world);
    let root = world.create();
    let leader = world.launch(&root);
    assert_eq!(world.exec(&root).sh(LOOK).done().out_text(), SEEN);
    let script = "echo own >/replaced; rm /added/file; touch /hidden";
    assert_eq!(world.exec(&root).sh(script).text(), "");
    leader.stop().expect_code(0);
    // Another one of the same layers has none of it, and the layers are as they were.
    let other = world.create();
    let _leader = world.launch(&other);
    assert_eq!(world.exec(&other).sh(LOOK).done().out_text(), SEEN);
    drop(_leader);
    // What each stands on is written down, for as long as it is there.
    let kept = |root: &tests::Rootfs| {
        world
            .data
            .join("containers")
            .join(&root.guid)
            .join("layers")
    };
    let keys = image.keys().join("\n") + "\n";
    assert_eq!(fs::read_to_string(kept(&root)).expect("keys"), keys);
    for root in [&root, &other] {
        world.destroy(root);
        assert!(!kept(root).exists());
    }
    before.assert_same(&world);
}

#[test]
fn every_choice_of_ids_has_all_layers() {
    let Some(world) = World::new() else { return };
    let _image = image(&world);
    for (create_with, launch_with) in [
        ("host", "host"),
        ("identity", "identity"),
        ("auto", "auto"),
        ("0:300000:2000", "0:300000:2000"),
    ] {
        let root = rootfs(&create(&world, create_with, "img").done());
        let launch = world.launch_run(&root);
        let launch = launch.opt(format!("--userns={launch_with}"));
        let leader = tests::Launch::start(launch, &root);
        let done = world.exec(&root).sh(LOOK).done();
        assert_eq!(done.out_text(), SEEN, "{create_with}");
        let map = world.exec(&root).sh("cat /proc/self/uid_map").text();
        let start = map.split_whitespace().nth(1).expect("a map");
        let start: u32 = start.parse().expect("a number");
        assert_eq!(
            owner(root.join("added/file")),
            (start + 1000, start + 50),
            "{create_with}"
        );
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn a_hundred_and_thirty_layers_are_one_tree_and_501_are_refused() {
    let Some(world) = World::new() else { return };
    let mut image = Layered::new(&world, "img");
    let bottom = image.img();
    for number in 1..501 {
        write_file(image.layer().join(format!("many/{number}")), "");
        if number == 129 {
            image.publish();
            let done = create(&world, "auto", "img").done();
            let root = rootfs(&done);
            let _leader = world.launch(&root);
            assert_eq!(world.exec(&root).sh("ls /many | wc -l").text(), "129");
            drop(_leader);
            world.destroy(&root);
        }
    }
    image.publish();
    let why = "it has 501 layers, and the kernel takes 500";
    let run = world.verb("create-fs").cmd(["img"]);
    let hint = world.verb("create-fs").cmd(["img"]);
    refuse_all(&world, vec![case(run, why), case(hint, "--flat")]);
    assert!(bottom.exists());
}

#[test]
fn changes_in_memory_have_the_layers_below() {
    let Some(world) = World::new() else { return };
    let image = image(&world);
    // An upper layer cannot be on an overlay.
    let script = format!(
        "set -e; mkdir {0}/o {0}/o/upper {0}/o/work; \
         mount -t overlay overlay -o lowerdir={1},upperdir={0}/o/upper,workdir={0}/o/work {1}; \
         exec \"$@\"",
        world.dir.display(),
        world.data.join("containers").display(),
    );
    fs::create_dir(world.data.join("containers")).expect("directory");
    let places = world.places().join(" ");
    let inside = format!(
        "R=$($0 subcontainer create-fs {places} img); $0 subcontainer launch {places} $R & \
         $0 subcontainer exec {places} --env=PATH=/bin $R sh -c \"$LOOK\"; kill $!; wait $!; \
         $0 subcontainer destroy-fs {places} ${{R##*/}}"
    );
    let run = tests::Run::new(tool("unshare"))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LOOK", LOOK);
    let run = run.cmd(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    let binary = tests::binary().to_str().expect("path");
    let done = run.cmd(["sh", "-c", &inside, binary]).done();
    assert_eq!(done.out_text(), SEEN, "{}", done.err_text());
    assert!(
        done.err_text().contains("changes live in memory"),
        "{}",
        done.err_text()
    );
    assert_eq!(image.keys().len(), 3);
}

#[test]
fn layers_that_cannot_be_used_are_refused_by_name() {
    let Some(world) = World::new() else { return };
    let _image = image(&world);
    let mut missing = Layered::new(&world, "missing");
    missing.layer();
    fs::remove_dir_all(missing.layer()).expect("remove a layer");
    missing.publish();
    let mut foreign = Layered::new(&world, "foreign").for_user_namespaces();
    foreign.layer();
    foreign.publish();
    let create = |id: &str| world.verb("create-fs").cmd([id]);
    let elsewhere = || {
        let places = [&world.base, &world.state].map(|place| place.display().to_string());
        world.bare([
            "subcontainer",
            "create-fs",
            &format!("--base={}", places[0]),
            &format!("--state={}", places[1]),
            &format!("--data={}/other", world.dir.display()),
            "img",
        ])
    };
    refuse_all(
        &world,
        vec![
            case(create("missing"), format!("no layer {}", missing.keys()[1])),
            case(create("missing"), "import it again"),
            case(create("foreign"), "unpacked in another user namespace"),
            case(create("foreign"), "another --id"),
            case(elsewhere(), format!("--data {}", world.data.display())),
        ],
    );
}

#[test]
fn layers_are_held_while_they_are_mounted() {
    let Some(world) = World::new() else { return };
    let _image = image(&world);
    let layers = File::open(world.data.join("layers")).expect("open");
    // As who removes layers does it.
    layers.lock().expect("lock");
    let client = world.verb("create-fs").cmd(["img"]).spawn();
    // It sleeps between the times it asks; without the lock it would be at its end by now.
    until("create-fs to ask for the lock again and again", || {
        let status = fs::read_to_string(format!("/proc/{}/status", client.pid())).expect("status");
        let slept = status.lines().find_map(|line| {
            let count = line.strip_prefix("voluntary_ctxt_switches:")?;
            count.trim().parse::<u32>().ok()
        });
        slept.filter(|slept| *slept > 50)
    });
    // Nothing was made before.
    assert!(!world.base.join("subcontainers").exists());
    layers.unlock().expect("unlock");
    world.destroy(&rootfs(&client.finish()));
}

/// Gives a tree to somebody, without following a link.
fn give(path: &Path, uid: u32) {
    lchown(path, Some(uid), Some(uid)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.symlink_metadata().expect("stat").is_dir() {
        for entry in fs::read_dir(path).expect("list") {
            give(&entry.expect("entry").path(), uid);
        }
    }
}

#[test]
fn without_root_each_launch_assembles_the_layers_that_create_fs_found() {
    let Some(ann) = User::granted() else { return };
    let data = ann.base().join("data");
    let mut image = Layered::at(&ann.base(), &data, "img").for_user_namespaces();
    Image::at(&ann.base().join("images"), "img").build();
    let bottom = image.img();
    write_file(bottom.join("opaque/below"), "");
    write_file(bottom.join("hidden"), "");
    let top = image.layer();
    write_file(top.join("replaced"), "top\n");
    write_file(top.join("opaque/above"), "");
    opaque(top.join("opaque"), "user");
    whiteout(top.join("hidden"));
    image.publish();
    give(&ann.home, ann.uid);

    let root = ann.create();
    let kept = data.join("containers").join(&root.guid).join("layers");
    let keys = image.keys().join("\n") + "\n";
    assert_eq!(fs::read_to_string(&kept).expect("keys"), keys);
    // What becomes of the image is nothing to a root filesystem that is there.
    let record = ann.base().join("images/img.image");
    fs::remove_file(&record).expect("remove the image");
    for round in ["first", "second"] {
        let launch = ann.launch(&root).spawn();
        let script = format!("cat /replaced; ls /opaque; ls /hidden; cat /own; echo {round} >/own");
        let done = ann.exec(&root).sh(&script).done();
        let own = if round == "first" { "" } else { "\nfirst" };
        assert_eq!(
            done.out_text(),
            format!("top\nabove{own}"),
            "{}",
            done.err_text()
        );
        launch.signal(nix::sys::signal::Signal::SIGTERM);
        launch.finish().expect_code(0);
    }
    ann.destroy(&root);
    ann.assert_nothing_left();
    assert!(!kept.exists() && top.exists());
    let done = ann.run(["subcontainer", "create-fs", "img"]).done();
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("img.image"), "{}", done.err_text());
}

#[test]
fn layers_of_the_initial_user_namespace_are_refused_in_others() {
    let Some(ann) = User::granted() else { return };
    let mut image = Layered::at(&ann.base(), &ann.base().join("data"), "img");
    image.layer();
    image.publish();
    give(&ann.home, ann.uid);
    let done = ann.run(["subcontainer", "create-fs", "img"]).done();
    done.expect_refused(&[125]);
    let told = done.err_text();
    assert!(
        told.contains("unpacked in the initial user namespace"),
        "{told}"
    );
}
