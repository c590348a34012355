//! Archives made to write, link, remove or change something outside their root, or to be read in two ways.
//!
//! Each either fails and leaves nothing, or is unpacked with all of its effects inside; the tree beside it is the same
//! afterwards, down to its change times.

use std::path::Path;

use serde_json::json;
use tar::EntryType;

use crate::pack::{
    Files, Item, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Tar, dir, docker, file, gzip, hardlink, item,
    layout, oci, sha256, symlink, zstd,
};
use crate::place::{Place, is_root, list};

/// What must happen.
enum Outcome {
    /// One error that has this in it, a hint, and no trace.
    Refused(&'static str),
    /// A root filesystem that has these lines among others (beginnings of them, without owners).
    Inside(&'static [&'static str]),
}
use Outcome::{Inside, Refused};

fn check(name: &str, place: &Place, data: &[u8], outcome: &Outcome) {
    let before = place.outside();
    let result = place.import(data);
    assert_eq!(
        place.outside(),
        before,
        "{name}: something outside was changed"
    );
    match outcome {
        Refused(why) => {
            let error = result
                .map(|_| list(&place.images()))
                .expect_err(name)
                .to_string();
            assert!(error.contains(why), "{name}: {error}");
            assert!(error.contains("\n  hint: "), "{name}: {error}");
            assert!(error.lines().count() == 2, "{name}: {error}");
            assert!(!place.base().exists(), "{name}: left {:?}", place.names());
        }
        Inside(lines) => {
            let found = list(
                &result
                    .unwrap_or_else(|error| panic!("{name}: {error}"))
                    .root,
            );
            for line in *lines {
                assert!(
                    found.iter().any(|one| one.starts_with(line)),
                    "{name}: no {line} in {found:#?}"
                );
            }
        }
    }
}

/// Runs a table of root filesystem tars. `@` in a link's target stands for the sentinel tree.
fn rootfs(table: Vec<(&str, Vec<Item>, Outcome)>) {
    for (name, items, outcome) in table {
        let place = Place::new();
        let sentinel = place.sentinel();
        let items = items.into_iter().map(|item| item.with_links_to(&sentinel));
        check(name, &place, &Tar::of(items), &outcome);
    }
}

#[test]
fn names_that_lead_out() {
    rootfs(vec![
        ("..", vec![dir("..").mode(0o777)], Refused("\"..\"")),
        ("../", vec![file("../victim", "x")], Refused("\"..\"")),
        (
            "a/../../",
            vec![file("a/../../sentinel/victim", "x")],
            Refused("\"..\""),
        ),
        (
            "inner ..",
            vec![dir("a"), file("a/../b", "x")],
            Refused("\"..\""),
        ),
        (
            "pax ..",
            vec![file("a", "x").pax("path", "../sentinel/victim")],
            Refused("\"..\""),
        ),
        (
            "absolute",
            vec![file("/etc/passwd", "x"), file("@/victim", "x")],
            Inside(&["/etc/passwd file 0644"]),
        ),
        ("no name", vec![file("", "x")], Refused("empty")),
        (
            "NUL in a name",
            vec![file("a", "x").pax("path", b"a\0/../../victim")],
            Refused("NUL"),
        ),
        (
            "long component",
            vec![file("n".repeat(256), "x")],
            Refused("ENAMETOOLONG"),
        ),
        (
            "long path",
            vec![file("n/".repeat(2100) + "x", "x")],
            Refused("ENAMETOOLONG"),
        ),
        ("root is a file", vec![file("./", "x")], Refused("has data")),
        (
            "root is a link",
            vec![symlink(".", "@")],
            Refused("the root of an image is a directory"),
        ),
        (
            "root is hard linked",
            vec![hardlink("r", ".")],
            Refused("leads to the root"),
        ),
    ]);
}

