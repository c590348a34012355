//! Archives that can be read in two ways, or in none: sizes, checksums, records, sparse maps, ends; and streams
//! that are cut.

use std::path::Path;

use tar::{EntryType, GnuHeader};

use super::rootfs;
use crate::pack::{Item, Tar, dir, file, gzip, item, zstd};

pub(super) fn archives(outside: &Path) -> Vec<(String, Vec<u8>)> {
    [sizes(), headers(), members(), ends(), holes(outside)].concat()
}

fn one(item: Item) -> Vec<u8> {
    Tar::of([item])
}

fn records(kind: EntryType, key: &str, value: &str) -> Tar {
    Tar::default().records(kind, &[(key.into(), value.into())])
}

fn named<const N: usize>(kind: &str, table: [(&str, Vec<u8>); N]) -> Vec<(String, Vec<u8>)> {
    table
        .into_iter()
        .map(|(name, data)| (format!("{kind}: {name}"), data))
        .collect()
}

fn sizes() -> Vec<(String, Vec<u8>)> {
    let smuggled = one(file("evil", "x"));
    let gnu = |size: u64| {
        let mut item = item(EntryType::GNUSparse, "s");
        item.header.set_size(size);
        one(item)
    };
    named(
        "size",
        [
            (
                "a record says less, and hides a member",
                one(file("a", &smuggled).pax("size", "0")),
            ),
            (
                "a record says more, and hides a member",
                Tar::of([
                    file("a", "x").size(0).pax("size", "1536"),
                    file("evil", "x"),
                ]),
            ),
            (
                "a record says the same",
                one(file("a", "x").pax("size", "1")),
            ),
            ("negative", one(file("a", "x").pax("size", "-1"))),
            ("not a number", one(file("a", "x").pax("size", "1x"))),
            (
                "larger than any file",
                one(file("a", "x").size(u64::MAX / 2 - 1)),
            ),
            (
                "ten gibibytes that are not there",
                one(file("etc/a", "x").size(10 << 30)),
            ),
            ("of a directory", one(dir("etc").size(512))),
            (
                "for all members",
                records(EntryType::XGlobalHeader, "size", "0")
                    .with(file("a", "x"))
                    .end(),
            ),
            ("of a sparse file without a map", gnu(512)),
        ],
    )
}

fn headers() -> Vec<(String, Vec<u8>)> {
    let mut first = one(file("etc/a", "x"));
    first[0] ^= 1;
    let mut second = Tar::default().with(dir("etc")).without_end();
    second.extend_from_slice(&[b'x'; 512]);
    let x = EntryType::XHeader;
    let twice = records(x, "path", "a").records(x, &[("path".into(), b"b".to_vec())]);
    let comment = |tar: Tar, _| {
        let record = [("comment".to_owned(), vec![b'x'; 30_000])];
        tar.records(EntryType::XGlobalHeader, &record)
    };
    let comments = |count| {
        let tar = (0..count).fold(Tar::default(), comment);
        tar.with(file("a", "x")).end()
    };
    let mut long = item(EntryType::GNULongName, "././@LongLink").size(9 << 20);
    let mut long_of_nothing = item(EntryType::GNULongName, "././@LongLink").size(2);
    let raw = |text: &[u8]| {
        let mut header = item(x, "x").size(text.len() as u64).header;
        Tar::default()
            .raw(&mut header, text)
            .with(file("f", "x"))
            .end()
    };
    named(
        "header",
        [
            ("the first checksum", first),
            ("the second checksum", second),
            ("two records headers", twice.with(dir("d")).end()),
            ("records of nothing", records(x, "path", "a").end()),
            ("a length that is too long", raw(b"99 a")),
            ("a length that is too short", raw(b"3 path=a\n")),
            ("no equals sign", raw(b"6 abc\n")),
            (
                "a name for all",
                records(EntryType::XGlobalHeader, "path", "b")
                    .with(file("a", "x"))
                    .end(),
            ),
            ("30 kB for all", comments(1)),
            ("90 kB for all, in three headers", comments(3)),
            (
                "two names",
                one(file("a".repeat(101), "x").pax("path", "b")),
            ),
            (
                "a long name of 9 MiB",
                Tar::default().raw(&mut long.header, b"x").end(),
            ),
            (
                "a long name of nothing",
                Tar::default()
                    .raw(&mut long_of_nothing.header, b"n\0")
                    .end(),
            ),
            (
                "a volume's label",
                Tar::of([item(EntryType::new(b'V'), "label"), file("a", "x")]),
            ),
        ],
    )
}

