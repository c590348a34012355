//! An import takes less than 64 MiB, whatever the image: the peak of the whole process, as the kernel tells it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use tests::pack::{self, Files, Item, Tar, config, dir, file, hardlink, image, layout};
use tests::{Done, Run, World, binary, write_file};

use super::good::write;
use super::ways::{Way, top, world_in_memory};

/// What is promised, in KiB.
const PROMISED: u64 = 64 << 10;

/// What many members may take more than one, in KiB: about as much as is kept in memory before it goes to disk.
const MARGIN: u64 = 7 << 10;

/// The words of a program whose peak is wanted, one a line.
const MEASURED: &str = "MEASURED_COMMAND";

/// The other process of the tests below. The kernel tells the highest peak of all children that a process has waited for,
/// so each program that is measured has a parent of its own.
#[test]
fn measured() {
    let Ok(words) = std::env::var(MEASURED) else {
        return;
    };
    let mut words = words.lines();
    let program = words.next().expect("a program");
    let status = Command::new(program).args(words).status().expect(program);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    println!("peak={}", usage.max_rss());
    std::process::exit(status.code().unwrap_or(1));
}

/// Imports `source` and gives what came of it, and its peak in KiB.
fn import(world: &World, way: Way, source: &Path) -> (Done, u64) {
    let mut words = vec![binary().display().to_string()];
    words.extend(["image".into(), "import".into()]);
    words.extend(world.places());
    words.extend(way.options());
    words.push("--replace".into());
    words.push(source.display().to_string());
    let done = Run::new(std::env::current_exe().expect("own path"))
        .verb(["--exact", "images::memory::measured", "--nocapture"])
        .env(MEASURED, words.join("\n"))
        .done();
    let out = done.out_text();
    let peak = out.lines().find_map(|line| line.strip_prefix("peak="));
    let peak = peak.unwrap_or_else(|| panic!("no peak: {done:?}"));
    println!("{way:?} {}: {peak} KiB", source.display());
    let peak = peak.parse().expect("number");
    (done, peak)
}

/// Imports `source` in each way, which must succeed within the promise.
fn within(world: &World, source: &Path) {
    for way in Way::ALL {
        let (done, peak) = import(world, way, source);
        let _ = done.expect_ok();
        assert!(peak < PROMISED, "{way:?} {}: {peak} KiB", source.display());
    }
}

/// Imports `source` in each way, which must take hardly more than one small file does, however much is in it.
fn constant(world: &World, source: &Path) {
    let small = top(world).join("small");
    write_file(&small, Tar::of([file("a", "")]));
    for way in Way::ALL {
        let (done, least) = import(world, way, &small);
        let _ = done.expect_ok();
        let (done, peak) = import(world, way, source);
        let _ = done.expect_ok();
        assert!(peak < least + MARGIN, "{way:?}: {least} and {peak} KiB");
    }
}

/// Imports `source` in each way, which must be refused with `why`, within the promise.
fn refused(world: &World, source: &Path, why: &str) {
    for way in Way::ALL {
        let (done, peak) = import(world, way, source);
        done.expect_code(125);
        let error = done.err_text();
        assert!(error.contains(why), "{error}");
        assert!(peak < PROMISED, "{way:?} {}: {peak} KiB", source.display());
    }
}

#[test]
fn of_documents_with_millions_of_values() {
    const SIZE: usize = 4_000_000;
    let Some(world) = world_in_memory() else {
        return;
    };
    let tar = [Tar::of([file("a", "")])];
    let configured = |change: &dyn Fn(&mut Value)| {
        let mut files = Files::default();
        let mut config = config(&tar);
        change(&mut config);
        let manifest = image(&mut files, &tar, &config, <[u8]>::to_vec);
        layout(&mut files, &[manifest]);
        write(top(&world), "image", files)
    };
    let many = "names and values";
    let source = configured(&|config| config["config"]["Env"] = json!(vec!["a="; SIZE / 5]));
    refused(&world, &source, many);
    let source = configured(&|config| {
        config["config"]["Labels"] = json!(vec![json!({"": 0}); SIZE / 7]);
    });
    refused(&world, &source, many);
    let source = configured(&|config| config["rootfs"]["diff_ids"] = json!(vec![""; SIZE / 3]));
    refused(&world, &source, many);
    let source = configured(&|config| config["author"] = json!("a".repeat(SIZE + SIZE / 4)));
    refused(&world, &source, "larger than 4 MiB");
    // As much as is taken.
    let source = configured(&|config| {
        let labels = (0..30_000).map(|number| (format!("{number:0120}"), json!("")));
        config["config"]["Labels"] = Value::Object(labels.collect());
    });
    within(&world, &source);
    let mut files = pack::oci(&tar);
    let index = files.get_mut("index.json");
    let mut changed: Value = serde_json::from_slice(index).expect("index");
    changed["manifests"] = json!(vec![changed["manifests"][0].clone(); 4_000]);
    *index = changed.to_string().into_bytes();
    within(&world, &write(top(&world), "image", files));
}

