//! `image build-erofs`: what the kernel reads in the file is what was packed, name by name; the file is the same wherever
//! and whenever it is made; it takes bounded memory; and nothing of it is left when it fails.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mkdirat, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tests::tree::Tree;
use tests::{Layered, Run, World, opaque, tool, whiteout, write_file};

use super::ways::{WRITTEN, top, world_in_memory};

/// `image build-erofs SOURCE FILE`.
pub(crate) fn build(world: &World, source: impl AsRef<Path>, file: &Path) -> Run {
    world
        .bare(["image", "build-erofs"])
        .verb(world.places())
        .cmd([source.as_ref(), file])
}

/// Mounts the file as the kernel does for everybody, reads it, and has fsck.erofs read it too.
fn mounted(world: &World, file: &Path) -> Tree {
    let place = top(world).join("mounted");
    fs::create_dir_all(&place).expect("directory");
    let _ = Run::new(tool("mount"))
        .cmd(["-t", "erofs", "-o", "ro,loop"])
        .cmd([file, &place])
        .text();
    let tree = Tree::of(&place);
    umount2(&place, MntFlags::MNT_DETACH).expect("unmount");
    tree
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = TimeSpec::new(seconds, nanoseconds);
    let no = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &time, &time, no).expect("set time");
}

/// Every kind of file, name, size and attribute.
fn everything(top: &Path) {
    fs::create_dir(top).expect("directory");
    let at = |name: &str| top.join(name);
    for byte in (1..=255).filter(|byte| *byte != b'/') {
        let name = [b"byte-", &[byte][..]].concat();
        let path = top.join(std::ffi::OsStr::from_bytes(&name));
        write_file(path, vec![byte; usize::from(byte) * 17]);
    }
    fs::create_dir(at(&"d".repeat(255))).expect("directory");
    // On both sides of a block, of the size from which zeros are looked for, and of what fits behind an inode.
    for size in [
        0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 12_000, 1_048_575, 1_048_576, 1_048_577,
    ] {
        let content: Vec<u8> = (0..size).map(|n| (n % 251 + 1) as u8).collect();
        write_file(at(&format!("size-{size}")), content);
    }
    for length in [1, 59, 4030, 4095] {
        symlink("t".repeat(length), at(&format!("link-{length}"))).expect("link");
    }
    write_file(at("zeros"), vec![0; 3 << 20]);
    let large = File::create(at("sparse")).expect("file");
    large.set_len((4 << 30) + 5).expect("length");
    large.write_all_at(b"middle", 3 << 30).expect("write");
    large.write_all_at(b"x", (4 << 30) + 4).expect("write");
    for (name, kind, device) in [
        ("char", SFlag::S_IFCHR, makedev(4000, 1_000_000)),
        ("block", SFlag::S_IFBLK, makedev(7, 200)),
        ("fifo", SFlag::S_IFIFO, 0),
        ("socket", SFlag::S_IFSOCK, 0),
    ] {
        mknod(&at(name), kind, Mode::from_bits_truncate(0o640), device).expect("mknod");
    }
    fs::create_dir_all(at("sub/empty")).expect("directory");
    for (name, first) in [
        ("a", "size-1"),
        ("sub/b", "size-1"),
        ("sub/l", "link-59"),
        ("sub/f", "fifo"),
    ] {
        fs::hard_link(at(first), at(name)).expect("hard link");
    }
    chown(at("size-1"), Some(4_000_000_000), Some(70_000)).expect("chown");
    lchown(at("link-1"), Some(5), Some(6)).expect("chown");
    for (name, mode) in [("size-1", 0o6755), ("size-0", 0), ("sub", 0o3777)] {
        fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).expect("mode");
    }
    for (name, attribute, value) in [
        ("size-4097", "user.large", &[b'v'; 3000][..]),
        ("size-4097", "user.empty", b""),
        (
            "size-0",
            "security.capability",
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        ("sub", "trusted.on-a-directory", b"\0\xff"),
        ("link-59", "trusted.on-a-link", b"1"),
        ("char", "trusted.on-a-device", b"2"),
        ("size-12000", "system.posix_acl_access", ACL),
        ("sub/empty", "system.posix_acl_default", ACL),
    ] {
        xattr::set(at(name), attribute, value).expect("attribute");
    }
    fs::create_dir(at("many")).expect("directory");
    for number in 0..2000 {
        let name = format!("{}{number}", "n".repeat(number % 200));
        write_file(at("many").join(name), number.to_string());
    }
    set_time(&at("size-4096"), -5, 499_999_999);
    set_time(&at("size-4095"), 4_500_000_000, 999_999_999);
    set_time(&at("link-1"), 1, 2);
    set_time(&at("sub/empty"), 0, 0);
    set_time(top, 77, 0);
}

