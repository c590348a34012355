//! What goes wrong around an import: damaged sources, a bomb, many at once. The error is clear, nothing half made is left,
//! what was there before is as it was, and the import of a good image works afterwards.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tests::pack::{self, Files, Tar, config, file, gzip, image, layout, sha256};
use tests::{Client, Done, lacking, write_file};

use super::good::{layers, packed, whole, write};
use super::store::{Disk, Kind, Witness, clear, expect_refused, in_store, left, names, store};
use super::ways::{Way, top, world_in_memory};

#[test]
fn damaged_images_are_refused_and_leave_nothing() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let good = layers(100_000);
    let witness = Witness::new(&world, &good[0]);
    let blob = |files: &Files, at: usize| {
        let digest = sha256(&gzip(&good[at]));
        let name = format!("blobs/sha256/{digest}");
        assert!(files.0.iter().any(|(known, _)| *known == name));
        name
    };
    let changed = |at: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = packed(&good);
        change(files.get_mut(&blob(&files, at)));
        files
    };
    let table = [
        (
            "a blob is cut",
            changed(1, &|data| data.truncate(data.len() / 2)),
            "bytes",
        ),
        (
            "a blob is longer",
            changed(2, &|data| data.push(0)),
            "bytes",
        ),
        (
            "a blob is another",
            changed(2, &|data| {
                let last = data.len() - 5;
                data[last] ^= 1;
            }),
            "",
        ),
        (
            "a blob is missing",
            without(packed(&good), &blob(&packed(&good), 1)),
            "blobs/sha256",
        ),
        ("a DiffID is another", wrong_diff_id(&good), "sha256:"),
        ("a DiffID is missing", fewer_diff_ids(&good), "layers"),
        (
            "a media type is unknown",
            unknown_type(&good),
            "application/x-unknown",
        ),
        ("a manifest is another", wrong_manifest(&good), "sha256:"),
    ];
    let whole = write(top(&world), "whole", packed(&good));
    for (name, files, why) in table {
        let source = write(top(&world), "damaged", files);
        for way in Way::ALL {
            println!("{name}, {way:?}");
            let done = way.importing(&world, way.id()).cmd([&source]).done();
            expect_refused(way, &done, why);
            witness.expect_untouched(&world, name);
            witness.expect_mended(&world, way, &whole, name);
        }
    }
    let mut trees = Vec::new();
    for way in Way::ALL {
        let _ = way.import(&world, &whole).expect_ok();
        trees.push(way.tree(&world).without(&["."]));
        witness.expect_collected(&world, way.id(), "none");
    }
    trees[0].assert_same("flat", &trees[1], "layered");
    witness.end(&world);
}

fn without(mut files: Files, name: &str) -> Files {
    files.0.retain(|(known, _)| known != name);
    files
}

/// An image whose configuration was changed.
fn with_config(layers: &[Vec<u8>], change: impl Fn(&mut Value)) -> Files {
    let mut files = Files::default();
    let mut config = config(layers);
    change(&mut config);
    let manifest = image(&mut files, layers, &config, gzip);
    layout(&mut files, &[manifest]);
    files
}

fn wrong_diff_id(layers: &[Vec<u8>]) -> Files {
    with_config(layers, |config| {
        config["rootfs"]["diff_ids"][1] = json!(format!("sha256:{}", "0".repeat(64)));
    })
}

fn fewer_diff_ids(layers: &[Vec<u8>]) -> Files {
    with_config(layers, |config| {
        let ids = config["rootfs"]["diff_ids"].as_array_mut().expect("ids");
        let _ = ids.pop();
    })
}

fn unknown_type(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::default();
    let layer = files.blob("application/x-unknown", &gzip(&layers[0]));
    let config = files.blob(
        pack::OCI_CONFIG,
        config(&layers[..1]).to_string().as_bytes(),
    );
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = files.blob(pack::OCI_MANIFEST, manifest.to_string().as_bytes());
    layout(&mut files, &[manifest]);
    files
}

fn wrong_manifest(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::default();
    let manifest = image(&mut files, layers, &config(layers), gzip);
    let name = manifest["digest"]
        .as_str()
        .expect("digest")
        .replace(':', "/");
    // As long as before, and no other document.
    files.get_mut(&format!("blobs/{name}")).reverse();
    layout(&mut files, &[manifest]);
    files
}