/// A layout of an image of these layers, packed one by one.
fn packed(world: &World, layers: &[(Vec<u8>, Vec<u8>)]) -> PathBuf {
    let tars: Vec<Vec<u8>> = layers.iter().map(|(tar, _)| tar.clone()).collect();
    let mut files = Files::default();
    let blobs: Vec<Value> = layers
        .iter()
        .map(|(_, packed)| files.blob(pack::OCI_LAYER, packed))
        .collect();
    let config = files.blob(pack::OCI_CONFIG, config(&tars).to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": blobs});
    let manifest = files.blob(pack::OCI_MANIFEST, manifest.to_string().as_bytes());
    layout(&mut files, &[manifest]);
    write(top(world), "image", files)
}

/// Two layers whose second part takes 32 times the memory of the first, more than both may take together.
#[test]
fn of_windows_that_grow_behind_the_first_header() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let zstd = |data: &[u8], log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("encoder");
        encoder.window_log(log).expect("window");
        encoder.write_all(data).expect("write");
        encoder.finish().expect("finish")
    };
    let xz = |data: &[u8], log| pack::xz_with(data, 1_u32 << log);
    type Pack<'a> = &'a dyn Fn(&[u8], u32) -> Vec<u8>;
    let packs: [(&str, Pack<'_>); 2] = [("zstd", &zstd), ("xz", &xz)];
    for (name, pack) in packs {
        let layer = |number: u8| {
            let tar = Tar::of([file(format!("{name}{number}"), vec![number; 34 << 20])]);
            let parts = [pack(&tar[..1000], 20), pack(&tar[1000..], 25)];
            (tar, parts.concat())
        };
        within(&world, &packed(&world, &[layer(0), layer(1)]));
    }
}

/// A layout of an image of these layers as they are.
fn plain(world: &World, layers: Vec<Vec<u8>>) -> PathBuf {
    let layers: Vec<_> = layers.into_iter().map(|tar| (tar.clone(), tar)).collect();
    packed(world, &layers)
}

/// The names of so many things in directories of a thousand, nearly as long as fits a header.
fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("{}/{n:090}", n / 1000))
}

#[test]
fn of_many_directories_and_whiteouts() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let lower = names(30_000).map(dir);
    let upper = names(30_000).map(|name| file(name.replace('/', "/.wh."), ""));
    let layers = vec![Tar::of(lower), Tar::of(upper)];
    constant(&world, &plain(&world, layers));
}

#[test]
fn of_many_names_above_other_layers() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let upper = names(50_000).map(|name| file(name, ""));
    let lower = Tar::of([file("a", "")]);
    constant(&world, &plain(&world, vec![lower, Tar::of(upper)]));
}

/// What is added to a directory of a lower layer makes the layer be listed once more when it is complete.
#[test]
fn of_a_layer_that_is_listed_again() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let lower = Tar::of([dir("d")]);
    let upper = (0..40_000).flat_map(|n| {
        let name = format!("d/{n:090}");
        [file(&name, ""), hardlink(format!("{name}-"), &name)]
    });
    constant(&world, &plain(&world, vec![lower, Tar::of(upper)]));
    let said = super::store::verb(&world, "verify").cmd([Way::Layered.id()]);
    let said = said.text();
    assert!(said.ends_with("as they were"), "{said}");
}

/// A failed import removes what it has made so far.
#[test]
fn of_many_directories_in_one_that_are_removed_again() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let many = (0..100_000).fold(Tar::default(), |tar, n| tar.with(dir(format!("d/{n:090}"))));
    let cut = top(&world).join("cut");
    write_file(&cut, many.without_end());
    let small = top(&world).join("small");
    write_file(&small, Tar::of([file("a", "")]));
    for way in Way::ALL {
        let (done, least) = import(&world, way, &small);
        let _ = done.expect_ok();
        let (done, peak) = import(&world, way, &cut);
        done.expect_code(125);
        assert!(peak < least + MARGIN, "{way:?}: {least} and {peak} KiB");
    }
}

#[test]
fn of_headers_that_say_much() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let large = vec![b'v'; 1 << 19];
    let whiteout = |n: usize| file(format!("d/.wh.{n}"), "").pax("SCHILY.xattr.user.x", &large);
    let lower = Tar::of([file("a", "")]);
    let upper = [dir("d")].into_iter().chain((0..150).map(whiteout));
    within(&world, &plain(&world, vec![lower, Tar::of(upper)]));
    let each = |item: &dyn Fn(usize) -> Item| {
        let layers = (0..3).map(|number| Tar::of([item(number)])).collect();
        plain(&world, layers)
    };
    let records = |number: usize| {
        let tiny = vec![(String::from("a"), Vec::new()); 150_000];
        let tar = Tar::default().records(tar::EntryType::XHeader, &tiny);
        tar.with(file(number.to_string(), "")).end()
    };
    let source = plain(&world, (0..3).map(records).collect());
    refused(&world, &source, "more than 16384 records");
    let long = "x".repeat(1 << 20);
    let source = each(&|number| file(number.to_string(), "").pax("comment", &long));
    refused(&world, &source, "larger than 1 MiB");
    // As many extents as there may be, and one more.
    for (extents, why) in [(1 << 18, None), ((1 << 18) + 1, Some("extents"))] {
        let lines: String = (0..extents).map(|n| format!("{}\n0\n", n * 2)).collect();
        let mut map = format!("{extents}\n{lines}").into_bytes();
        map.resize(map.len().next_multiple_of(512), 0);
        let source = each(&|number| {
            file("sparse", &map)
                .pax("GNU.sparse.major", "1")
                .pax("GNU.sparse.minor", "0")
                .pax("GNU.sparse.name", number.to_string())
                .pax("GNU.sparse.realsize", (extents * 2).to_string())
        });
        match why {
            None => within(&world, &source),
            Some(why) => refused(&world, &source, why),
        }
    }
}