/// `user::rwx,user:55:r-x,group::r--,mask::rwx,other::---` as the kernel stores it (linux/posix_acl_xattr.h).
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x07\0\xff\xff\xff\xff\x02\0\x05\0\x37\0\0\0\x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

#[test]
fn the_kernel_reads_what_was_packed() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let (source, file) = (top(&world).join("source"), top(&world).join("image.erofs"));
    everything(&source);
    assert_eq!(build(&world, &source, &file).text(), "");
    mounted(&world, &file).assert_same("EROFS", &Tree::of(&source), "the source");
    let size = fs::metadata(&file).expect("file").len();
    assert!(size < 32 << 20, "the holes were stored: {size} bytes");
    let checked = Run::new(tool("fsck.erofs")).cmd([&file]).done();
    let _ = checked.expect_ok();
    let shown = Run::new(tool("dump.erofs")).cmd(["-s"]).cmd([&file]).text();
    assert!(shown.contains("sb_csum mtime chunked_file"), "{shown}");
}

#[test]
fn a_tree_of_any_depth_is_packed() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let (source, file) = (top(&world).join("source"), top(&world).join("image.erofs"));
    fs::create_dir(&source).expect("directory");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut here = nix::fcntl::open(&source, flags, Mode::empty()).expect("open");
    // More than descriptors may be open, and more bytes than a path may have.
    for _ in 0..1100 {
        mkdirat(&here, "down", Mode::S_IRWXU).expect("mkdir");
        here = nix::fcntl::openat(&here, "down", flags, Mode::empty()).expect("open");
    }
    let _ = build(&world, &source, &file).text();
    let tree = mounted(&world, &file);
    assert_eq!(tree.len(), 1101);
    tree.assert_same("EROFS", &Tree::of(&source), "the source");
}

#[test]
fn the_same_tree_gives_the_same_file() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let (source, file) = (top(&world).join("source"), top(&world).join("image.erofs"));
    everything(&source);
    let _ = build(&world, &source, &file).text();
    // On another filesystem, with other inode numbers, in another order, and with holes elsewhere.
    let elsewhere = world.dir.join("elsewhere");
    let _ = Run::new(tool("cp"))
        .cmd(["--archive", "--sparse=always"])
        .cmd([&source, &elsewhere])
        .text();
    let other = top(&world).join("other.erofs");
    let _ = build(&world, &elsewhere, &other).text();
    assert!(fs::read(&file).expect("read") == fs::read(&other).expect("read"));
    write_file(elsewhere.join("size-1"), "X");
    let _ = build(&world, &elsewhere, &other).opt("--replace").text();
    assert!(fs::read(&file).expect("read") != fs::read(&other).expect("read"));
}

#[test]
fn memory_is_bounded_whatever_the_size() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let (source, file) = (top(&world).join("source"), top(&world).join("image.erofs"));
    for directory in 0..100 {
        let directory = source.join(directory.to_string());
        fs::create_dir_all(&directory).expect("directory");
        for number in 0..1000 {
            fs::write(directory.join(number.to_string()), "x").expect("file");
        }
    }
    let large = File::create(source.join("large")).expect("file");
    for at in (0..256).map(|n| n << 20) {
        large.write_all_at(&[1; 1 << 20], at).expect("write");
    }
    let limit = [
        tool("prlimit").display().to_string(),
        "--data=67108864".into(),
    ];
    let _ = build(&world, &source, &file).wrap(limit).text();
    mounted(&world, &file).assert_same("EROFS", &Tree::of(&source), "the source");
    // One that is far from enough tells that there is a limit.
    let limit = [
        tool("prlimit").display().to_string(),
        "--data=4194304".into(),
    ];
    let starved = build(&world, &source, &file)
        .opt("--replace")
        .wrap(limit)
        .done();
    assert!(!starved.status.success(), "{starved:?}");
}