#[test]
fn links_that_lead_out() {
    rootfs(vec![
        (
            "file through link",
            vec![symlink("l", "@"), file("l/victim", "x")],
            Inside(&["/l link"]),
        ),
        (
            "file through relative link",
            vec![symlink("l", "../../../sentinel"), file("l/victim", "x")],
            {
                Inside(&[
                    "/l link",
                    "/sentinel dir 0755",
                    "/sentinel/victim file 0644",
                ])
            },
        ),
        (
            "file over link",
            vec![symlink("l", "@/victim"), file("l", "x")],
            Inside(&["/l file 0644"]),
        ),
        (
            "directory over link",
            vec![symlink("l", "@"), dir("l").mode(0o777)],
            Inside(&["/l dir 0777"]),
        ),
        (
            "directory through link",
            vec![symlink("l", "@"), dir("l/sub").mode(0o777)],
            Inside(&["/l link"]),
        ),
        (
            "fifo over link",
            vec![symlink("l", "@/victim"), item(EntryType::Fifo, "l")],
            Inside(&["/l fifo"]),
        ),
        (
            "link of link",
            vec![symlink("a", "b"), symlink("b", "@"), file("a/victim", "x")],
            Inside(&["/a link"]),
        ),
        (
            "link over link",
            vec![symlink("l", "@"), symlink("l", "@/victim")],
            Inside(&["/l link"]),
        ),
        (
            "circle",
            vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "x")],
            Refused("ELOOP"),
        ),
        (
            "below a file",
            vec![file("a", "x"), file("a/b", "x")],
            Refused("ENOTDIR"),
        ),
        (
            "below a link to a file",
            vec![file("a", "x"), symlink("l", "a"), file("l/b", "x")],
            Refused("ENOTDIR"),
        ),
        (
            "proc",
            vec![symlink("p", "/proc/self/root"), file("p/tmp/x", "x")],
            Inside(&["/proc/self/root/tmp/x file"]),
        ),
        (
            "magic",
            vec![symlink("p", "/proc/self/cwd"), dir("p")],
            Inside(&["/p dir 0755"]),
        ),
        ("empty target", vec![symlink("l", "")], Refused("ENOENT")),
    ]);
}

#[test]
fn hard_links_that_lead_out() {
    rootfs(vec![
        (
            "absolute",
            vec![hardlink("h", "@/victim")],
            Refused("not there"),
        ),
        (
            "relative",
            vec![hardlink("h", "../sentinel/victim")],
            Refused("\"..\""),
        ),
        (
            "through link",
            vec![symlink("l", "@"), hardlink("h", "l/victim")],
            Refused("not there"),
        ),
        (
            "to a link, then written",
            vec![symlink("l", "@/victim"), hardlink("h", "l"), file("h", "x")],
            { Inside(&["/h file 0644", "/l link"]) },
        ),
        (
            "to a link, then entered",
            vec![symlink("l", "@"), hardlink("h", "l"), file("h/victim", "x")],
            { Inside(&["/h link", "/l link"]) },
        ),
        (
            "over a link",
            vec![file("a", "x"), symlink("l", "@/victim"), hardlink("l", "a")],
            Inside(&["/l file 0644"]),
        ),
        (
            "to a directory",
            vec![dir("d"), hardlink("h", "d")],
            Refused("to a directory"),
        ),
        (
            "to nothing",
            vec![hardlink("h", "nothing")],
            Refused("not there"),
        ),
        (
            "to an empty name",
            vec![hardlink("h", "")],
            Refused("empty"),
        ),
        (
            "into what it replaces",
            vec![file("d/x", "x"), hardlink("d", "d/x")],
            Refused("ENOENT"),
        ),
        (
            "with data",
            vec![file("a", "x"), hardlink("h", "a").size(5)],
            Refused("has data"),
        ),
    ]);
}

#[test]
fn devices_are_replaced_not_written_to() {
    if !is_root("devices_are_replaced_not_written_to") {
        return;
    }
    let null = || item(EntryType::Char, "null").device(1, 3);
    rootfs(vec![
        (
            "file over device",
            vec![null(), file("null", "x")],
            Inside(&["/null file 0644"]),
        ),
        (
            "device over link",
            vec![symlink("null", "@/victim"), null().mode(0o666)],
            Inside(&["/null char 0666"]),
        ),
        (
            "owner that is none",
            vec![file("a", "x").pax("uid", "4294967295")],
            Refused("set owner 4294967295:0"),
        ),
        (
            "group that is none",
            vec![symlink("a", "x").pax("gid", "4294967295")],
            Refused("set owner 0:4294967295"),
        ),
    ]);
}

