//! Root filesystem tars: what every kind of member becomes.

use std::os::unix::fs::MetadataExt;

use runtime::image::Format;
use tar::EntryType;

use crate::pack::{MTIME, Tar, dir, file, gzip, hardlink, item, symlink, zstd};
use crate::place::{Place, is_root, list, times};

/// Owners in lists are the caller's own, because only root may set others.
fn me() -> String {
    format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid())
}

fn simple() -> Vec<u8> {
    Tar::of([
        dir("./").mode(0o751).mtime(MTIME + 5),
        dir("./etc/").mode(0o700).mtime(MTIME + 1),
        file("./etc/passwd", "root:x:0:0"),
        symlink("./etc/mtab", "/proc/mounts").mtime(MTIME + 2),
        file("/usr/bin/su", "x").mode(0o4755),
        dir("tmp").mode(0o1777),
        hardlink("etc/again", "./etc/passwd"),
        item(EntryType::Fifo, "run/pipe").mode(0o620),
        file("empty", ""),
    ])
}

fn simple_list() -> Vec<String> {
    let me = me();
    [
        format!("/ dir 0751 {me}"),
        format!("/empty file 0644 {me} 0 n1"),
        format!("/etc dir 0700 {me}"),
        format!("/etc/again file 0644 {me} 10 n2 root:x:0:0"),
        format!("/etc/mtab link 0777 {me} /proc/mounts"),
        format!("/etc/passwd file 0644 {me} 10 n2 root:x:0:0"),
        format!("/run dir 0755 {me}"),
        format!("/run/pipe fifo 0620 {me}"),
        format!("/tmp dir 1777 {me}"),
        format!("/usr dir 0755 {me}"),
        format!("/usr/bin dir 0755 {me}"),
        format!("/usr/bin/su file 4755 {me} 1 n1 x"),
    ]
    .into()
}

#[test]
fn a_rootfs_plain_gzip_and_zstd() {
    for (name, data) in [
        ("plain", simple()),
        ("gzip", gzip(&simple())),
        ("zstd", zstd(&simple())),
    ] {
        let place = Place::new();
        let imported = place.import(&data).unwrap();
        assert_eq!(list(&imported.root), simple_list(), "{name}");
        assert_eq!(imported.root, place.images().join("img"));
        assert_eq!(
            (imported.format, imported.layers, imported.members),
            (Format::Rootfs, 1, 9)
        );
        assert_eq!(imported.bytes, 11);
        assert_eq!(place.names(), ["img", "img.env", "img.json"]);
        assert_eq!(
            std::fs::read_to_string(place.images().join("img.env")).unwrap(),
            ""
        );
    }
}

#[test]
fn several_gzip_members_and_zstd_frames_are_one_stream() {
    let data = simple();
    let (head, tail) = data.split_at(1300);
    for packed in [
        [gzip(head), gzip(tail)].concat(),
        [zstd(head), zstd(tail)].concat(),
    ] {
        assert_eq!(Place::new().unpacked(&packed), simple_list());
    }
}

#[test]
fn a_source_whose_first_name_could_be_an_image_archives() {
    let members = || {
        [
            file("manifest.json", "{}"),
            file("oci-layout", "x"),
            dir("etc"),
        ]
    };
    for data in [Tar::of(members()), gzip(&Tar::of(members()))] {
        let place = Place::new();
        let imported = place.import(&data).unwrap();
        assert_eq!(imported.format, Format::Rootfs);
        assert_eq!(list(&imported.root).len(), 4);
        assert_eq!(place.names(), ["img", "img.env", "img.json"]);
    }
}

#[test]
fn times_of_files_links_and_directories() {
    let place = Place::new();
    let root = place
        .import(&Tar::of([
            dir("a").pax("mtime", "123456.000000789"),
            file("a/f", "x").pax("mtime", "-1.5"),
            symlink("a/l", "f").pax("mtime", "77.25"),
            dir("a/b").mtime(42),
            file("a/b/late", "y").mtime(43),
            item(EntryType::Fifo, "a/p").mtime(44),
            dir(".").mtime(9),
        ]))
        .unwrap()
        .root;
    let expected = [
        " 9.000000000",
        "a 123456.000000789",
        "a/b 42.000000000",
        "a/b/late 43.000000000",
        "a/f -2.500000000",
        "a/l 77.250000000",
        "a/p 44.000000000",
    ];
    assert_eq!(times(&root), expected);
}

