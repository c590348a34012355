//! SIGKILL at random moments of an import: what has its name is complete, nothing that was there before is damaged, and
//! what is left is removed by the next import of the same id or by `image gc`, whichever comes first.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Client, Run, Seeded, World, erofs, spin, squashfs, until, write_file};

use super::good::{layers, packed, write};
use super::store::{Witness, inventory, left, names, verb, verify};
use super::ways::{Way, top, world_in_memory};

/// How often each kind of import is killed.
const TIMES: u32 = 25;

/// Kills imports, each within the time that the first one took; after each `look` is told its number.
fn kill_each(import: impl Fn() -> Run, whole_time: Duration, mut look: impl FnMut(u32)) {
    let mut most = u64::try_from(whole_time.as_micros()).expect("short");
    let mut random = Seeded::new(7);
    let mut killed = 0;
    for round in 0.. {
        let client = import().spawn();
        spin(Duration::from_micros(random.below(most.max(1))));
        if kill(client) {
            killed += 1;
        } else {
            // It was faster than the first one.
            most -= most / 10;
        }
        look(round);
        if killed == TIMES {
            return;
        }
        assert!(round < 20 * TIMES, "only {killed} of {round} were killed");
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

/// Expects `image gc` alone to remove all that is left of a killed import of `id`, the image too if there is one.
fn expect_collected(world: &World, before: &[String], id: &str, there: bool) {
    if there {
        let _ = verb(world, "rm").cmd([id]).text();
    }
    let _ = verb(world, "gc").text();
    // Somebody may have put these two beside an image that is yet to come.
    let beside = ["env", "json"].map(|suffix| format!("images/{id}.{suffix} "));
    let mut now = inventory(world);
    now.retain(|line| !beside.iter().any(|name| line.starts_with(name)));
    assert!(
        before == now,
        "left: {:?}",
        now.iter()
            .filter(|line| !before.contains(line))
            .collect::<Vec<_>>()
    );
}

#[test]
fn killed_at_fifty_moments_it_leaves_nothing_that_the_next_import_does_not_mend() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let good = layers(3 << 20);
    let source = write(top(&world), "image", packed(&good));
    let witness = Witness::new(&world, &good[0]);
    let before = inventory(&world);
    for way in Way::ALL {
        let begun = Instant::now();
        let _ = way.import(&world, &source).expect_ok();
        let whole_time = begun.elapsed();
        // The time of the root is that of the import, where a layer does not say it.
        let tree = || way.tree(&world).without(&["."]);
        let expected = tree();
        witness.expect_collected(&world, way.id(), "none");
        let import = || way.importing(&world, way.id()).cmd([&source]);
        kill_each(import, whole_time, |round| {
            verify(&world, "witness");
            let images = world.base.join("images");
            let there = images.join(way.id()).exists() || images.join("layered.image").exists();
            // What has its name is complete.
            if there {
                expected.assert_same("whole", &tree(), "killed");
            }
            if round % 2 == 0 {
                expect_collected(&world, &before, way.id(), there);
            }
            let _ = way.import(&world, &source).expect_ok();
            expected.assert_same("whole", &tree(), "imported again");
            let left = left(&world, way.id());
            assert!(left.is_empty(), "{way:?}: left {left:?}");
            if way == Way::Layered {
                verify(&world, way.id());
            }
            witness.expect_collected(&world, way.id(), "killed");
        });
    }
    witness.end(&world);
}

#[test]
fn killed_while_it_takes_in_a_file_it_leaves_nothing_that_the_next_import_does_not_mend() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let directory = top(&world).join("directory");
    let mut random = Seeded::new(1);
    let noise: Vec<u8> = (0..8 << 20).map(|_| random.below(256) as u8).collect();
    write_file(directory.join("noise"), noise);
    let witness = Witness::new(&world, &layers(1000)[0]);
    let before = inventory(&world);
    for (kind, pack) in [("squashfs", squashfs as fn(&Path, &Path)), ("erofs", erofs)] {
        let source = top(&world).join(format!("source.{kind}"));
        pack(&directory, &source);
        let bytes = fs::read(&source).expect("file");
        let file = world.base.join(format!("images/file.{kind}"));
        let import = || verb(&world, "import").opt("--id=file").cmd([&source]);
        let expect_whole = || assert!(fs::read(&file).expect("file") == bytes, "{kind}");
        let begun = Instant::now();
        let _ = import().text();
        let whole_time = begun.elapsed();
        expect_whole();
        witness.expect_collected(&world, "file", kind);
        kill_each(import, whole_time, |round| {
            verify(&world, "witness");
            let there = file.exists();
            if there {
                expect_whole();
            }
            if round % 2 == 0 {
                expect_collected(&world, &before, "file", there);
            }
            let _ = import().opt("--replace").text();
            expect_whole();
            let mut names = names(&world.base.join("images"));
            names.retain(|name| !name.starts_with("witness."));
            names.sort();
            let mut whole = ["env", "json", kind].map(|suffix| format!("file.{suffix}"));
            whole.sort();
            assert_eq!(names, whole);
            witness.expect_collected(&world, "file", kind);
        });
    }
    witness.end(&world);
    // It was mounted to be tried out, where that needs a loop device.
    until("no loop device of these files to be left", || {
        let devices = fs::read_dir("/sys/block").expect("list");
        let files = devices
            .flatten()
            .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
        let top = top(&world).to_str().expect("path").to_owned();
        (!files.into_iter().any(|file| file.starts_with(&top))).then_some(())
    });
}