#[test]
fn headers_that_can_be_read_in_two_ways() {
    let mut checksum = Tar::of([file("etc/a", "x")]);
    checksum[0] ^= 1;
    let smuggled = Tar::of([file("evil", "x")]);
    let two = |kind, records: &[(&str, &str)]| {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect();
        Tar::default().records(kind, &records)
    };
    let x = EntryType::XHeader;
    let g = EntryType::XGlobalHeader;
    let mut long = item(EntryType::GNULongName, "././@LongLink").header;
    long.set_size(9 << 20);
    let plain = |item: Item| Tar::of([item]);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("checksum", checksum, "no tar archive"),
        (
            "second checksum",
            [
                Tar::default().add(dir("etc")).without_end(),
                vec![b'x'; 512],
            ]
            .concat(),
            "checksum",
        ),
        (
            "smaller in pax",
            plain(file("a", &smuggled).pax("size", "0")),
            "two sizes",
        ),
        (
            "larger in pax",
            plain(file("a", "x").size(0).pax("size", "1536")),
            "two sizes",
        ),
        (
            "negative size",
            plain(file("a", "x").pax("size", "-1")),
            "no number",
        ),
        (
            "huge size",
            plain(file("a", "x").size(u64::MAX / 2 - 1)),
            "larger than any file",
        ),
        (
            "directory with data",
            plain(dir("etc").size(512)),
            "has data",
        ),
        (
            "two headers",
            two(x, &[("path", "a")])
                .records(x, &[("path".into(), b"b".to_vec())])
                .add(dir("d"))
                .end(),
            "two",
        ),
        (
            "header of nothing",
            two(x, &[("path", "a")]).end(),
            "no member",
        ),
        (
            "malformed record",
            two(x, &[])
                .raw(&mut item(x, "x").size(4).header, b"99 a")
                .end(),
            "malformed",
        ),
        (
            "size for all",
            two(g, &[("size", "0")]).add(file("a", "x")).end(),
            "global",
        ),
        (
            "name for all",
            two(g, &[("path", "b")]).add(file("a", "x")).end(),
            "global",
        ),
        (
            "two names",
            Tar::of([file("a".repeat(101), "x").pax("path", "b")]),
            "two names",
        ),
        (
            "unknown type",
            plain(item(EntryType::new(b'Q'), "a")),
            "unknown type 'Q'",
        ),
        (
            "multi-volume",
            plain(item(EntryType::new(b'M'), "a")),
            "unknown type 'M'",
        ),
        (
            "huge long name",
            Tar::default().raw(&mut long, b"x").end(),
            "8 MiB",
        ),
        (
            "huge owner",
            plain(file("a", "x").pax("uid", "4294967296")),
            "owner is no number",
        ),
        (
            "time",
            plain(file("a", "x").pax("mtime", "now")),
            "time is no number",
        ),
        (
            "attribute without a name",
            plain(file("a", "x").pax("SCHILY.xattr.", "x")),
            "set attribute",
        ),
        (
            "attribute of no kind",
            plain(file("a", "x").pax("SCHILY.xattr.nothing", "x")),
            "set attribute nothing",
        ),
        (
            "cut in a member",
            Tar::default()
                .add(file("etc/a", "x".repeat(2000)))
                .without_end()[..1024]
                .to_vec(),
            "middle",
        ),
        (
            "cut in a header",
            Tar::of([file("etc/a", ""), file("b", "")])[..900].to_vec(),
            "middle",
        ),
        (
            "cut between members",
            Tar::default().add(file("etc/a", "x")).without_end(),
            "no end mark",
        ),
        ("no members", Tar::default().end(), "no members"),
    ];
    for (name, data, why) in table {
        check(
            name,
            &Place::new(),
            &data,
            &Refused(Box::leak(why.to_owned().into_boxed_str())),
        );
    }
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

