//! What archives in use contain although hardly anybody thinks of it.

use std::path::PathBuf;

use runtime::image::{ImportRequest, import};
use tar::EntryType;

use crate::pack::{
    Files, Tar, bzip2, config, dir, file, gzip, hardlink, image, item, layout, oci, symlink, xz,
    zstd,
};
use crate::place::{Place, id, is_root, list, times};
use crate::verdict::refuse;

fn small() -> Vec<u8> {
    Tar::of([dir("etc"), file("etc/a", "1")])
}

fn layered(layer: Vec<u8>, pack: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut files = Files::default();
    let layers = [small(), layer];
    let manifest = image(&mut files, &layers, &config(&layers), pack);
    layout(&mut files, &[manifest]);
    files.into_tar()
}

#[test]
fn zeros_behind_the_last_part_are_padding() {
    for pack in [gzip, xz, bzip2] {
        let packed = [pack(&small()), vec![0; 10_240]].concat();
        assert_eq!(Place::new().unpacked(&packed).len(), 3);
    }
    // Behind the archive's own end mark as well: tar fills its last record.
    let padded = [small(), vec![0; 100 << 10]].concat();
    for pack in [<[u8]>::to_vec, gzip, zstd, xz, bzip2] {
        assert_eq!(Place::new().unpacked(&pack(&padded)).len(), 3);
    }
}

#[test]
fn anything_else_behind_the_last_part_is_refused() {
    for (name, pack) in [
        ("gzip", gzip as fn(&[u8]) -> Vec<u8>),
        ("zstd", zstd),
        ("xz", xz),
        ("bzip2", bzip2),
    ] {
        let packed = [pack(&small()), b"something".to_vec()].concat();
        refuse(name, &packed, "data is damaged");
    }
    refuse(
        "gzip",
        &[gzip(&small()), b"something".to_vec()].concat(),
        "something else follows it",
    );
}

#[test]
fn streams_that_end_too_early_are_named() {
    for (name, pack) in [
        ("the gzip data ends too early", gzip as fn(&[u8]) -> Vec<u8>),
        ("the zstd data ends too early", zstd),
        ("the xz data ends too early", xz),
        ("the bzip2 data ends too early", bzip2),
    ] {
        let packed = pack(&small());
        refuse(name, &packed[..packed.len() - 1], name);
        // In a layer it is the same, whatever the digests say.
        let mut files = Files::default();
        let cut = packed[..packed.len() - 1].to_vec();
        let manifest = image(&mut files, &[cut], &config(&[small()]), <[u8]>::to_vec);
        layout(&mut files, &[manifest]);
        refuse(name, &files.into_tar(), name);
    }
}

#[test]
fn layers_with_nothing_in_them() {
    for (name, layer) in [
        ("two blocks of zeros", vec![0; 1024]),
        ("a record of zeros", vec![0; 10_240]),
        ("no byte at all", Vec::new()),
    ] {
        for pack in [<[u8]>::to_vec, gzip, zstd, xz, bzip2] {
            let found = Place::new().unpacked(&layered(layer.clone(), pack));
            assert_eq!(found.len(), 3, "{name}");
        }
    }
}

#[test]
fn times_before_1970_and_between_seconds_and_after_2106() {
    let mut old = file("old", "x");
    // Numbers of base 256: minus 100, and 2 to the 32nd.
    old.header.as_old_mut().mtime = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x9c";
    let mut far = file("far", "x");
    far.header.as_old_mut().mtime = *b"\x80\0\0\0\0\0\0\x01\0\0\0\0";
    let place = Place::new();
    let root = place
        .import(&Tar::of([
            dir(".").mtime(9),
            old,
            far,
            file("half", "x").pax("mtime", "-0.5"),
            symlink("link", "x").pax("mtime", "1.000000001"),
        ]))
        .unwrap()
        .root;
    let expected = [
        " 9.000000000",
        "far 4294967296.000000000",
        "half -1.500000000",
        "link 1.000000001",
        "old -100.000000000",
    ];
    assert_eq!(times(&root), expected);
}

#[test]
fn numbers_of_base_256() {
    if !is_root("numbers_of_base_256") {
        return;
    }
    let mut big = file("big", "12345");
    big.header.as_old_mut().size = *b"\x80\0\0\0\0\0\0\0\0\0\0\x05";
    big.header.as_old_mut().uid = *b"\x80\0\0\0\x7f\xff\xff\xff";
    big.header.as_old_mut().gid = *b"\x80\0\0\0\xff\xff\xff\xfe";
    let found = Place::new().unpacked(&Tar::of([big]));
    assert!(
        found.contains(&"/big file 0644 2147483647:4294967294 5 n1 12345".to_owned()),
        "{found:#?}"
    );
}

#[test]
fn device_numbers_beyond_eight_bits() {
    if !is_root("device_numbers_beyond_eight_bits") {
        return;
    }
    let place = Place::new();
    let root = place
        .import(&Tar::of([
            dir("dev"),
            item(EntryType::Char, "dev/a").device(4095, 1_048_575),
            item(EntryType::Block, "dev/b").device(259, 65_536),
        ]))
        .unwrap()
        .root;
    let found = list(&root);
    for line in [
        "/dev/a char 0644 0:0 4095:1048575",
        "/dev/b block 0644 0:0 259:65536",
    ] {
        assert!(found.contains(&line.to_owned()), "{found:#?}");
    }
}

#[test]
fn a_hard_link_that_comes_before_its_file() {
    let before = Tar::of([hardlink("b", "a"), file("a", "x")]);
    refuse(
        "in one archive",
        &before,
        "leads to \"a\", which is not there",
    );
    // In a layer the file below is meant, and the one that comes later is another.
    let layers = [
        Tar::of([file("a", "old")]),
        Tar::of([hardlink("b", "a"), file("a", "new")]),
    ];
    let found = Place::new().unpacked(&oci(&layers).into_tar());
    let of = |name: &str| {
        found
            .iter()
            .find(|line| line.starts_with(&format!("/{name} ")))
            .unwrap()
            .clone()
    };
    assert!(of("a").ends_with(" 3 n1 new"), "{found:#?}");
    assert!(of("b").ends_with(" 3 n1 old"), "{found:#?}");
}

#[test]
fn a_tree_whose_paths_are_as_long_as_linux_allows() {
    let mut path = PathBuf::new();
    let mut items = Vec::new();
    // 4,078 bytes with the file: behind the path of any directory no system call takes them. Longer ones are refused.
    for _ in 0..97 {
        path.push("d".repeat(41));
        items.push(dir(path.to_str().unwrap()).mode(0o751).mtime(77));
    }
    items.push(file(path.join("file").to_str().unwrap(), "deep"));
    let place = Place::new();
    let request = place.request(place.source(&Tar::of(items)));
    let layered = ImportRequest {
        id: id("layered"),
        flat: false,
        ..request.clone()
    };
    import(&layered).unwrap();
    let root = import(&request).unwrap().root;
    let mut here = std::fs::File::open(root).unwrap();
    for part in path.iter() {
        let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_NOFOLLOW;
        here = nix::fcntl::openat(&here, part, flags, nix::sys::stat::Mode::empty())
            .unwrap()
            .into();
        use std::os::unix::fs::MetadataExt;
        let stat = here.metadata().unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o751, 77));
    }
    let file = nix::fcntl::openat(
        &here,
        "file",
        nix::fcntl::OFlag::O_RDONLY,
        nix::sys::stat::Mode::empty(),
    );
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(file.unwrap()), &mut text).unwrap();
    assert_eq!(text, "deep");
}
