//! Archives made to write, link, remove or change something outside their root.
//!
//! Each either fails and leaves nothing, or is unpacked with all of its effects inside; the tree beside it is the same
//! afterwards, down to its change times.

use std::path::Path;

use tar::EntryType;

use crate::pack::{Item, Tar, dir, file, hardlink, item, oci, symlink};
use crate::place::{Place, is_root};
use crate::verdict::Outcome::{Inside, Refused};
use crate::verdict::{check, rootfs};

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
