//! The store of a test as a whole: what is in it before a fault and after, and the small disks that it can lie on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use nix::unistd::syncfs;
use tests::pack::oci;
use tests::tree::Tree;
use tests::{Done, Run, World, tool, until, write_file};

use super::ways::{Way, top};

/// An image that is there before anything goes wrong, and has its lowest layer in common with what is imported then.
pub(super) struct Witness {
    before: Vec<String>,
}

impl Witness {
    const ID: &str = "witness";

    /// Imports it into an empty store.
    pub(super) fn new(world: &World, lowest: &[u8]) -> Self {
        clear(world);
        let source = world.dir.join("witness.tar");
        write_file(&source, oci(&[lowest.to_vec()]).into_tar());
        let import = verb(world, "import").opt(format!("--id={}", Self::ID));
        let _ = import.cmd([&source]).text();
        Self {
            before: inventory(world),
        }
    }

    /// Expects the store to be as it was before the fault, name by name, and the image in it, byte by byte.
    pub(super) fn expect_untouched(&self, world: &World, fault: &str) {
        let now = inventory(world);
        let missing: Vec<_> = self
            .before
            .iter()
            .filter(|line| !now.contains(line))
            .collect();
        let left: Vec<_> = now
            .iter()
            .filter(|line| !self.before.contains(line))
            .collect();
        assert!(
            missing.is_empty() && left.is_empty(),
            "{fault}: missing {missing:?}, left {left:?}"
        );
        verify(world, Self::ID);
    }

    /// Expects that the fault has no effect on what comes after it: the good image can be imported, what is in the store is
    /// what was imported, and when the good one is removed nothing of it is left.
    pub(super) fn expect_mended(&self, world: &World, way: Way, good: &Path, fault: &str) {
        verify(world, Self::ID);
        let _ = way.import(world, good).expect_ok();
        if way == Way::Layered {
            verify(world, way.id());
        }
        self.expect_collected(world, way.id(), fault);
    }

    /// Removes an image, and expects the store to be as it was before that came.
    pub(super) fn expect_collected(&self, world: &World, id: &str, fault: &str) {
        let _ = verb(world, "rm").cmd([id]).text();
        let _ = verb(world, "gc").text();
        self.expect_untouched(world, fault);
    }

    /// Expects that nothing is left when it is removed itself.
    pub(super) fn end(self, world: &World) {
        let _ = verb(world, "rm").cmd([Self::ID]).text();
        let _ = verb(world, "gc").text();
        expect_none_left(world);
    }
}

/// Expects no image, no layer and nothing half made.
pub(super) fn expect_none_left(world: &World) {
    for directory in [world.base.join("images"), world.data.join("layers")] {
        assert_eq!(names(&directory), [""; 0], "{}", directory.display());
    }
}

/// `image VERB` with the world's places.
pub(super) fn verb(world: &World, verb: &str) -> Run {
    world.bare(["image", verb]).verb(world.places())
}

/// Expects everything that a layered image stands on to be as it was imported.
pub(super) fn verify(world: &World, id: &str) {
    let said = verb(world, "verify").cmd([id]).text();
    assert!(said.ends_with("as they were"), "{id}: {said}");
}

/// Expects an import to fail with an error that has these words in it.
pub(super) fn expect_refused(way: Way, done: &Done, why: &str) {
    done.expect_refused(&[125]);
    let text = done.err_text();
    assert!(text.contains(why), "{way:?}: no {why:?} in {text}");
}

/// Everything in the store and what it is, but for times.
pub(super) fn inventory(world: &World) -> Vec<String> {
    let directories = [&world.base, &world.data].into_iter();
    let there = directories.filter(|directory| directory.exists());
    there
        .flat_map(|directory| Tree::of(directory).shape())
        .collect()
}

