//! The life of a layered image by its verbs: imported, listed, verified, used, removed, and its layers collected.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::pack::{Tar, dir, file, oci};
use tests::{Run, World, until, write_file};

/// An image whose lower layer says what the root directory is like, and whose upper one does not.
fn source(world: &World, name: &str, content: &[u8]) -> PathBuf {
    let lower = Tar::of([
        dir("./").mode(0o711),
        dir("etc"),
        dir("dev"),
        dir("proc"),
        dir("sys"),
        file("lower", "below"),
    ]);
    let upper = Tar::of([file(name, content), file(".wh.lower", "")]);
    let path = world.dir.join(format!("{name}.tar"));
    write_file(&path, oci(&[lower, upper]).into_tar());
    path
}

fn verb(world: &World, verb: &str) -> Run {
    world.bare(["image", verb]).verb(world.places())
}

fn import(world: &World, id: &str, source: &PathBuf) -> Run {
    verb(world, "import")
        .opt(format!("--id={id}"))
        .cmd([source])
}

fn json(run: Run) -> Value {
    serde_json::from_str(&run.opt("--json").done().expect_ok()).expect("JSON")
}

fn layers(world: &World) -> usize {
    fs::read_dir(world.data.join("layers")).map_or(0, Iterator::count)
}

#[test]
fn from_import_to_collection() {
    let Some(world) = World::new() else { return };
    import(&world, "one", &source(&world, "one", b"1"))
        .done()
        .expect_code(0);
    import(&world, "two", &source(&world, "two", b"2"))
        .done()
        .expect_code(0);
    assert_eq!(layers(&world), 3, "the lower layer is there once");

    let listed = json(verb(&world, "list"));
    let one = &listed.as_array().expect("list")[1];
    assert_eq!(one["id"], "one");
    assert_eq!(one["form"], "layers");
    assert_eq!(one["layers"], 2);
    assert_eq!(one["size"], 6);
    let table = verb(&world, "list").done().expect_ok();
    assert!(
        table.starts_with("IMAGE ") && table.contains("\ntwo "),
        "{table}"
    );

    // The root directory is that of the layer that lists it, what is hidden is hidden.
    let root = world.create_of("one");
    assert_eq!(
        fs::metadata(&root.path).expect("root").mode() & 0o7777,
        0o711
    );
    assert!(!root.join("lower").exists() && root.join("one").exists());

    assert_eq!(
        json(verb(&world, "verify").cmd(["one"]))["problems"],
        serde_json::json!([])
    );
    verb(&world, "rm").cmd(["one"]).done().expect_code(0);
    verb(&world, "rm")
        .cmd(["one"])
        .done()
        .expect_refused(&[125]);
    assert_eq!(json(verb(&world, "gc"))["removed"], serde_json::json!([]));
    world.destroy(&root);
    let collected = json(verb(&world, "gc"));
    assert_eq!(collected["removed"].as_array().map(Vec::len), Some(1));
    assert_eq!(collected["kept"], 2);
    assert_eq!(layers(&world), 2);
    verb(&world, "rm").cmd(["two"]).done().expect_code(0);
    let words = verb(&world, "gc").done().expect_ok();
    assert_eq!(words.trim_end(), "removed 2 layers, 6 B; 0 are needed");
    assert_eq!(layers(&world), 0);
}

#[test]
fn a_change_is_named_and_the_status_says_so() {
    let Some(world) = World::new() else { return };
    import(&world, "one", &source(&world, "one", b"1"))
        .done()
        .expect_code(0);
    let stores = fs::read_dir(world.data.join("layers")).expect("layers");
    let changed = stores
        .map(|entry| entry.expect("entry").path().join("fs/one"))
        .find(|path| path.exists())
        .expect("the upper layer");
    write_file(&changed, "other");
    let done = verb(&world, "verify").cmd(["one"]).done();
    done.expect_code(125);
    assert!(
        done.out_text().contains("/one: other time, size, content"),
        "{done:?}"
    );
    assert!(done.err_text().contains("1 differences"), "{done:?}");
}

/// Killed at any moment: nothing is an image that is not complete, and the next import clears up.
#[test]
fn a_killed_import_leaves_what_the_next_one_removes() {
    let Some(world) = World::new() else { return };
    let content = vec![b'x'; 8 << 20];
    let source = source(&world, "big", &content);
    for moment in 0..12_u32 {
        let client = import(&world, "img2", &source).spawn();
        // The first sign of each phase, then a moment more each time.
        until("a claim", || {
            (moment == 0 || layers(&world) > 0 || world.base.join("images/img2.image").exists())
                .then_some(())
        });
        for _ in 0..moment * 20_000 {
            std::hint::black_box(moment);
        }
        client.signal(Signal::SIGKILL);
        let _ = client.finish();
        if world.base.join("images/img2.image").exists() {
            verb(&world, "verify").cmd(["img2"]).done().expect_code(0);
            verb(&world, "rm").cmd(["img2"]).done().expect_code(0);
        }
        verb(&world, "verify")
            .cmd(["img2"])
            .done()
            .expect_refused(&[125]);
    }
    import(&world, "img2", &source).done().expect_code(0);
    verb(&world, "verify").cmd(["img2"]).done().expect_code(0);
    verb(&world, "rm").cmd(["img2"]).done().expect_code(0);
    verb(&world, "gc").done().expect_code(0);
    assert_eq!(layers(&world), 0);
    let left = fs::read_dir(world.base.join("images")).expect("images");
    let hidden = left.filter(|entry| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with('.'))
    });
    assert_eq!(hidden.count(), 0);
}
