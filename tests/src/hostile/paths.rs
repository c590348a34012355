//! Names and links that lead out of the root.

use std::path::Path;

use tar::EntryType;

use super::rootfs;
use crate::pack::{dir, file, hardlink, item, symlink};

pub(super) fn archives(outside: &Path) -> Vec<(String, Vec<u8>)> {
    [
        names(outside),
        links(outside),
        hard_links(outside),
        devices(outside),
        metadata(outside),
    ]
    .concat()
}

fn names(outside: &Path) -> Vec<(String, Vec<u8>)> {
    rootfs(
        "name",
        outside,
        [
            ("..", vec![dir("..").mode(0o777)]),
            ("below ..", vec![file("../victim", "x")]),
            (
                "out and in again",
                vec![file("a/../../outside/victim", "x")],
            ),
            (".. that stays inside", vec![dir("a"), file("a/../b", "x")]),
            (
                ".. in a record",
                vec![file("a", "x").pax("path", "../outside/victim")],
            ),
            (
                ".. in a long name",
                vec![file("a/".repeat(60) + "../../b", "x")],
            ),
            (
                "absolute",
                vec![file("/etc/passwd", "x"), file("@/victim", "x")],
            ),
            ("empty", vec![file("", "x")]),
            (
                "a NUL byte",
                vec![file("a", "x").pax("path", b"a\0/../../victim")],
            ),
            ("a component of 256 bytes", vec![file("n".repeat(256), "x")]),
            ("4,201 bytes", vec![file("n/".repeat(2100) + "x", "x")]),
            ("the root as a file", vec![file("./", "x")]),
            ("the root as a link", vec![symlink(".", "@")]),
            (
                "the root as a device",
                vec![item(EntryType::Char, ".").device(1, 3)],
            ),
            ("a hard link to the root", vec![hardlink("r", ".")]),
            (
                "a hard link instead of the root",
                vec![file("a", "x"), hardlink(".", "a")],
            ),
            (
                "the root without rights",
                vec![dir("./").mode(0), file("a", "x")],
            ),
            (
                "a backslash and a drive",
                vec![file("..\\x", "x"), file("C:\\x", "x")],
            ),
        ],
    )
}

fn links(outside: &Path) -> Vec<(String, Vec<u8>)> {
    rootfs(
        "link",
        outside,
        [
            (
                "a file through it",
                vec![symlink("l", "@"), file("l/victim", "x")],
            ),
            (
                "a file through a relative one",
                vec![symlink("l", "../../../outside"), file("l/victim", "x")],
            ),
            (
                "a file over it",
                vec![symlink("l", "@/victim"), file("l", "x")],
            ),
            (
                "a directory over it, which changes modes",
                vec![symlink("l", "@"), dir("l").mode(0o777)],
            ),
            (
                "a directory with a slash over it",
                vec![symlink("l", "@"), dir("l/").mode(0o777)],
            ),
            (
                "a directory through it",
                vec![symlink("l", "@"), dir("l/sub").mode(0o777)],
            ),
            (
                "a fifo over it",
                vec![symlink("l", "@/victim"), item(EntryType::Fifo, "l")],
            ),
            (
                "a link to a link",
                vec![symlink("a", "b"), symlink("b", "@"), file("a/victim", "x")],
            ),
            (
                "a link over it",
                vec![symlink("l", "@"), symlink("l", "@/victim")],
            ),
            (
                "a link through it",
                vec![symlink("l", "@"), symlink("l/new", "x")],
            ),
            (
                "a circle",
                vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "x")],
            ),
            ("to itself", vec![symlink("a", "a"), file("a/x", "x")]),
            ("below a file", vec![file("a", "x"), file("a/b", "x")]),
            (
                "below a link to a file",
                vec![file("a", "x"), symlink("l", "a"), file("l/b", "x")],
            ),
            (
                "through proc",
                vec![symlink("p", "/proc/self/root"), file("p/tmp/x", "x")],
            ),
            (
                "to the working directory",
                vec![symlink("p", "/proc/self/cwd"), dir("p")],
            ),
            (
                "through the working directory",
                vec![symlink("p", "/proc/self/cwd"), file("p/x", "x")],
            ),
            ("empty", vec![symlink("l", "")]),
            ("4,096 bytes long", vec![symlink("l", "t".repeat(4096))]),
            (
                "changed between two members",
                vec![
                    dir("d"),
                    symlink("l", "d"),
                    file("l/in", "x"),
                    symlink("l", "@"),
                    file("l/victim", "x"),
                ],
            ),
            (
                "a directory that becomes one",
                vec![
                    dir("d"),
                    file("d/a", "x"),
                    symlink("d", "@"),
                    file("d/victim", "x"),
                ],
            ),
        ],
    )
}

