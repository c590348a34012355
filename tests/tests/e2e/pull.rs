//! `image pull` from a real registry on this machine: names, digests, platforms.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tests::front::{Act, Front};
use tests::registry::{Layer, Registry, digest};
use tests::{Run, Snapshot, World, binary};

/// A world and a registry in it, which ends first.
pub(crate) fn with_registry() -> Option<(Registry, World)> {
    let world = World::new()?;
    Some((Registry::start(&world.dir.join("registry")), world))
}

/// `image pull` with the world's places, to one directory, which tests can look into.
pub(crate) fn pull(world: &World) -> Run {
    pull_layers(world).opt("--flat")
}

/// `image pull` with the world's places.
pub(crate) fn pull_layers(world: &World) -> Run {
    world.bare(["image", "pull"]).verb(world.places())
}

/// The text of a file of an image in the store.
pub(crate) fn text(world: &World, id: &str, file: &str) -> String {
    let path = world.base.join("images").join(id).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The parts of blobs that are kept.
pub(crate) fn parts(world: &World) -> Vec<PathBuf> {
    let listing = fs::read_dir(world.data.join("blobs"));
    listing
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

/// Layers of which the upper one replaces a file.
pub(crate) fn two_layers() -> [Layer; 2] {
    [
        Layer::of(&[("etc/os", b"lower"), ("etc/release", b"lower")]),
        Layer::of(&[("etc/os", b"upper")]),
    ]
}

#[test]
fn by_tag_and_by_digest() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let first = registry.push("team/web", "1", &two_layers());
    let second = registry.push("team/web", "latest", &[Layer::of(&[("etc/os", b"new")])]);
    assert_ne!(first.digest, second.digest);
    for (reference, id, os) in [
        ("team/web:1".to_owned(), "tag", "upper"),
        ("team/web".to_owned(), "latest", "new"),
        (format!("team/web@{}", first.digest), "digest", "upper"),
        // The digest decides; what the tag leads to by now does not matter.
        (format!("team/web:latest@{}", first.digest), "both", "upper"),
    ] {
        let name = registry.name(&reference);
        let said = pull(&world).opt(&name).opt(format!("--id={id}")).text();
        assert_eq!(said, "");
        assert_eq!(text(&world, id, "etc/os"), os, "{reference}");
        let env = world.base.join(format!("images/{id}.env"));
        assert_eq!(fs::read_to_string(env).expect("env"), "FROM_REGISTRY=yes\n");
        assert_eq!(parts(&world), Vec::<PathBuf>::new());
    }
    assert_eq!(text(&world, "tag", "etc/release"), "lower");
}

#[test]
fn what_the_registry_does_not_have() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let before = Snapshot::of(&world);
    for reference in [
        "team/web:2".to_owned(),
        "team/none:1".to_owned(),
        format!("team/web@{}", digest(b"none")),
    ] {
        let done = pull(&world).opt(registry.name(&reference)).done();
        done.expect_refused(&[125]);
        let said = done.err_text();
        assert!(said.contains(&reference), "{said}");
        assert!(said.contains("does not have it"), "{said}");
        assert!(
            said.contains("check the name, and the tag or digest"),
            "{said}"
        );
    }
    // Nobody listens at a port that was free a moment ago and is the front's no more.
    let gone = Front::start(registry.address, |_| Act::Pass).name("team/web:1");
    let done = pull(&world).opt(gone).done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains("nobody listens there"),
        "{}",
        done.err_text()
    );
    before.assert_same(&world);
}

#[test]
fn bad_references_and_options_are_refused_before_anybody_is_asked() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    for (options, part) in [
        (vec!["Web"], "the form is [REGISTRY"),
        (vec!["web:"], "the form is [REGISTRY"),
        (vec!["127.0.0.1:1/web@sha256:0"], "the form is [REGISTRY"),
        (vec![], "REFERENCE is missing"),
        (vec!["127.0.0.1:1/web.env"], "--id"),
        (
            vec!["127.0.0.1:1/web", "--platform=linux"],
            "OS/ARCHITECTURE",
        ),
        (vec!["127.0.0.1:1/web", "--authfile=/no/such"], "/no/such"),
        (vec!["127.0.0.1:1/web", "--ca-cert=/no/such"], "/no/such"),
        (
            vec!["127.0.0.1:1/web", "--ca-cert=/etc/passwd"],
            "there is no certificate in it",
        ),
        (
            vec!["127.0.0.1:1/web", "--proxy=lan"],
            "no URL of an HTTP proxy",
        ),
        (
            vec!["127.0.0.1:1/web", "--timeout=0"],
            "no number of seconds",
        ),
        (
            vec!["127.0.0.1:1/web", "--tls-verify=false"],
            "no such option",
        ),
    ] {
        let done = pull(&world).opts(&options).done();
        done.expect_refused(&[125]);
        assert!(
            done.err_text().contains(part),
            "{options:?}: {}",
            done.err_text()
        );
    }
    before.assert_same(&world);
}