/// Every name in the store that is not of a complete image with this id.
pub(super) fn left(world: &World, id: &str) -> Vec<String> {
    let whole = ["", ".env", ".json", ".image"].map(|suffix| format!("{id}{suffix}"));
    let mut left = names(&world.base.join("images"));
    left.retain(|name| !whole.contains(name) && !name.starts_with(Witness::ID));
    let layers = names(&world.data.join("layers"));
    left.extend(layers.into_iter().filter(|name| name.starts_with('.')));
    left
}

/// The names in a directory, none where there is no directory.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Empties the store.
pub(super) fn clear(world: &World) {
    for directory in [&world.base, &world.data, &world.state] {
        let _ = fs::remove_dir_all(directory);
    }
}

/// Moves the store's directories one down, below `store`, which can be another filesystem.
pub(super) fn in_store(world: &mut World) {
    let store = top(world).join("store");
    world.base = store.join("base");
    world.state = store.join("state");
    world.data = store.join("data");
}

/// Where the store's three directories are.
pub(super) fn store(world: &World) -> &Path {
    world.base.parent().expect("parent")
}

/// What a small disk is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Tmpfs,
    /// In a file, by way of a loop device.
    Ext4,
}

/// What a disk has too little of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scarce {
    Space,
    Inodes,
}

/// A filesystem of 48 MiB and 2,000 files with the whole store on it, until it is dropped.
pub(super) struct Disk {
    pub(super) mounted: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.mounted, MntFlags::MNT_DETACH);
    }
}

impl Disk {
    pub(super) fn mount(world: &World, kind: Kind) -> Self {
        let mounted = store(world).to_owned();
        fs::create_dir_all(&mounted).expect("directory");
        match kind {
            Kind::Tmpfs => {
                let kind = Some("tmpfs");
                let options = Some("size=48m,nr_inodes=2000");
                mount(kind, &mounted, kind, MsFlags::empty(), options).expect("mount tmpfs");
            }
            Kind::Ext4 => {
                let file = mounted.with_extension("ext4");
                let disk = File::create(&file).expect("file");
                disk.set_len(48 << 20).expect("length");
                let make = Run::new(tool("mkfs.ext4")).cmd(["-q", "-F", "-m0", "-N2000"]);
                let _ = make.cmd([&file]).text();
                let mount = Run::new(tool("mount")).cmd(["-t", "ext4", "-o", "loop"]);
                let _ = mount.cmd([&file, &mounted]).text();
            }
        }
        Self { mounted }
    }

    /// Leaves 4 MiB, or 150 files.
    pub(super) fn fill(&self, scarce: Scarce) {
        let filler = self.filler();
        fs::create_dir(&filler).expect("directory");
        match scarce {
            Scarce::Space => {
                let stat = statvfs(&self.mounted).expect("statvfs");
                let free = stat.blocks_available() * stat.fragment_size();
                let file = File::create(filler.join("file")).expect("file");
                let length = i64::try_from(free - (4 << 20)).expect("small");
                fallocate(&file, FallocateFlags::empty(), 0, length).expect("fallocate");
            }
            Scarce::Inodes => {
                let (_, free) = self.free();
                for number in 150..free {
                    File::create(filler.join(number.to_string())).expect("file");
                }
            }
        }
    }

    /// Makes room again.
    pub(super) fn empty(&self) {
        fs::remove_dir_all(self.filler()).expect("remove");
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }

    /// How many blocks and inodes are free.
    fn free(&self) -> (u64, u64) {
        let stat = statvfs(&self.mounted).expect("statvfs");
        (stat.blocks_free(), stat.files_free())
    }

    /// The same when all that was removed is free, which ext4 brings about later.
    pub(super) fn settled(&self) -> (u64, u64) {
        let directory = File::open(&self.mounted).expect("open");
        syncfs(&directory).expect("syncfs");
        self.free()
    }

    /// Expects as much to be free as at some time before.
    pub(super) fn expect_free(&self, before: (u64, u64)) {
        until("as much to be free as before", || {
            (self.settled() == before).then_some(())
        });
    }
}