#[test]
fn whiteouts_that_lead_out() {
    let layers = |sentinel: &Path, lower: Vec<Item>, upper: Vec<Item>| {
        let layer =
            |items: Vec<Item>| Tar::of(items.into_iter().map(|item| item.with_links_to(sentinel)));
        oci(&[layer(lower), layer(upper)]).into_tar()
    };
    let link = || vec![symlink("etc", "@"), dir("d")];
    let table = [
        (
            "through link",
            link(),
            vec![file("etc/.wh.victim", "")],
            Inside(&["/etc link"]),
        ),
        (
            "opaque through link",
            link(),
            vec![file("etc/.wh..wh..opq", "")],
            Inside(&["/etc link"]),
        ),
        (
            "of the link",
            link(),
            vec![file(".wh.etc", "")],
            Inside(&["/d dir"]),
        ),
        (
            "deep through link",
            link(),
            vec![file("etc/sub/.wh.inner", "")],
            Inside(&["/etc link"]),
        ),
        (
            ".wh.",
            link(),
            vec![file("d/.wh.", "")],
            Refused("names nothing"),
        ),
        (
            ".wh..",
            link(),
            vec![file("d/.wh..", "")],
            Refused("names nothing"),
        ),
        (
            ".wh...",
            link(),
            vec![file("d/.wh...", "")],
            Refused("names nothing"),
        ),
        (
            ".wh.a/b",
            link(),
            vec![file("d/.wh.a/b", "")],
            Refused("as a directory"),
        ),
        (
            "a link",
            link(),
            vec![symlink("d/.wh.x", "@")],
            Refused("no file"),
        ),
        (
            "..",
            link(),
            vec![file("../.wh.sentinel", "")],
            Refused("\"..\""),
        ),
    ];
    for (name, lower, upper, outcome) in table {
        let place = Place::new();
        let data = layers(&place.sentinel(), lower, upper);
        check(name, &place, &data, &outcome);
    }
}

#[test]
fn image_archives_that_are_not_what_they_say() {
    let layer = Tar::of([file("etc/a", "x")]);
    let good = || oci(std::slice::from_ref(&layer));
    let blob = |data: &[u8]| format!("blobs/sha256/{}", sha256(data));
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = good();
        change(files.get_mut(name));
        files.into_tar()
    };
    let without = |name: &str| {
        Files(
            good()
                .0
                .into_iter()
                .filter(|(key, _)| key != name)
                .collect(),
        )
        .into_tar()
    };
    let config = crate::pack::config(std::slice::from_ref(&layer));
    let with = |config: &serde_json::Value, manifest: &dyn Fn(&mut serde_json::Value)| {
        let mut files = Files::default();
        let layers = vec![files.blob(OCI_LAYER, &layer)];
        let config = files.blob(OCI_CONFIG, config.to_string().as_bytes());
        let mut document = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        manifest(&mut document);
        let descriptor = files.blob(OCI_MANIFEST, document.to_string().as_bytes());
        layout(&mut files, &[descriptor]);
        files.into_tar()
    };
    let set = |path: &'static str, value: serde_json::Value| {
        move |document: &mut serde_json::Value| *document.pointer_mut(path).unwrap() = value.clone()
    };
    let mut other_layer = config.clone();
    other_layer["rootfs"]["diff_ids"] = json!([format!("sha256:{}", sha256(b"other"))]);
    let mut too_many = config.clone();
    too_many["rootfs"]["diff_ids"] = json!([]);
    let mut forging = config.clone();
    forging["config"]["Env"] = json!(["A=1\nLD_PRELOAD=/evil.so"]);
    let mut elsewhere = config.clone();
    elsewhere["architecture"] = json!("pdp11");
    let traversal = json!("sha256:../../../../../../../../../etc/passwd");
    let table: Vec<(&str, Vec<u8>, &'static str)> = vec![
        (
            "layer changed",
            changed(&blob(&layer), &|data| data[600] ^= 1),
            "should have the digest",
        ),
        (
            "layer cut",
            changed(&blob(&layer), &|data| data.truncate(1024)),
            "bytes and has 1024",
        ),
        (
            "config changed",
            changed(&blob(config.to_string().as_bytes()), &|data| data[9] ^= 1),
            "verify blob",
        ),
        (
            "layer missing",
            without(&blob(&layer)),
            "not in the archive",
        ),
        (
            "config missing",
            without(&blob(config.to_string().as_bytes())),
            "not in the archive",
        ),
        (
            "index malformed",
            changed("index.json", &|data| data.truncate(9)),
            "index.json",
        ),
        (
            "layout of another version",
            changed("oci-layout", &|data| data[23] = b'2'),
            "unknown version 2",
        ),
        (
            "another diff id",
            with(&other_layer, &|_| ()),
            "verify content of layer",
        ),
        (
            "too few diff ids",
            with(&too_many, &|_| ()),
            "1 layers, its configuration names 0",
        ),
        ("forged variable", with(&forging, &|_| ()), "newline"),
        ("another machine", with(&elsewhere, &|_| ()), "linux/pdp11"),
        (
            "layer type",
            with(
                &config,
                &set("/layers/0/mediaType", json!("application/x-rpm")),
            ),
            "application/x-rpm",
        ),
        (
            "config type",
            with(
                &config,
                &set("/config/mediaType", json!("application/x-helm")),
            ),
            "application/x-helm",
        ),
        (
            "traversal by digest",
            with(&config, &set("/layers/0/digest", traversal)),
            "Invalid encoded value",
        ),
        (
            "digest of another kind",
            with(
                &config,
                &set(
                    "/layers/0/digest",
                    json!(format!("sha512:{}", "0".repeat(128))),
                ),
            ),
            "sha256",
        ),
        (
            "wrong size",
            with(&config, &set("/layers/0/size", json!(7))),
            "should have 7 bytes",
        ),
        (
            "layer is xz",
            with_layer(b"\xfd7zXZ\0\0\0"),
            "compressed with xz",
        ),
        ("layer is no tar", with_layer(&[b'x'; 600]), "checksum"),
        (
            "no image",
            {
                let mut files = Files::default();
                layout(&mut files, &[]);
                files.into_tar()
            },
            "has no image",
        ),
    ];
    for (name, data, why) in table {
        check(name, &Place::new(), &data, &Refused(why));
    }
}

