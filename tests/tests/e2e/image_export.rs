//! `image export`, `image tag` and `image inspect`: an exported image is the same image elsewhere, and for others too.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use tar::EntryType;
use tests::pack::{Item, Tar, config, dir, file, hardlink, image, item, layout, symlink};
use tests::tree::Tree;
use tests::{Done, Run, Wire, World, tool};

use crate::bad_input::{case, refuse_all};
use crate::images::ways::{Way, skeleton, top, umoci, world_in_memory};
use crate::rootless::User;

/// `image VERB` with the world's places.
fn verb(world: &World, verb: &str) -> Run {
    world.bare(["image", verb]).verb(world.places())
}

fn export(world: &World, id: &str, file: &Path, format: &str) -> Done {
    let run = verb(world, "export").opt(format!("--format={format}"));
    run.cmd([id]).cmd([file]).done()
}

/// The merged tree of an image as bytes: all that an archive can tell of it.
fn bytes(world: &World, id: &str) -> Vec<u8> {
    let done = verb(world, "export").opt("--format=rootfs");
    let done = done.cmd([id, "-"]).done();
    let _ = done.expect_ok();
    done.out
}

/// Everything that a layer can have, and a second and third layer that change and hide it.
fn layers() -> Vec<Vec<u8>> {
    let long = "l".repeat(200);
    let lower = skeleton().into_iter().chain([
        file("plain", "text").mode(0o640).owner(1, 2).mtime(3),
        file("suid", "x").mode(0o6755).owner(3, 3_000_000_000),
        file("exact", "x").pax("mtime", "1000000000.123456789"),
        file("old", "x").pax("mtime", "-1.25"),
        file("attributes", "x").pax("SCHILY.xattr.user.a", b"\0\n=\xff"),
        file(b"byte-\xff\n", "x"),
        dir(&long).mtime(1),
        dir(format!("{long}/{long}")).mtime(2),
        file(format!("{long}/{long}/{long}"), "long"),
        symlink("link", "a//b/./c"),
        symlink("long-link", "t/".repeat(150)),
        hardlink("again", "plain"),
        item(EntryType::Fifo, "fifo").mode(0o622),
        item(EntryType::Char, "null").device(1, 3),
        item(EntryType::Block, "disk").device(4000, 1_000_000),
        dir("gone").mtime(4),
        file("gone/inside", "x"),
        dir("opaque").mtime(5),
        file("opaque/below", "x"),
        file("large", vec![7; 3 << 20]),
        file("zeros", vec![0; 1 << 20]),
    ]);
    let middle: Vec<Item> = vec![
        file(".wh.gone", ""),
        dir("opaque").mode(0o711).mtime(6),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/above", "x"),
        file("plain", "other").mode(0o600),
    ];
    vec![
        Tar::of(lower),
        Tar::of(middle),
        Tar::of([file("top", "x"), file(".wh.top-gone", "")]),
    ]
}

/// An image whose configuration says everything.
fn source() -> Vec<u8> {
    let layers = layers();
    let mut config = config(&layers);
    config["config"] = json!({
        "User": "app", "Env": ["PATH=/bin", "A=b c"], "Entrypoint": ["/init"], "Cmd": ["run"], "WorkingDir": "/srv",
        "Labels": {"a": "1"}, "StopSignal": "SIGQUIT", "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Retries": 3}
    });
    let mut files = tests::pack::Files::default();
    let manifest = image(&mut files, &layers, &config, <[u8]>::to_vec);
    layout(&mut files, &[manifest]);
    files.into_tar()
}

/// A world with the image in both forms.
fn imported() -> Option<World> {
    let world = world_in_memory()?;
    let archive = top(&world).join("source.tar");
    fs::write(&archive, source()).expect("archive");
    for way in Way::ALL {
        let _ = way.import(&world, &archive).expect_ok();
    }
    Some(world)
}

