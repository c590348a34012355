//! What goes wrong around an import: damaged sources, a full or read-only disk, many at once, a kill at any moment. The
//! error is clear, nothing half made is left, and the same import works afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use tests::pack::{self, Files, Tar, config, dir, file, gzip, image, layout, sha256};
use tests::tree::Tree;
use tests::{Client, Done, Seeded, World, lacking, spin, write_file};

use super::ways::{Way, skeleton, top, world_in_memory};

/// Three layers, the second of which replaces and deletes. `size` is that of the largest file.
fn layers(size: usize) -> Vec<Vec<u8>> {
    let mut lowest = skeleton();
    lowest.extend((0..200).map(|number| file(format!("file{number}"), number.to_string())));
    let second = [
        dir("d").mtime(2),
        file("d/large", vec![7; size]),
        file("file1", "replaced"),
        file(".wh.file2", ""),
    ];
    let third = (0..200).map(|number| file(format!("d/{number}"), "x".repeat(5000)));
    vec![Tar::of(lowest), Tar::of(second), Tar::of(third)]
}

/// A layout of these layers in gzip.
fn packed(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::default();
    let manifest = image(&mut files, layers, &config(layers), gzip);
    layout(&mut files, &[manifest]);
    files
}

/// Writes a layout to a new directory of the world.
fn write(world: &World, name: &str, files: Files) -> PathBuf {
    let path = top(world).join(name);
    let _ = fs::remove_dir_all(&path);
    files.into_directory(&path);
    path
}

