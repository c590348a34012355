//! Images that are files, squashfs and EROFS: imported by copying, tried out before they have a name, and held to their
//! fs-verity digest.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tests::tree::Tree;
use tests::{Done, Run, Snapshot, World, erofs, squashfs, tool, write_file};

use super::packed::build;
use crate::auto_ids::rootfs;
use crate::rootless::User;

/// `image import FILE --id ID`, with options.
fn import<'o>(
    world: &World,
    file: &Path,
    id: &str,
    options: impl IntoIterator<Item = &'o str>,
) -> Done {
    world
        .bare(["image", "import"])
        .verb(world.places())
        .opt(format!("--id={id}"))
        .opts(options)
        .cmd([file])
        .done()
}

/// The names in `images` that begin like this.
fn names(world: &World, id: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(world.base.join("images"))
        .expect("list")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("name")
        })
        .filter(|name| name.trim_start_matches('.').starts_with(id))
        .collect();
    names.sort();
    names
}

/// Files of both kinds with the image's tree in them.
fn files(world: &World) -> [(&'static str, PathBuf); 2] {
    let image = world.base.join("images/img");
    // Its name says nothing.
    let file = |name: &str| world.dir.join(format!("{name}-of-img"));
    squashfs(&image, &file("squashfs"));
    erofs(&image, &file("erofs"));
    ["squashfs", "erofs"].map(|kind| (kind, file(kind)))
}

/// The digest that the program fsverity computes.
fn digest(file: &Path) -> String {
    let text = Run::new(tool("fsverity"))
        .cmd(["digest", "--compact"])
        .cmd([file])
        .text();
    format!("sha256:{}", text.trim())
}

/// As [`digest`], with another first digit.
fn other_digest(file: &Path) -> String {
    let digest = digest(file);
    let hex = digest.trim_start_matches("sha256:");
    let first = if hex.starts_with('0') { '1' } else { '0' };
    format!("sha256:{first}{}", &hex[1..])
}

/// What `image inspect` says of the digest.
fn recorded(world: &World, id: &str) -> serde_json::Value {
    let inspect = world.bare(["image", "inspect"]).verb(world.places());
    let text = inspect.cmd([id]).opt("--json").text();
    let mut said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    said["verity"].take()
}

#[test]
fn a_file_is_copied_and_used() {
    let Some(world) = World::new() else { return };
    for (kind, file) in files(&world) {
        let _ = import(&world, &file, kind, []).expect_ok();
        let stored = format!("{kind}.{kind}");
        let expected = [format!("{kind}.env"), format!("{kind}.json"), stored];
        let mut found = names(&world, kind);
        found.sort_by_key(|name| expected.iter().position(|known| known == name));
        assert_eq!(found, expected);
        fs::remove_file(&file).expect("remove");
        let root = world.create_of(kind);
        let leader = world.launch(&root);
        assert_eq!(
            world.exec(&root).opt("--user=app").sh("id -u").text(),
            "1000"
        );
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn an_image_goes_through_a_file_and_stays_what_it_is() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    let file = world.dir.join("out/img.erofs");
    fs::create_dir(world.dir.join("out")).expect("directory");
    let said = build(&world, "img", &file).opt("--json").text();
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["verity"], digest(&file).as_str());
    assert_eq!(said["size"], fs::metadata(&file).expect("file").len());
    let verity = format!("--verity={}", said["verity"].as_str().expect("digest"));
    let _ = import(&world, &file, "again", [&*verity]).expect_ok();
    for suffix in ["env", "json"] {
        let read = |id: &str| fs::read(images.join(format!("{id}.{suffix}"))).expect("read");
        assert_eq!(read("again"), read("img"), "{suffix}");
    }
    let (one, two) = (world.create_of("img"), world.create_of("again"));
    let seen = |root: &Path| Tree::of(root).without(&super::ways::WRITTEN);
    seen(&one.path).assert_same("directory", &seen(&two.path), "EROFS");
    world.destroy(&one);
    world.destroy(&two);
}

#[test]
fn what_is_no_whole_filesystem_or_has_another_digest_is_refused() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    for (kind, file) in files(&world) {
        let whole = fs::read(&file).expect("read");
        let cut = world.dir.join("cut");
        // The superblock and little more.
        write_file(&cut, &whole[..2000]);
        let done = import(&world, &cut, "x", []);
        done.expect_refused(&[125]);
        assert!(
            done.err_text().contains(&format!("mount {kind}")),
            "{done:?}"
        );
        let wrong = format!("--verity={}", other_digest(&file));
        let done = import(&world, &file, "x", [&*wrong]);
        done.expect_refused(&[125]);
        assert!(done.err_text().contains(&digest(&file)), "{done:?}");
        let done = import(&world, &file, "x", ["--verity=sha256:12"]);
        done.expect_refused(&[125]);
        let done = import(&world, &file, "x", ["--verity=recorded"]);
        done.expect_refused(&[125]);
        write_file(file.with_extension("json"), "[]");
        let done = import(&world, &file, "x", []);
        done.expect_refused(&[125]);
        assert!(done.err_text().contains("no JSON object"), "{done:?}");
        fs::remove_file(file.with_extension("json")).expect("remove");
    }
    assert_eq!(names(&world, "x"), Vec::<String>::new());
    let tar = world.dir.join("x.tar");
    let image = world.base.join("images/img");
    let _ = Run::new(tool("tar"))
        .cmd(["-cf"])
        .cmd([&tar])
        .cmd(["-C"])
        .cmd([&image])
        .cmd(["."])
        .text();
    let verity = format!("--verity={}", digest(&tar));
    let done = import(&world, &tar, "x", [&*verity]);
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("build-erofs"), "{done:?}");
    before.assert_same(&world);
}