#[test]
fn an_index_has_an_image_for_each_platform() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let arm = Layer::of(&[("etc/os", b"arm")]);
    let amd = registry.push("team/web", "amd", &[Layer::of(&[("etc/os", b"amd")])]);
    let arm = registry.push_for("arm64", "team/web", "arm", &[arm]);
    let index = registry.push_index("team/web", "all", &[&amd, &arm]);
    let all = registry.name("team/web:all");
    let _ = pull(&world)
        .opt(&all)
        .opts(["--id=here", "--platform=linux/amd64"])
        .text();
    assert_eq!(text(&world, "here", "etc/os"), "amd");
    let by_digest = registry.name(&format!("team/web@{index}"));
    let _ = pull(&world)
        .opt(by_digest)
        .opts(["--id=there", "--platform=linux/arm64"])
        .text();
    assert_eq!(text(&world, "there", "etc/os"), "arm");
    // Without an index the image's own configuration says what it is for.
    for (reference, platform, part) in [
        ("team/web:all", "linux/s390x", "none is for linux/s390x"),
        (
            "team/web:arm",
            "linux/amd64",
            "it is for linux/arm64, and linux/amd64 is wanted",
        ),
    ] {
        let done = pull(&world)
            .opt(registry.name(reference))
            .opts(["--id=none", &format!("--platform={platform}")])
            .done();
        done.expect_refused(&[125]);
        assert!(done.err_text().contains(part), "{}", done.err_text());
    }
    assert!(!world.base.join("images/none").exists());
}

#[test]
fn its_name_in_the_store() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let _ = registry.push("team/web", "1", &two_layers());
    let _ = registry.push("team/web", "2", &[Layer::of(&[("etc/os", b"second")])]);
    let _ = pull(&world).opt(registry.name("team/web:1")).text();
    assert_eq!(text(&world, "web", "etc/os"), "upper");
    let done = pull(&world).opt(registry.name("team/web:2")).done();
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("--replace"), "{}", done.err_text());
    assert_eq!(text(&world, "web", "etc/os"), "upper");
    let _ = pull(&world)
        .opt(registry.name("team/web:2"))
        .opt("--replace")
        .text();
    assert_eq!(text(&world, "web", "etc/os"), "second");
    // A root filesystem can be made of it.
    let root = world.create_of("web");
    assert_eq!(
        fs::read_to_string(root.join("etc/os")).expect("os"),
        "second"
    );
    world.destroy(&root);
}

#[test]
fn the_same_layer_twice_is_fetched_once() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let noise = Layer::noise("data", 100_000, 1);
    let image = registry.push(
        "twice",
        "1",
        &[noise.clone(), Layer::of(&[("a", b"b")]), noise],
    );
    let front = Front::start(registry.address, |_| Act::Pass);
    let _ = pull(&world).opt(front.name("twice:1")).text();
    assert_eq!(text(&world, "twice", "a"), "b");
    let size = image.layers[0].len() as u64;
    assert!(
        (size..size + 20_000).contains(&front.passed()),
        "{}",
        front.passed()
    );
}

#[test]
fn progress_is_told_where_it_is_asked_for() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let image = registry.push("team/web", "1", &two_layers());
    let name = registry.name("team/web:1");
    let silent = pull(&world).opt(&name).opt("--id=silent").pipes().done();
    let _ = silent.expect_ok();
    assert_eq!(silent.err_text(), "");
    let told = pull(&world)
        .opt(&name)
        .opts(["--id=told", "--progress=json"])
        .done();
    let _ = told.expect_ok();
    for layer in &image.layers {
        let size = layer.len();
        let end = format!(
            r#"{{"event":"end","work":"fetch","name":"{}","done":{size},"total":{size},"result":"done"}}"#,
            digest(layer)
        );
        assert!(
            told.err_text().lines().any(|line| line == end),
            "{}",
            told.err_text()
        );
    }
}

#[test]
fn what_was_pulled_is_told_as_inspect_tells_it() {
    let Some((registry, world)) = with_registry() else {
        return;
    };
    let image = registry.push("team/web", "1", &two_layers());
    let name = registry.name("team/web:1");
    let told = pull_layers(&world)
        .opts([&name, "--json", "--progress=json"])
        .text();
    let inspect = world.bare(["image", "inspect", "--json", "web"]);
    assert_eq!(told, inspect.verb(world.places()).text());
    let told: Value = serde_json::from_str(&told).expect("one document");
    assert_eq!(told["id"], "web");
    assert_eq!(told["form"], "layers");
    assert_eq!(told["manifest"], image.digest);
    assert_eq!(told["layers"].as_array().map(Vec::len), Some(2));
    let flat = pull(&world).opts([&name, "--json", "--id=flat"]).text();
    let flat: Value = serde_json::from_str(&flat).expect("one document");
    assert_eq!(
        (&flat["id"], &flat["form"]),
        (&"flat".into(), &"directory".into())
    );
    // It is there already, and is not replaced.
    let done = pull_layers(&world).opts([&name, "--json"]).done();
    done.expect_refused(&[125]);
}

#[test]
fn the_program_that_pulls_may_not_be_installed() {
    let Some(world) = World::new() else { return };
    let alone = world.dir.join("alone");
    fs::create_dir(&alone).expect("directory");
    let copy = alone.join("start-container");
    fs::copy(binary(), &copy).expect("copy");
    let done = Run::new(&copy)
        .verb(["image", "pull", "127.0.0.1:1/web"])
        .done();
    done.expect_refused(&[125]);
    let said = done.err_text();
    assert!(said.contains("start-container-pull\": ENOENT"), "{said}");
    assert!(said.contains("install it beside start-container"), "{said}");
    // By itself the other program does nothing else.
    let other = binary().with_file_name("start-container-pull");
    let done = Run::new(other)
        .verb(["subcontainer", "destroy-fs", "x"])
        .done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains("it only does image pull"),
        "{}",
        done.err_text()
    );
}