#[test]
fn an_image_of_layers_is_packed_as_its_containers_see_it() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let mut image = Layered::new(&world, "layered");
    let lower = image.layer();
    for name in ["proc", "dev", "sys", "etc", "run", "tmp", "d/hidden", "e"] {
        fs::create_dir_all(lower.join(name)).expect("directory");
    }
    for name in ["gone", "d/gone", "stays", "etc/hostname", "etc/hosts"] {
        write_file(lower.join(name), name);
    }
    let upper = image.layer();
    fs::create_dir_all(upper.join("d")).expect("directory");
    opaque(upper.join("d"), "trusted");
    whiteout(upper.join("gone"));
    write_file(upper.join("d/new"), "new");
    xattr::set(&upper, "user.top", b"1").expect("attribute");
    fs::set_permissions(&upper, PermissionsExt::from_mode(0o751)).expect("mode");
    set_time(&upper, 5, 6);
    image.publish();
    let file = top(&world).join("image.erofs");
    let _ = build(&world, "layered", &file).text();
    let packed = mounted(&world, &file);
    let root = world.create_of("layered");
    let seen = Tree::of(&root.path).without(&WRITTEN);
    world.destroy(&root);
    packed
        .clone()
        .without(&WRITTEN)
        .assert_same("EROFS", &seen, "a container");
    assert!(packed.has("d/new") && !packed.has("d/gone") && !packed.has("gone"));
    let lines = packed.lines();
    let own = lines.iter().find(|line| line.starts_with(". "));
    assert_eq!(
        own.map(String::as_str),
        Some(". directory 0751 0:0 5.000000006 user.top=1")
    );
    // Nobody can know when a layer was unpacked.
    let again = top(&world).join("again.erofs");
    let _ = build(&world, "layered", &again).text();
    assert!(fs::read(file).expect("read") == fs::read(again).expect("read"));
}

#[test]
fn what_cannot_be_packed_is_named_and_nothing_is_left() {
    let Some(world) = world_in_memory() else {
        return;
    };
    let place = top(&world).join("place");
    let busy = top(&world).join("busy");
    let (none, tmpfs) = (None::<&str>, Some("tmpfs"));
    for directory in [&place, &busy.join("mount")] {
        fs::create_dir_all(directory).expect("directory");
    }
    mount(tmpfs, &busy.join("mount"), tmpfs, MsFlags::empty(), none).expect("mount");
    let full = top(&world).join("full");
    fs::create_dir(&full).expect("directory");
    mount(tmpfs, &full, tmpfs, MsFlags::empty(), Some("size=1m")).expect("mount");
    let large = top(&world).join("large");
    write_file(large.join("file"), vec![1; 4 << 20]);
    let attributes = top(&world).join("attributes");
    fs::create_dir(&attributes).expect("directory");
    // Three values of 60 kB are more than the 16 bits for their length, in units of four bytes, can say.
    for name in [
        "trusted.a",
        "trusted.b",
        "trusted.c",
        "trusted.d",
        "trusted.e",
    ] {
        xattr::set(&attributes, name, &[1; 60_000]).expect("attribute");
    }
    write_file(place.join("taken"), "mine");
    let slash = |path: &Path| PathBuf::from(format!("{}/", path.display()));
    let sysfs = Path::new("/sys/kernel/mm/");
    for (source, file, words) in [
        // A file there has a size that it does not have.
        (
            sysfs.to_owned(),
            place.join("f"),
            "it was changed meanwhile",
        ),
        (slash(&busy), place.join("f"), "something is mounted there"),
        (slash(&large), full.join("f"), "ENOSPC"),
        (slash(&attributes), place.join("f"), "EROFS has no room"),
        (slash(&large), place.join("taken"), "--replace"),
        (slash(&large), place.join("none/f"), "ENOENT"),
        (slash(&large), PathBuf::from("/"), "EISDIR"),
        (large.join("file"), place.join("f"), "ENOTDIR"),
        ("absent".into(), place.join("f"), "absent"),
        ("a b".into(), place.join("f"), "./DIRECTORY"),
    ] {
        let done = build(&world, &source, &file).done();
        done.expect_refused(&[125]);
        let error = done.err_text();
        assert!(
            error.contains(words) && error.contains("hint: "),
            "{source:?}: {error}"
        );
        let left: Vec<_> = [&place, &full]
            .into_iter()
            .flat_map(|directory| fs::read_dir(directory).expect("list"))
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(left, ["taken"], "{source:?}");
    }
    assert_eq!(fs::read(place.join("taken")).expect("read"), b"mine");
    for mounted in [busy.join("mount"), full] {
        umount2(&mounted, MntFlags::MNT_DETACH).expect("unmount");
    }
}