#[test]
fn an_image_of_another_kind_is_not_replaced_and_one_of_the_same_is() {
    let Some(world) = World::new() else { return };
    let [(_, packed), (_, file)] = files(&world);
    let _ = import(&world, &file, "x", []).expect_ok();
    import(&world, &file, "x", []).expect_refused(&[125]);
    let root = world.create_of("x");
    let done = import(&world, &packed, "x", ["--replace"]);
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("x.erofs exists"), "{done:?}");
    let done = import(&world, &packed, "img", ["--replace"]);
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("img exists"), "{done:?}");
    write_file(world.base.join("images/img/etc/second"), "second");
    fs::remove_file(&file).expect("remove");
    let verity = build(&world, "img", &file).opt("--json").text();
    let verity: serde_json::Value = serde_json::from_str(&verity).expect("JSON");
    let verity = format!("--verity={}", verity["verity"].as_str().expect("digest"));
    let _ = import(&world, &file, "x", ["--replace", &verity]).expect_ok();
    assert_eq!(
        names(&world, "x"),
        ["x.env", "x.erofs", "x.json", "x.verity"]
    );
    let _ = import(&world, &file, "x", ["--replace"]).expect_ok();
    assert_eq!(names(&world, "x"), ["x.env", "x.erofs", "x.json"]);
    // Who has the old one keeps it.
    assert!(!root.join("etc/second").exists() && root.join("etc/passwd").exists());
    let second = world.create_of("x");
    assert!(second.join("etc/second").exists());
    world.destroy(&root);
    world.destroy(&second);
}

#[test]
fn create_fs_holds_a_file_to_its_digest() {
    let Some(world) = World::new() else { return };
    let create = |id: &str, option: &str| world.verb("create-fs").opt(option).cmd([id]).done();
    let exactly = |digest: &str| format!("--verity={digest}");
    for (kind, file) in files(&world) {
        let stored = world.base.join(format!("images/{kind}.{kind}"));
        let _ = import(&world, &file, kind, []).expect_ok();
        assert_eq!(recorded(&world, kind), serde_json::Value::Null);
        let done = create(kind, "--verity");
        done.expect_refused(&[125]);
        assert!(done.err_text().contains("without one"), "{done:?}");
        world.destroy(&rootfs(&create(kind, &exactly(&digest(&file)))));
        let option = exactly(&digest(&file));
        let _ = import(&world, &file, kind, ["--replace", &option]).expect_ok();
        for option in ["--verity", &*option] {
            world.destroy(&rootfs(&create(kind, option)));
        }
        let said = recorded(&world, kind);
        assert_eq!(said["digest"], digest(&file).as_str());
        create(kind, &exactly(&other_digest(&file))).expect_refused(&[125]);
        if said["checked"] == "by the kernel, at every read" {
            let written = fs::File::options().write(true).open(&stored);
            assert!(written.is_err(), "{written:?}");
            continue;
        }
        assert_eq!(said["checked"], "at import only");
        // Somebody changes one byte of what no file of the image has: only the digest tells.
        let length = fs::metadata(&stored).expect("file").len();
        let changed = fs::File::options().write(true).open(&stored).expect("open");
        changed.write_all_at(&[1], length).expect("write");
        world.destroy(&world.create_of(kind));
        for option in ["--verity", &*option] {
            let done = create(kind, option);
            done.expect_refused(&[125]);
            assert!(done.err_text().contains("and not sha256:"), "{done:?}");
        }
    }
    let done = create("img", "--verity");
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("only a file has one"), "{done:?}");
}

#[test]
fn without_root_a_file_is_refused_in_words() {
    let Some(user) = User::granted() else { return };
    let world = &user.world;
    let images = world.dir.join("plain");
    write_file(images.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n");
    for kind in ["squashfs", "erofs"] {
        let file = world.dir.join(kind);
        match kind {
            "squashfs" => squashfs(&images, &file),
            _ => erofs(&images, &file),
        }
        let done = user
            .run(["image", "import", "--id=x", file.to_str().expect("path")])
            .done();
        done.expect_refused(&[125]);
        assert!(
            done.err_text().contains("only root of the machine"),
            "{done:?}"
        );
    }
}