fn hard_links(outside: &Path) -> Vec<(String, Vec<u8>)> {
    rootfs(
        "hard link",
        outside,
        [
            ("absolute", vec![hardlink("h", "@/victim")]),
            ("relative", vec![hardlink("h", "../outside/victim")]),
            ("by the working directory", vec![hardlink("h", "input.tar")]),
            (
                "through a link",
                vec![symlink("l", "@"), hardlink("h", "l/victim")],
            ),
            (
                "to a link, then written",
                vec![symlink("l", "@/victim"), hardlink("h", "l"), file("h", "x")],
            ),
            (
                "to a link, then entered",
                vec![symlink("l", "@"), hardlink("h", "l"), file("h/victim", "x")],
            ),
            (
                "to a link, then its owner",
                vec![
                    symlink("l", "@/victim"),
                    hardlink("h", "l").mode(0o777).mtime(7),
                ],
            ),
            (
                "over a link",
                vec![file("a", "x"), symlink("l", "@/victim"), hardlink("l", "a")],
            ),
            ("to a directory", vec![dir("d"), hardlink("h", "d")]),
            ("to nothing", vec![hardlink("h", "nothing")]),
            ("to itself", vec![hardlink("h", "h")]),
            ("to an empty name", vec![hardlink("h", "")]),
            (
                "into what it replaces",
                vec![file("d/x", "x"), hardlink("d", "d/x")],
            ),
            (
                "with data",
                vec![file("a", "x"), hardlink("h", "a").size(5)],
            ),
            (
                "twice the same",
                vec![file("a", "x"), hardlink("h", "a"), hardlink("h", "a")],
            ),
        ],
    )
}

fn devices(outside: &Path) -> Vec<(String, Vec<u8>)> {
    let null = || item(EntryType::Char, "null").device(1, 3);
    rootfs(
        "device",
        outside,
        [
            ("then a file", vec![null(), file("null", "x")]),
            (
                "over a link",
                vec![symlink("null", "@/victim"), null().mode(0o666)],
            ),
            (
                "a disk",
                vec![item(EntryType::Block, "disk").device(254, 0).mode(0o666)],
            ),
            (
                "that overlay takes for a whiteout",
                vec![file("a", "x"), item(EntryType::Char, "w").device(0, 0)],
            ),
        ],
    )
}

fn metadata(outside: &Path) -> Vec<(String, Vec<u8>)> {
    let with = |key, value: &str| file("a", "x").pax(key, value);
    rootfs(
        "metadata",
        outside,
        [
            ("an owner that is none", vec![with("uid", "4294967295")]),
            (
                "a group that is none",
                vec![symlink("a", "x").pax("gid", "4294967295")],
            ),
            (
                "an owner that is too large",
                vec![with("uid", "4294967296")],
            ),
            (
                "set-user-ID, then other data",
                vec![file("s", "x").mode(0o4755), file("s", "y").mode(0o644)],
            ),
            (
                "an attribute that makes a directory opaque",
                vec![
                    dir("d").pax("SCHILY.xattr.trusted.overlay.opaque", "y"),
                    file("d/a", "x"),
                ],
            ),
            (
                "an attribute that redirects a directory",
                vec![dir("d").pax("SCHILY.xattr.trusted.overlay.redirect", "/outside")],
            ),
            (
                "the same for a user's overlay",
                vec![
                    dir("d").pax("SCHILY.xattr.user.overlay.redirect", "/outside"),
                    file("w", "").pax("SCHILY.xattr.user.overlay.whiteout", "y"),
                ],
            ),
            (
                "an attribute through a link",
                vec![symlink("l", "@/victim").pax("SCHILY.xattr.user.evil", "x")],
            ),
            ("a time that is none", vec![with("mtime", "now")]),
            (
                "a time at the end of time",
                vec![with("mtime", "9223372036854775807")],
            ),
        ],
    )
}
