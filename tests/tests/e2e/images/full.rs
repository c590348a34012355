//! A disk that is full, of bytes or of files, and one that is read-only: the error names it, the disk has as much room as
//! before, and when there is more the same import works.

use nix::mount::{MsFlags, mount};

use super::good::{layers, packed, whole, write};
use super::store::{Disk, Kind, Scarce, Witness, expect_refused, in_store};
use super::ways::{Way, world_in_memory};

/// Imports to a disk that has too little of something, and again when it has more.
fn fill_and_empty(kind: Kind) {
    let Some(mut world) = world_in_memory() else {
        return;
    };
    in_store(&mut world);
    let good = layers(6 << 20);
    let source = write(&world.dir, "image", packed(&good));
    let disk = Disk::mount(&world, kind);
    let witness = Witness::new(&world, &good[0]);
    for scarce in [Scarce::Space, Scarce::Inodes] {
        for way in Way::ALL {
            let fault = format!("{kind:?}, {scarce:?}, {way:?}");
            println!("{fault}");
            disk.fill(scarce);
            let before = disk.settled();
            let done = way.importing(&world, way.id()).cmd([&source]).done();
            expect_refused(way, &done, "ENOSPC");
            witness.expect_untouched(&world, &fault);
            disk.expect_free(before);
            disk.empty();
            let _ = way.import(&world, &source).expect_ok();
            assert!(whole(&world, way, way.id()), "{fault}");
            witness.expect_mended(&world, way, &source, &fault);
        }
    }
    witness.end(&world);
}

#[test]
fn a_full_disk_is_named_and_has_as_much_room_as_before() {
    fill_and_empty(Kind::Tmpfs);
}

#[test]
fn a_full_ext4_is_named_and_has_as_much_room_as_before() {
    fill_and_empty(Kind::Ext4);
}

#[test]
fn a_disk_that_is_read_only_is_named() {
    let Some(mut world) = world_in_memory() else {
        return;
    };
    in_store(&mut world);
    let good = layers(1000);
    let source = write(&world.dir, "image", packed(&good));
    let disk = Disk::mount(&world, Kind::Tmpfs);
    let witness = Witness::new(&world, &good[0]);
    let remount = |flags| {
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | flags;
        mount(none, &disk.mounted, none, flags, none).expect("remount");
    };
    for way in Way::ALL {
        remount(MsFlags::MS_RDONLY);
        let done = way.importing(&world, way.id()).cmd([&source]).done();
        expect_refused(way, &done, "EROFS");
        witness.expect_untouched(&world, "read-only");
        remount(MsFlags::empty());
        witness.expect_mended(&world, way, &source, "read-only");
    }
    witness.end(&world);
}