fn beside(world: &World, id: &str) -> (String, Value) {
    let read = |ending: &str| {
        let path = world.base.join("images").join(format!("{id}.{ending}"));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    (
        read("env"),
        serde_json::from_str(&read("json")).expect("json"),
    )
}

#[test]
fn an_exported_image_is_the_same_elsewhere() {
    let Some(world) = imported() else { return };
    // An overlay's root directory has the times of its topmost layer, whether that lists it or not.
    let tree_of = |way: Way| way.tree(&world).without(&["."]);
    let tree = tree_of(Way::Flat);
    assert!(tree.has("again") && !tree.has("gone") && !tree.has("opaque/below"));
    // What is exported second has been replaced by the first.
    for id in ["layered", "flat"] {
        for format in ["oci", "docker"] {
            let archive = top(&world).join(format!("{id}-{format}.tar"));
            export(&world, id, &archive, format).expect_code(0);
            for way in Way::ALL {
                let import = way.importing(&world, way.id()).opt("--replace");
                let _ = import.cmd([&archive]).text();
                let told = format!("{id} as {format}, {way:?}");
                tree_of(way).assert_same(&told, &tree, "the original");
                let (env, json) = beside(&world, way.id());
                assert_eq!(env, "PATH=/bin\nA=b c\n", "{told}");
                assert_eq!(
                    json,
                    json!({
                        "user": "app", "workdir": "/srv", "entrypoint": ["/init"], "cmd": ["run"], "labels": {"a": "1"},
                        "stop_signal": "SIGQUIT", "volumes": ["/data"], "ports": ["80/tcp"],
                        "healthcheck": {"test": ["CMD", "true"], "interval": null, "timeout": null,
                            "start_period": null, "start_interval": null, "retries": 3}
                    }),
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn layers_stay_layers_and_bytes_stay_bytes() {
    let Some(world) = imported() else { return };
    let archive = |name: &str| top(&world).join(name);
    let written = |name: &str| fs::read(archive(name)).expect("archive");
    let run = verb(&world, "export").opt("--json").cmd(["layered"]);
    let told: Value = serde_json::from_str(&run.cmd([&archive("one.tar")]).text()).expect("json");
    assert_eq!(
        (&told["layers"], &told["format"]),
        (&json!(3), &json!("oci"))
    );
    export(&world, "layered", &archive("two.tar"), "oci").expect_code(0);
    assert!(
        written("one.tar") == written("two.tar"),
        "two exports differ"
    );
    // Imported elsewhere and exported there it is that archive again, and the same tree.
    let elsewhere = World::new().expect("root");
    let import = Way::Layered.importing(&elsewhere, "layered");
    let _ = import.cmd([&archive("one.tar")]).text();
    export(&elsewhere, "layered", &archive("three.tar"), "oci").expect_code(0);
    assert!(
        written("one.tar") == written("three.tar"),
        "the second image differs"
    );
    assert!(
        bytes(&world, "layered") == bytes(&elsewhere, "layered"),
        "the trees differ"
    );
    assert!(
        bytes(&world, "flat") == bytes(&world, "layered"),
        "the forms differ"
    );
    let known = verb(&elsewhere, "inspect")
        .opt("--json")
        .cmd(["layered"])
        .text();
    let known: Value = serde_json::from_str(&known).expect("json");
    assert_eq!(known["manifest"], told["digest"]);
}

/// Another program unpacks the same tree.
#[test]
fn umoci_reads_what_is_exported() {
    let Some(world) = imported() else { return };
    for id in ["flat", "layered"] {
        // The tag that the helper asks for.
        let tagged = verb(&world, "tag").cmd([id, "latest"]).done();
        let id = if tagged.code() == Some(0) {
            "latest"
        } else {
            id
        };
        let archive = top(&world).join("out.tar");
        let run = verb(&world, "export").opt("--replace");
        let _ = run.cmd([id]).cmd([&archive]).text();
        let layout = top(&world).join("layout");
        let _ = fs::remove_dir_all(&layout);
        fs::create_dir(&layout).expect("directory");
        let untar = Command::new(tool("tar"))
            .arg("-xf")
            .args([&archive])
            .arg("-C")
            .args([&layout])
            .status();
        assert!(untar.expect("tar").success());
        let index = layout.join("index.json");
        let text = fs::read_to_string(&index)
            .expect("index")
            .replace("\"flat\"", "\"latest\"");
        fs::write(&index, text).expect("index");
        let theirs = Tree::of(&umoci(&world, &layout));
        Way::Flat.tree(&world).assert_same("ours", &theirs, id);
    }
}

#[test]
fn an_image_that_is_a_file_is_one_layer() {
    let Some(world) = imported() else { return };
    let images = world.base.join("images");
    let squashfs = Command::new(tool("mksquashfs"))
        .args([images.join("flat"), images.join("file.squashfs")])
        .args(["-quiet", "-no-progress", "-xattrs"])
        .status();
    assert!(squashfs.expect("mksquashfs").success());
    let archive = top(&world).join("file.tar");
    export(&world, "file", &archive, "oci").expect_code(0);
    let _ = Way::Layered
        .importing(&world, "again")
        .cmd([&archive])
        .text();
    assert!(
        bytes(&world, "again") == bytes(&world, "file"),
        "the trees differ"
    );
    // squashfs has no nanoseconds, and nothing before 1970.
    let _ = verb(&world, "tag").cmd(["file", "other"]).text();
    assert!(bytes(&world, "other") == bytes(&world, "file"));
    let known = verb(&world, "inspect").cmd(["other"]).text();
    assert!(known.contains("form: squashfs"), "{known}");
}

#[test]
fn without_root_ids_are_those_inside() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let archive = ann.home.join("out.tar");
    let export = ann.run(["image", "export", "img"]).cmd([&archive]);
    let _ = export.text();
    let _ = ann
        .run(["image", "import", "--id=again"])
        .cmd([&archive])
        .text();
    let tree = |id: &str| {
        let done = ann
            .run(["image", "export", "--format=rootfs", id, "-"])
            .done();
        let _ = done.expect_ok();
        done.out
    };
    let bytes = tree("img");
    assert!(bytes == tree("again"), "the trees differ");
    let mut archive = tar::Archive::new(&*bytes);
    let app = archive
        .entries()
        .expect("entries")
        .map(|member| member.expect("member"))
        .find(|member| &*member.path_bytes() == b"home/app/");
    assert_eq!(app.expect("home/app").header().uid().expect("uid"), 1000);
}

#[test]
fn a_tag_is_one_more_name() {
    let Some(world) = imported() else { return };
    let _ = verb(&world, "tag").cmd(["layered", "second"]).text();
    assert!(bytes(&world, "layered") == bytes(&world, "second"));
    assert_eq!(beside(&world, "layered"), beside(&world, "second"));
    world.destroy(&world.create_of("second"));
    let again = verb(&world, "tag").opts(["--replace", "--json"]);
    let known: Value =
        serde_json::from_str(&again.cmd(["layered", "second"]).text()).expect("json");
    assert_eq!(
        (&known["id"], &known["form"], &known["stop_signal"]),
        (&json!("second"), &json!("layers"), &json!("SIGQUIT"))
    );
    assert_eq!(known["layers"].as_array().map(Vec::len), Some(3));
    assert_eq!(known["env"], json!(["PATH=/bin", "A=b c"]));
    let tag = |from: &str, to: &str| verb(&world, "tag").cmd([from, to]);
    refuse_all(
        &world,
        vec![
            case(tag("layered", "second"), "an image of that id exists"),
            case(tag("layered", "layered"), "that name already"),
            case(tag("flat", "third"), "plain directory"),
            case(tag("absent", "third"), "absent"),
            case(tag("layered", "a.image"), "a.image"),
        ],
    );
}

#[test]
fn what_cannot_be_exported_is_refused_and_leaves_nothing() {
    let Some(world) = imported() else { return };
    let place = top(&world).join("place");
    fs::create_dir(&place).expect("directory");
    fs::write(place.join("there"), "").expect("file");
    let to = |file: PathBuf, options: &[&str]| {
        let run = verb(&world, "export").opts(options).cmd(["layered"]);
        run.cmd([file])
    };
    let record = world.base.join("images/layered.image");
    let text: Value =
        serde_json::from_str(&fs::read_to_string(&record).expect("record")).expect("json");
    let key = text["layers"][1]["key"].as_str().expect("key").to_owned();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let absent = verb(&world, "export").cmd(["absent"]);
    refuse_all(
        &world,
        vec![
            case(absent.cmd([place.join("new")]), "absent"),
            case(to(place.join("there"), &[]), "--replace"),
            case(to(place.join("no/where"), &[]), "no/where"),
            case(
                to(place.join("new"), &["--format=zip"]),
                "oci, docker or rootfs",
            ),
            case(to("-".into(), &["--json"]), "leave --json out"),
            case(
                to("-".into(), &[]).stdout(Wire::Given(full.into())),
                "make room",
            ),
        ],
    );
    let layer = world.data.join("layers").join(&key);
    // Changed by somebody, and gone.
    fs::rename(&layer, place.join("layer")).expect("rename");
    refuse_all(
        &world,
        vec![case(to(place.join("new"), &[]), format!("no layer {key}"))],
    );
    let names: Vec<_> = fs::read_dir(&place).expect("list").collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// A container writes sockets; an image that was made by hand may have one, and a name that is a mark.
#[test]
fn sockets_are_left_out_and_that_is_said() {
    let Some(world) = World::new() else { return };
    let image = world.base.join("images/img");
    mknod(
        &image.join("socket"),
        SFlag::S_IFSOCK,
        Mode::S_IRWXU,
        makedev(0, 0),
    )
    .expect("socket");
    let done = export(&world, "img", &world.dir.join("out.tar"), "rootfs");
    done.expect_code(0);
    assert!(done.err_text().contains("1 sockets"), "{}", done.err_text());
}