/// Every name in the store that is not of a complete image with this id.
fn left(world: &World, id: &str) -> Vec<String> {
    let whole = ["", ".env", ".json", ".image"].map(|suffix| format!("{id}{suffix}"));
    let mut left = names(&world.base.join("images"));
    left.retain(|name| !whole.contains(name));
    let layers = names(&world.data.join("layers"));
    left.extend(layers.into_iter().filter(|name| name.starts_with('.')));
    left
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Expects a failure that has one of these words in it and has left nothing.
fn expect_refused(world: &World, way: Way, done: &Done, why: &str) {
    done.expect_refused(&[125]);
    let text = done.err_text();
    assert!(text.contains(why), "{way:?}: no {why:?} in {text}");
    let mut there = names(&world.base.join("images"));
    there.extend(names(&world.data.join("layers")));
    assert!(there.is_empty(), "{way:?}, {why}: left {there:?}");
}

#[test]
fn damaged_images_are_refused_and_leave_nothing() {
    let Some(world) = world_in_memory() else {
        return;
    };
    clear(&world);
    let good = layers(100_000);
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
    let whole = write(&world, "whole", packed(&good));
    for (name, files, why) in table {
        let source = write(&world, "damaged", files);
        for way in Way::ALL {
            println!("{name}, {way:?}");
            let done = way.importing(&world, way.id()).cmd([&source]).done();
            expect_refused(&world, way, &done, why);
        }
    }
    let mut trees = Vec::new();
    for way in Way::ALL {
        let _ = way.import(&world, &whole).expect_ok();
        trees.push(way.tree(&world).without(&["."]));
    }
    trees[0].assert_same("flat", &trees[1], "layered");
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
    clear(&world);
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
    let source = write(&world, "endless", files);
    let lowest = source.join("blobs/sha256").join(sha256(&tars[0]));
    let lowest = fs::File::options().write(true).open(lowest).expect("layer");
    lowest.set_len(LENGTH).expect("a sparse file");
    let way = Way::Layered;
    let done = way.importing(&world, way.id()).cmd([&source]).done();
    expect_refused(&world, way, &done, &"0".repeat(64));
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
    for way in Way::ALL {
        let small = small_disk(&world, "size=64m");
        let done = way.importing(&world, way.id()).cmd([&bomb]).done();
        expect_refused(&world, way, &done, "ENOSPC");
        assert!(fs::metadata(&bomb).expect("bomb").len() < 64 << 20);
        drop(small);
    }
}

/// Everything of the store on a small filesystem of its own, until it is dropped.
struct Disk {
    mounted: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.mounted, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// The store's directories lie in one, on which a filesystem with these options is mounted.
fn small_disk(world: &World, options: &str) -> Disk {
    let mounted = store(world).to_owned();
    fs::create_dir_all(&mounted).expect("directory");
    let kind = Some("tmpfs");
    mount(kind, &mounted, kind, MsFlags::empty(), Some(options)).expect("mount tmpfs");
    Disk { mounted }
}

/// Where the store's three directories are.
fn store(world: &World) -> &Path {
    world.base.parent().expect("parent")
}

/// Empties the store.
fn clear(world: &World) {
    for directory in [&world.base, &world.data, &world.state] {
        let _ = fs::remove_dir_all(directory);
    }
}

/// How many blocks and inodes are free.
fn free(path: &Path) -> (u64, u64) {
    let stat = statvfs(path).expect("statvfs");
    (stat.blocks_free(), stat.files_free())
}

#[test]
fn a_full_disk_is_named_and_has_as_much_room_as_before() {
    let Some(mut world) = world_in_memory() else {
        return;
    };
    in_store(&mut world);
    let source = write_outside(&world, "image", packed(&layers(6 << 20)));
    for (options, more, why) in [
        ("size=4m", "size=64m", "ENOSPC"),
        (
            "size=64m,nr_inodes=250",
            "size=64m,nr_inodes=10000",
            "ENOSPC",
        ),
    ] {
        for way in Way::ALL {
            let disk = small_disk(&world, options);
            let before = free(&disk.mounted);
            let done = way.importing(&world, way.id()).cmd([&source]).done();
            expect_refused(&world, way, &done, why);
            clear(&world);
            assert_eq!(free(&disk.mounted), before, "{way:?}, {options}");
            let none = None::<&str>;
            mount(none, &disk.mounted, none, MsFlags::MS_REMOUNT, Some(more)).expect("remount");
            let _ = way.import(&world, &source).expect_ok();
            assert!(whole(&world, way, way.id()), "{way:?}, {options}");
        }
    }
}

#[test]
fn a_disk_that_is_read_only_is_named() {
    let Some(mut world) = world_in_memory() else {
        return;
    };
    in_store(&mut world);
    let source = write_outside(&world, "image", packed(&layers(1000)));
    for way in Way::ALL {
        let disk = small_disk(&world, "size=64m");
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &disk.mounted, none, flags, none).expect("remount");
        let done = way.importing(&world, way.id()).cmd([&source]).done();
        expect_refused(&world, way, &done, "EROFS");
    }
}

/// Moves the store's directories one down, below `store`.
fn in_store(world: &mut World) {
    let store = top(world).join("store");
    world.base = store.join("base");
    world.state = store.join("state");
    world.data = store.join("data");
}

/// Writes a layout beside the store.
fn write_outside(world: &World, name: &str, files: Files) -> PathBuf {
    let path = store(world).with_file_name(name);
    files.into_directory(&path);
    path
}

/// Whether an image is all there: as many names as the layers make.
fn whole(world: &World, way: Way, id: &str) -> bool {
    let images = world.base.join("images");
    match way {
        Way::Flat => Tree::of(&images.join(id)).len() == NAMES,
        Way::Layered => {
            images.join(format!("{id}.image")).exists() && way.tree(world).len() == NAMES
        }
    }
}

/// How many names the image has: the skeleton, the files but for the deleted one, the directory and what is in it.
const NAMES: usize = 9 + 199 + 2 + 200;

#[test]
fn killed_at_fifty_moments_it_leaves_nothing_that_the_next_import_does_not_mend() {
    let Some(world) = world_in_memory() else {
        return;
    };
    clear(&world);
    let source = write(&world, "image", packed(&layers(3 << 20)));
    for way in Way::ALL {
        let begun = Instant::now();
        let _ = way.import(&world, &source).expect_ok();
        let whole_time = begun.elapsed();
        // The time of the root is that of the import, where a layer does not say it.
        let tree = || way.tree(&world).without(&["."]);
        let expected = tree();
        let mut random = Seeded::new(7);
        let mut killed = 0;
        for _ in 0..25 {
            clear(&world);
            let import = way.importing(&world, way.id()).cmd([&source]).spawn();
            let most = u64::try_from(whole_time.as_micros()).expect("short");
            spin(Duration::from_micros(random.below(most.max(1))));
            killed += u32::from(kill(import));
            let images = world.base.join("images");
            // What has its name is complete.
            if images.join(way.id()).exists() || images.join("layered.image").exists() {
                expected.assert_same("whole", &tree(), "killed");
            }
            let _ = way.import(&world, &source).expect_ok();
            expected.assert_same("whole", &tree(), "imported again");
            let left = left(&world, way.id());
            assert!(left.is_empty(), "{way:?}: left {left:?}");
        }
        assert!(killed > 5, "{way:?}: only {killed} of 25 were killed");
    }
}

/// Kills an import; whether it was still at work.
fn kill(mut import: Client) -> bool {
    let at_work = import.ended().is_none();
    if at_work {
        import.signal(Signal::SIGKILL);
    }
    let _ = import.finish();
    at_work
}

#[test]
fn many_imports_of_one_image_at_once_make_each_layer_once() {
    let Some(world) = world_in_memory() else {
        return;
    };
    clear(&world);
    let source = write(&world, "image", packed(&layers(1 << 20)));
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