#[test]
fn names_of_any_bytes_and_any_length() {
    let me = me();
    let long = ["d".repeat(200), "e".repeat(250)].join("/");
    let target = "t".repeat(3000);
    let place = Place::new();
    let lines = place.unpacked(&Tar::of([
        file(b"a\xff\n\x1b", "1"),
        file("short", "2").pax("path", b"pax\n\xfe".as_slice()),
        file(&long, "3"),
        symlink("s", &target),
        symlink("p", "x").pax("linkpath", "y\nz"),
        hardlink("h", &long),
    ]));
    let expected = [
        format!("/ dir 0755 {me}"),
        format!("/a\\xff\\n\\x1b file 0644 {me} 1 n1 1"),
        format!("/{} dir 0755 {me}", "d".repeat(200)),
        format!("/{long} file 0644 {me} 1 n2 3"),
        format!("/h file 0644 {me} 1 n2 3"),
        format!("/p link 0777 {me} y\nz"),
        format!("/pax\\n\\xfe file 0644 {me} 1 n1 2"),
        format!("/s link 0777 {me} {target}"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn owners_devices_and_the_modes_that_chown_would_clear() {
    if !is_root("owners_devices_and_the_modes_that_chown_would_clear") {
        return;
    }
    let lines = Place::new().unpacked(&Tar::of([
        dir("g").mode(0o2775).owner(5, 6),
        file("g/su", "x").mode(0o6755).owner(1000, 1001),
        file("g/big", "x")
            .pax("uid", "4294967294")
            .pax("gid", "3000000000"),
        symlink("g/l", "su").owner(7, 8),
        item(EntryType::Char, "g/null")
            .mode(0o666)
            .device(1, 3)
            .owner(0, 5),
        item(EntryType::Block, "g/sda")
            .mode(0o660)
            .device(259, 70_000),
        dir("g/implied/").owner(2_097_151, 0),
        file("g/made/f", "x").owner(0, 0),
    ]));
    let expected = [
        "/ dir 0755 0:0",
        "/g dir 2775 5:6",
        "/g/big file 0644 4294967294:3000000000 1 n1 x",
        "/g/implied dir 0755 2097151:0",
        "/g/l link 0777 7:8 su",
        "/g/made dir 0755 0:0",
        "/g/made/f file 0644 0:0 1 n1 x",
        "/g/null char 0666 0:5 1:3",
        "/g/sda block 0660 0:0 259:70000",
        "/g/su file 6755 1000:1001 1 n1 x",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn attributes_are_kept_byte_for_byte_but_not_those_of_another_machine() {
    if !is_root("attributes_are_kept_byte_for_byte_but_not_those_of_another_machine") {
        return;
    }
    // VFS_CAP_REVISION_2 with an effective bit and CAP_NET_BIND_SERVICE; the 10 is a newline.
    let capability = [1, 0, 0, 2, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let lines = Place::new().unpacked(&Tar::of([
        file("bin/ping", "x")
            .mode(0o755)
            .owner(1, 1)
            .pax("SCHILY.xattr.security.capability", capability)
            .pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")
            .pax("SCHILY.xattr.security.selinux", "x:y"),
        dir("d")
            .pax("SCHILY.xattr.user.k%3Dv", "a\nb")
            .pax("SCHILY.xattr.trusted.overlay.opaque", "y"),
        symlink("l", "d").pax("SCHILY.xattr.trusted.t", "on the link"),
    ]));
    let expected = [
        "/ dir 0755 0:0".to_owned(),
        "/bin dir 0755 0:0".into(),
        format!(
            "/bin/ping file 0755 1:1 1 n1 x security.capability={}",
            capability.escape_ascii()
        ),
        "/d dir 0755 0:0 user.k=v=a\\nb".into(),
        "/l link 0777 0:0 d trusted.t=on the link".into(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn files_with_holes_in_every_format() {
    let data = [vec![b'a'; 512], vec![b'b'; 100]].concat();
    let mut content = vec![0; 2 << 20];
    content[4096..4608].fill(b'a');
    content[1 << 20..(1 << 20) + 100].fill(b'b');
    let size = content.len().to_string();
    let [one, two] = [4096, 1 << 20];

    let mut gnu = file("gnu", &data);
    gnu.header.set_entry_type(EntryType::GNUSparse);
    let header = gnu.header.as_gnu_mut().unwrap();
    header.set_real_size(2 << 20);
    for (slot, (offset, length)) in header.sparse.iter_mut().zip([(one, 512), (two, 100)]) {
        slot.set_offset(offset);
        slot.set_length(length);
    }
    let map = format!("2\n{one}\n512\n{two}\n100\n");
    let mut in_data = map.into_bytes();
    in_data.resize(512, 0);
    in_data.extend_from_slice(&data);
    let pax = |version: &str, body: &[u8]| {
        file("GNUSparseFile.1/x", body)
            .pax("GNU.sparse.major", &version[..1])
            .pax("GNU.sparse.minor", &version[1..])
    };
    let place = Place::new();
    let imported = place
        .import(&Tar::of([
            gnu,
            pax("10", &in_data)
                .pax("GNU.sparse.name", "pax-1.0")
                .pax("GNU.sparse.realsize", &size),
            pax("01", &data)
                .pax("GNU.sparse.name", "pax-0.1")
                .pax("GNU.sparse.size", &size)
                .pax("GNU.sparse.map", format!("{one},512,{two},100")),
            file("pax-0.0", &data)
                .pax("GNU.sparse.size", &size)
                .pax("GNU.sparse.numblocks", "2")
                .pax("GNU.sparse.offset", one.to_string())
                .pax("GNU.sparse.numbytes", "512")
                .pax("GNU.sparse.offset", two.to_string())
                .pax("GNU.sparse.numbytes", "100"),
        ]))
        .unwrap();
    for name in ["gnu", "pax-1.0", "pax-0.1", "pax-0.0"] {
        let path = imported.root.join(name);
        assert!(std::fs::read(&path).unwrap() == content, "{name}");
        assert!(
            std::fs::metadata(&path).unwrap().blocks() < 512,
            "{name} has no holes"
        );
    }
    assert_eq!(list(&imported.root).len(), 5);
}

#[test]
fn a_name_that_comes_twice_is_what_it_was_last() {
    let me = me();
    let lines = Place::new().unpacked(&Tar::of([
        file("a", "old"),
        hardlink("kept", "a"),
        file("a", "new"),
        dir("d"),
        file("d/x", ""),
        file("d", "file now"),
        symlink("l", "a"),
        dir("l").mode(0o711),
        file("l/in", ""),
        hardlink("self", "a"),
        hardlink("self", "self"),
    ]));
    let expected = [
        format!("/ dir 0755 {me}"),
        format!("/a file 0644 {me} 3 n2 new"),
        format!("/d file 0644 {me} 8 n1 file now"),
        format!("/kept file 0644 {me} 3 n1 old"),
        format!("/l dir 0711 {me}"),
        format!("/l/in file 0644 {me} 0 n1"),
        format!("/self file 0644 {me} 3 n2 new"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn whiteouts_mean_nothing_in_a_rootfs_and_old_headers_are_read() {
    let me = me();
    let mut v7_dir = item(EntryType::Regular, "old/");
    v7_dir.header.as_mut_bytes()[257..265].fill(0);
    v7_dir.header.as_old_mut().linkflag[0] = 0;
    let global = [
        ("comment".to_owned(), b"made by a test".to_vec()),
        ("mtime".into(), b"5".to_vec()),
    ];
    let place = Place::new();
    let data = Tar::default()
        .records(EntryType::XGlobalHeader, &global)
        .with(v7_dir)
        .with(file(".wh.x", "literal"))
        .with(item(EntryType::new(b'V'), "label"))
        .end();
    let root = place.import(&data).unwrap().root;
    let expected = [
        format!("/ dir 0755 {me}"),
        format!("/.wh.x file 0644 {me} 7 n1 literal"),
        format!("/old dir 0644 {me}"),
    ];
    assert_eq!(list(&root), expected);
    assert!(times(&root).contains(&".wh.x 5.000000000".to_owned()));
}

#[test]
fn directories_that_nobody_may_enter_are_filled_first() {
    let me = me();
    let lines = Place::new().unpacked(&Tar::of([
        dir("a").mode(0),
        dir("a/b").mode(0o111),
        file("a/b/c", "x").mode(0),
    ]));
    let expected = [
        format!("/ dir 0755 {me}"),
        format!("/a dir 0000 {me}"),
        format!("/a/b dir 0111 {me}"),
        format!("/a/b/c file 0000 {me} 1 n1 x"),
    ];
    if is_root("directories_that_nobody_may_enter_are_filled_first") {
        assert_eq!(lines, expected);
    }
}