/// An image with one layer that is these bytes.
fn with_layer(layer: &[u8]) -> Vec<u8> {
    oci(&[layer.to_vec()]).into_tar()
}

#[test]
fn docker_archives_that_lead_out() {
    let layer = Tar::of([file("etc/a", "x")]);
    let name = format!("{:064x}/layer.tar", 0);
    let base = docker(&[layer.clone()], &["a:1"]);
    let relinked = |target: &str| {
        let items = base.0.iter().map(|(key, data)| {
            if *key == name {
                symlink(key, target)
            } else {
                file(key, data)
            }
        });
        Tar::of(items)
    };
    let mut config_changed = base.clone();
    let config_name = config_changed.0[1].0.clone();
    config_changed.get_mut(&config_name).push(b' ');
    let mut layer_changed = base.clone();
    layer_changed.get_mut(&name)[600] ^= 1;
    let mut manifest = base.clone();
    *manifest.get_mut("manifest.json") =
        json!([{"Config": config_name, "Layers": ["/etc/passwd"]}])
            .to_string()
            .into();
    let table: Vec<(&str, Vec<u8>, &'static str)> = vec![
        (
            "layer links out",
            relinked("../../../../../../../../../../etc/passwd"),
            "not in the archive",
        ),
        (
            "layer links absolutely",
            relinked("/etc/passwd"),
            "not in the archive",
        ),
        ("layer links to itself", relinked("layer.tar"), "ELOOP"),
        ("layer is a path", manifest.into_tar(), "not in the archive"),
        (
            "configuration changed",
            config_changed.into_tar(),
            "verify image configuration",
        ),
        (
            "layer changed",
            layer_changed.into_tar(),
            "verify content of layer",
        ),
    ];
    for (name, data, why) in table {
        check(name, &Place::new(), &data, &Refused(why));
    }
}

#[test]
fn compressed_streams_that_are_damaged() {
    let noise: Vec<u8> = (0..40_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    let data = Tar::of([file("etc/a", noise)]);
    for (name, packed) in [("gzip", gzip(&data)), ("zstd", zstd(&data))] {
        let cut = packed[..packed.len() * 2 / 3].to_vec();
        check(
            &format!("{name} cut"),
            &Place::new(),
            &cut,
            &Refused("read archive"),
        );
        let mut flipped = packed.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        check(
            &format!("{name} damaged"),
            &Place::new(),
            &flipped,
            &Refused("read archive"),
        );
        // The checksum is at the end, behind the last byte that tar reads.
        let mut checksum = packed.clone();
        let position = checksum.len() - 6;
        checksum[position] ^= 1;
        if name == "gzip" {
            check(
                "gzip checksum",
                &Place::new(),
                &checksum,
                &Refused("read archive"),
            );
        }
        check(
            &format!("{name} start only"),
            &Place::new(),
            &packed[..20],
            &Refused("hint"),
        );
    }
}