fn members() -> Vec<(String, Vec<u8>)> {
    let kind = |flag| one(item(EntryType::new(flag), "a"));
    let with = |key, value: &str| one(file("a", "x").pax(key, value));
    named(
        "member",
        [
            ("of an unknown type", kind(b'Q')),
            ("of several volumes", kind(b'M')),
            ("an attribute without a name", with("SCHILY.xattr.", "x")),
            ("an attribute of no kind", with("SCHILY.xattr.none", "x")),
            (
                "capabilities that are none",
                with("SCHILY.xattr.security.capability", ""),
            ),
            (
                "an attribute of 70 kB",
                with("SCHILY.xattr.user.large", &"x".repeat(70_000)),
            ),
        ],
    )
}

fn ends() -> Vec<(String, Vec<u8>)> {
    let member = || Tar::default().with(file("etc/a", "x".repeat(2000)));
    let two = Tar::of([file("etc/a", ""), file("b", "")]);
    let mut after = Tar::of([file("etc/a", "x")]);
    after.extend(Tar::of([file("etc/b", "smuggled")]));
    let mut cut = gzip(&one(file("etc/a", "x")));
    cut.truncate(cut.len() - 6);
    let mut cut_zstd = zstd(&one(file("etc/a", "x")));
    cut_zstd.truncate(cut_zstd.len() - 2);
    let mut wrong = gzip(&one(file("etc/a", "x")));
    let checksum = wrong.len() - 8;
    wrong[checksum] ^= 1;
    named(
        "end",
        [
            ("in a member", member().without_end()[..1024].to_vec()),
            ("in a header", two[..900].to_vec()),
            (
                "without a mark",
                Tar::default().with(file("etc/a", "x")).without_end(),
            ),
            ("at once", Tar::default().end()),
            ("a second archive behind the mark", after),
            ("in gzip", cut),
            ("in zstd", cut_zstd),
            ("a wrong checksum of gzip", wrong),
            ("gzip in gzip", gzip(&gzip(&one(file("etc/a", "x"))))),
        ],
    )
}

fn holes(outside: &Path) -> Vec<(String, Vec<u8>)> {
    let sparse = |map: &str, size: &str| {
        file("s", "12345678")
            .pax("GNU.sparse.size", size)
            .pax("GNU.sparse.map", map)
    };
    let in_data = |data: &str| {
        file("s", data)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.realsize", "10")
            .pax("GNU.sparse.name", "s")
    };
    let version = file("s", "x")
        .pax("GNU.sparse.major", "2")
        .pax("GNU.sparse.minor", "0");
    let unasked = |change: fn(&mut GnuHeader)| {
        let mut item = file("a", "x");
        change(item.header.as_gnu_mut().expect("GNU"));
        item
    };
    rootfs(
        "holes",
        outside,
        [
            (
                "a size in the header of a file without",
                vec![unasked(|gnu| gnu.realsize = *b"00000000100\0")],
            ),
            (
                "a map in the header of a file without",
                vec![unasked(|gnu| gnu.sparse[0].offset = *b"00000000100\0")],
            ),
            ("that overlap", vec![sparse("0,4,2,4", "100")]),
            ("beyond the end", vec![sparse("99,8", "100")]),
            ("with more than is stored", vec![sparse("0,9", "100")]),
            ("with less than is stored", vec![sparse("0,7", "100")]),
            ("an odd map", vec![sparse("0,4,5", "100")]),
            ("an overflow", vec![sparse("18446744073709551615,8", "100")]),
            (
                "larger than a file",
                vec![sparse("0,8", "9223372036854775807")],
            ),
            ("of an unknown version", vec![version]),
            ("a map that does not end", vec![in_data("5\n0\n1\n")]),
            (
                "a name in the map that leads out",
                vec![sparse("0,8", "8").pax("GNU.sparse.name", "../x")],
            ),
        ],
    )
}
