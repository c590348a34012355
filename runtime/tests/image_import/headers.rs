//! Archives that can be read in two ways, or in none: headers, records, sparse maps, ends.

use tar::EntryType;

use crate::pack::{Item, Tar, dir, file, item};
use crate::place::Place;
use crate::verdict::Outcome::Refused;
use crate::verdict::{refuse, rootfs};

/// A rootfs with one member.
fn one(item: Item) -> Vec<u8> {
    Tar::of([item])
}

fn header(kind: EntryType, key: &str, value: &str) -> Tar {
    Tar::default().records(kind, &[(key.into(), value.into())])
}

#[test]
fn sizes_that_are_not_one_size() {
    let smuggled = one(file("evil", "x"));
    refuse(
        "smaller",
        &one(file("a", &smuggled).pax("size", "0")),
        "two sizes",
    );
    let larger = file("a", "x").size(0).pax("size", "1536");
    refuse("larger", &one(larger), "two sizes");
    refuse(
        "negative",
        &one(file("a", "x").pax("size", "-1")),
        "no number",
    );
    let huge = file("a", "x").size(u64::MAX / 2 - 1);
    refuse("huge", &one(huge), "larger than any file");
    refuse("of a directory", &one(dir("etc").size(512)), "has data");
    let all = header(EntryType::XGlobalHeader, "size", "0").with(file("a", "x"));
    refuse("for all", &all.end(), "global");
}

#[test]
fn headers_that_are_not_one_header() {
    let mut first = one(file("etc/a", "x"));
    first[0] ^= 1;
    refuse("first checksum", &first, "no tar archive");
    let mut second = Tar::default().with(dir("etc")).without_end();
    second.extend_from_slice(&[b'x'; 512]);
    refuse("second checksum", &second, "checksum");
    let x = EntryType::XHeader;
    let twice = header(x, "path", "a").records(x, &[("path".into(), b"b".to_vec())]);
    refuse("two", &twice.with(dir("d")).end(), "two extended headers");
    refuse("of nothing", &header(x, "path", "a").end(), "no member");
    let malformed = Tar::default().raw(&mut item(x, "x").size(4).header, b"99 a");
    refuse("malformed", &malformed.end(), "malformed");
    let all = header(EntryType::XGlobalHeader, "path", "b").with(file("a", "x"));
    refuse("name for all", &all.end(), "global");
    let two_names = file("a".repeat(101), "x").pax("path", "b");
    refuse("two names", &one(two_names), "two names");
    let mut long = item(EntryType::GNULongName, "././@LongLink").size(9 << 20);
    let long = Tar::default().raw(&mut long.header, b"x");
    refuse("long name", &long.end(), "8 MiB");
}

#[test]
fn global_headers_that_grow_without_end() {
    let global = |tar: Tar| {
        let record = [("comment".to_owned(), vec![b'x'; 30_000])];
        tar.records(EntryType::XGlobalHeader, &record)
    };
    let tar = (0..3).fold(Tar::default(), |tar, _| global(tar));
    refuse(
        "global headers",
        &tar.with(file("etc/a", "x")).end(),
        "global headers are larger than 64 KiB",
    );
    let fits = global(Tar::default()).with(file("etc/a", "x")).end();
    assert_eq!(Place::new().unpacked(&fits).len(), 3);
}

#[test]
fn members_that_mean_nothing() {
    let kind = |flag| one(item(EntryType::new(flag), "a"));
    refuse("unknown type", &kind(b'Q'), "unknown type 'Q'");
    refuse("multi-volume", &kind(b'M'), "unknown type 'M'");
    let with = |key, value| one(file("a", "x").pax(key, value));
    refuse(
        "huge owner",
        &with("uid", "4294967296"),
        "owner is no number",
    );
    refuse("time", &with("mtime", "now"), "time is no number");
    refuse(
        "attribute without a name",
        &with("SCHILY.xattr.", "x"),
        "set attribute",
    );
    refuse(
        "attribute of no kind",
        &with("SCHILY.xattr.none", "x"),
        "set attribute none",
    );
}

#[test]
fn archives_that_end_too_early() {
    let member = Tar::default().with(file("etc/a", "x".repeat(2000)));
    refuse("in a member", &member.without_end()[..1024], "middle");
    let two = Tar::of([file("etc/a", ""), file("b", "")]);
    refuse("in a header", &two[..900], "middle");
    let unmarked = Tar::default().with(file("etc/a", "x"));
    refuse("between members", &unmarked.without_end(), "no end mark");
    refuse("at once", &Tar::default().end(), "no members");
}

#[test]
fn files_with_impossible_holes() {
    let sparse = |map: &str, size: &str| {
        file("s", "12345678")
            .pax("GNU.sparse.size", size)
            .pax("GNU.sparse.map", map)
    };
    let version = file("s", "x")
        .pax("GNU.sparse.major", "2")
        .pax("GNU.sparse.minor", "0");
    let in_data = |data: &str| {
        let item = file("s", data)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0");
        item.pax("GNU.sparse.realsize", "10")
            .pax("GNU.sparse.name", "s")
    };
    rootfs(vec![
        (
            "overlap",
            vec![sparse("0,4,2,4", "100")],
            Refused("overlap"),
        ),
        (
            "beyond the end",
            vec![sparse("99,8", "100")],
            Refused("beyond its end"),
        ),
        (
            "more than is stored",
            vec![sparse("0,9", "100")],
            Refused("add up"),
        ),
        (
            "less than is stored",
            vec![sparse("0,7", "100")],
            Refused("add up"),
        ),
        (
            "odd map",
            vec![sparse("0,4,5", "100")],
            Refused("malformed"),
        ),
        (
            "overflow",
            vec![sparse("18446744073709551615,8", "100")],
            Refused("malformed"),
        ),
        (
            "larger than a file",
            vec![sparse("0,8", "9223372036854775807")],
            Refused("EFBIG"),
        ),
        ("unknown version", vec![version], Refused("unknown format")),
        (
            "map that does not end",
            vec![in_data("5\n0\n1\n")],
            Refused("less data"),
        ),
        (
            "name in the map",
            vec![sparse("0,8", "8").pax("GNU.sparse.name", "../x")],
            Refused("\"..\""),
        ),
    ]);
}
