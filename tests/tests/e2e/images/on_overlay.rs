//! A store on an overlay, as in a container: there is no way to keep a layer that deletes something, so an image of several
//! layers becomes one directory, and says so.

use std::fs;

use nix::mount::{MsFlags, mount};
use tests::pack::{Tar, dir, file, oci};
use tests::registry::Registry;
use tests::{World, write_file};

use super::store::{expect_none_left, in_store, names, verb};
use super::ways::{Way, skeleton, top, world_in_memory};
use crate::pull::{pull_layers, text, two_layers};

/// A world whose store is on an overlay.
fn world_on_overlay() -> Option<World> {
    let mut world = world_in_memory()?;
    let memory = top(&world).to_owned();
    in_store(&mut world);
    let place = |name: &str| {
        let path = memory.join(name);
        fs::create_dir_all(&path).expect("directory");
        path
    };
    let [lower, upper, work] = ["lower", "upper", "work"].map(place);
    let (kind, mounted) = (Some("overlay"), place("store"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = Some(options.as_str());
    mount(kind, &mounted, kind, MsFlags::empty(), options).expect("mount overlay");
    Some(world)
}

/// A layer with a program and names to be hidden, and one that hides them.
fn layers() -> [Vec<u8>; 2] {
    let busybox = fs::read("/bin/busybox").expect("busybox");
    let mut lower = skeleton();
    lower.extend([
        dir("bin").mtime(1),
        file("bin/busybox", busybox).mode(0o755),
        file("gone", "below"),
        dir("d").mtime(1),
        file("d/gone", "below"),
    ]);
    let upper = [
        file(".wh.gone", ""),
        dir("d").mtime(2),
        file("d/.wh..wh..opq", ""),
        file("d/new", "above"),
    ];
    [Tar::of(lower), Tar::of(upper)]
}

#[test]
fn an_image_that_deletes_becomes_one_directory_and_runs() {
    let Some(world) = world_on_overlay() else {
        return;
    };
    let source = world.dir.join("image.tar");
    write_file(&source, oci(&layers()).into_tar());
    write_file(world.env_file(), "");
    for way in Way::ALL {
        // From a pipe, too: nothing of it can be read twice.
        let done = way
            .importing(&world, "img")
            .cmd(["-"])
            .input(fs::read(&source).expect("read"))
            .done();
        let _ = done.expect_ok();
        let said = done.err_text();
        let warns = said.contains("warning")
            && said.contains("takes no whiteouts")
            && said.contains("--flat");
        assert_eq!(warns, way == Way::Layered, "{said}");
        let mut images = names(&world.base.join("images"));
        images.sort();
        assert_eq!(images, ["img", "img.env", "img.json"]);
        assert_eq!(names(&world.data.join("layers")), [""; 0]);
        let root = world.create();
        let launch = world.launch(&root);
        let exec = |words: &[&str]| world.exec(&root).cmd(["/bin/busybox"]).cmd(words).text();
        assert_eq!(exec(&["ls", "/d"]), "new");
        assert_eq!(exec(&["sh", "-c", "test -e /gone || echo gone"]), "gone");
        launch.stop();
        world.destroy(&root);
        let _ = verb(&world, "rm").cmd(["img"]).text();
        let _ = verb(&world, "gc").text();
        expect_none_left(&world);
        write_file(world.env_file(), "");
    }
}

#[test]
fn an_image_of_one_layer_is_shared_there_as_well() {
    let Some(world) = world_on_overlay() else {
        return;
    };
    let [lower, _] = layers();
    let source = world.dir.join("image.tar");
    write_file(&source, oci(&[lower]).into_tar());
    for id in ["one", "two"] {
        let done = Way::Layered.importing(&world, id).cmd([&source]).done();
        let _ = done.expect_ok();
        assert_eq!(done.err_text(), "");
    }
    assert_eq!(names(&world.data.join("layers")).len(), 1);
    let root = world.create_of("two");
    assert_eq!(fs::read(root.path.join("gone")).expect("read"), b"below");
    world.destroy(&root);
    for id in ["one", "two"] {
        let _ = verb(&world, "rm").cmd([id]).text();
    }
    let _ = verb(&world, "gc").text();
    expect_none_left(&world);
}

#[test]
fn a_pull_fetches_again_what_is_there_as_a_layer() {
    let Some(world) = world_on_overlay() else {
        return;
    };
    let registry = Registry::start(&world.dir.join("registry"));
    let [lower, upper] = two_layers();
    let _ = registry.push("team/base", "1", std::slice::from_ref(&lower));
    let _ = registry.push("team/web", "1", &[lower, upper]);
    let pull = |name: &str, id: &str| {
        let pull = pull_layers(&world).opt(registry.name(name));
        let done = pull.opt(format!("--id={id}")).done();
        let _ = done.expect_ok();
        done.err_text()
    };
    assert_eq!(pull("team/base:1", "base"), "");
    let said = pull("team/web:1", "web");
    assert!(said.contains("takes no whiteouts"), "{said}");
    assert_eq!(text(&world, "web", "etc/os"), "upper");
    assert_eq!(text(&world, "web", "etc/release"), "lower");
    for id in ["base", "web"] {
        let _ = verb(&world, "rm").cmd([id]).text();
    }
    let _ = verb(&world, "gc").text();
    expect_none_left(&world);
}