/// The lowest layer has zeros behind its end, for hours of reading; the one above it is not what it should be.
#[test]
fn a_layer_that_fails_ends_the_reading_of_the_others() {
    const LENGTH: u64 = 4 << 40;
    let Some(world) = world_in_memory() else {
        return;
    };
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        return lacking("layers are read at the same time by two processors");
    }
    let tars = ["a", "b"].map(|name| Tar::of([file(name, "1")]));
    let mut config = config(&tars);
    config["rootfs"]["diff_ids"][1] = json!(format!("sha256:{}", "0".repeat(64)));
    let mut files = Files::default();
    let mut layers = tars.each_ref().map(|tar| files.blob(pack::OCI_LAYER, tar));
    layers[0]["size"] = json!(LENGTH);
    let config = files.blob(pack::OCI_CONFIG, config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = files.blob(pack::OCI_MANIFEST, manifest.to_string().as_bytes());
    layout(&mut files, &[manifest]);
    let source = write(top(&world), "endless", files);
    let lowest = source.join("blobs/sha256").join(sha256(&tars[0]));
    let lowest = fs::File::options().write(true).open(lowest).expect("layer");
    lowest.set_len(LENGTH).expect("a sparse file");
    let way = Way::Layered;
    let done = way.importing(&world, way.id()).cmd([&source]).done();
    expect_refused(way, &done, &"0".repeat(64));
}

#[test]
fn a_bomb_stops_early() {
    let Some(mut world) = world_in_memory() else {
        return;
    };
    in_store(&mut world);
    let mut start = Tar::default()
        .with(file("etc/large", "").size(64 << 30))
        .without_end();
    start.truncate(512);
    // A few megabytes that become 4 GiB.
    let zeros = gzip(&vec![0; 16 << 20]).repeat(256);
    let bomb = store(&world).with_extension("tar.gz");
    write_file(&bomb, [gzip(&start), zeros].concat());
    let good = layers(100_000);
    let source = write(&world.dir, "whole", packed(&good));
    let _disk = Disk::mount(&world, Kind::Tmpfs);
    let witness = Witness::new(&world, &good[0]);
    for way in Way::ALL {
        let done = way.importing(&world, way.id()).cmd([&bomb]).done();
        expect_refused(way, &done, "ENOSPC");
        assert!(fs::metadata(&bomb).expect("bomb").len() < 64 << 20);
        witness.expect_untouched(&world, "bomb");
        witness.expect_mended(&world, way, &source, "bomb");
    }
    witness.end(&world);
}

#[test]
fn many_imports_of_one_image_at_once_make_each_layer_once() {
    let Some(world) = world_in_memory() else {
        return;
    };
    clear(&world);
    let source = write(top(&world), "image", packed(&layers(1 << 20)));
    for many in [2, 10] {
        for way in Way::ALL {
            clear(&world);
            let start = |id: String| way.importing(&world, &id).cmd([&source]).spawn();
            let ids = (1..many).map(|number| format!("other{number}"));
            let running: Vec<Client> = ids.chain([way.id().into()]).map(start).collect();
            for import in running {
                let _ = import.finish().expect_ok();
            }
            assert!(whole(&world, way, way.id()));
            let layers = names(&world.data.join("layers"));
            let distinct: BTreeSet<&String> = layers.iter().collect();
            let expected = if way == Way::Flat { 0 } else { 3 };
            assert_eq!(distinct.len(), expected, "{many}, {way:?}: {layers:?}");
            // Of the same id only one can be the first.
            clear(&world);
            let start = |_| way.importing(&world, way.id()).cmd([&source]).spawn();
            let running: Vec<Client> = (0..many).map(start).collect();
            let done: Vec<Done> = running.into_iter().map(Client::finish).collect();
            let first = done.iter().filter(|done| done.code() == Some(0)).count();
            assert_eq!(first, 1, "{many}, {way:?}");
            for other in done.iter().filter(|done| done.code() != Some(0)) {
                other.expect_refused(&[125]);
                assert!(other.err_text().contains("exists"), "{}", other.err_text());
            }
            assert!(whole(&world, way, way.id()));
            let left = left(&world, way.id());
            assert!(left.is_empty(), "{many}, {way:?}: left {left:?}");
        }
    }
}
