//! What a layer does to the ones below it: whiteouts through links, marks that name nothing, links across layers.

use std::path::Path;

use tar::EntryType;

use crate::pack::{Item, Tar, dir, file, hardlink, item, oci, symlink};

pub(super) fn archives(outside: &Path) -> Vec<(String, Vec<u8>)> {
    let link = || vec![symlink("etc", "@"), dir("d")];
    let table: Vec<(&str, Vec<Vec<Item>>)> = vec![
        (
            "through a link",
            vec![link(), vec![file("etc/.wh.victim", "")]],
        ),
        (
            "opaque through a link",
            vec![link(), vec![file("etc/.wh..wh..opq", "")]],
        ),
        ("of a link", vec![link(), vec![file(".wh.etc", "")]]),
        (
            "deep through a link",
            vec![link(), vec![file("etc/sub/.wh.inner", "")]],
        ),
        ("of nothing", vec![link(), vec![file("d/.wh.", "")]]),
        ("of .", vec![link(), vec![file("d/.wh..", "")]]),
        ("of ..", vec![link(), vec![file("d/.wh...", "")]]),
        ("as a directory", vec![link(), vec![file("d/.wh.a/b", "")]]),
        (
            "that is a link",
            vec![link(), vec![symlink("d/.wh.x", "@")]],
        ),
        (
            "that is a device",
            vec![link(), vec![item(EntryType::Char, "d/.wh.x").device(0, 0)]],
        ),
        ("below ..", vec![link(), vec![file("../.wh.outside", "")]]),
        ("of the root", vec![link(), vec![file(".wh..wh..opq", "")]]),
        (
            "of aufs",
            vec![
                link(),
                vec![file(".wh..wh.plnk/1.2", ""), file(".wh..wh.aufs", "")],
            ],
        ),
        (
            "a link that a layer replaces by a directory",
            vec![
                vec![symlink("app", "@"), file("b", "x")],
                vec![dir("app"), file("app/victim", "mine")],
            ],
        ),
        (
            "a link that a layer replaces by a file, and enters",
            vec![
                vec![symlink("l", "@")],
                vec![file("l", "x"), file("l/victim", "x")],
            ],
        ),
        (
            "a file through a lower layer's link",
            vec![link(), vec![file("etc/victim", "x")]],
        ),
        (
            "a directory over a lower layer's link",
            vec![link(), vec![dir("etc").mode(0o777)]],
        ),
        (
            "a hard link to a file behind a lower layer's link",
            vec![link(), vec![hardlink("h", "etc/victim")]],
        ),
        (
            "a hard link to what a layer has deleted",
            vec![
                vec![file("a", "x")],
                vec![file(".wh.a", ""), hardlink("h", "a")],
            ],
        ),
        (
            "deleted, and entered by its old name",
            vec![
                vec![dir("d"), file("d/a", "x")],
                vec![file(".wh.d", ""), symlink("d", "@"), file("d/victim", "x")],
            ],
        ),
        (
            "opaque after its siblings",
            vec![
                vec![dir("d"), file("d/old", "x")],
                vec![dir("d"), file("d/new", "x"), file("d/.wh..wh..opq", "")],
            ],
        ),
        (
            "opaque before its siblings",
            vec![
                vec![dir("d"), file("d/old", "x")],
                vec![dir("d"), file("d/.wh..wh..opq", ""), file("d/new", "x")],
            ],
        ),
        (
            "a whiteout with data and a name that comes again",
            vec![
                vec![file("a", "old"), file("b", "old")],
                vec![
                    file(".wh.a", "data"),
                    file("a", "new"),
                    file("b", "new"),
                    file(".wh.b", ""),
                ],
            ],
        ),
        (
            "a directory over a link that was gone through",
            vec![
                vec![dir("elsewhere"), symlink("d", "elsewhere")],
                vec![
                    file("d/through", ""),
                    dir("d"),
                    file("d/here", ""),
                    hardlink("other", "d/here"),
                ],
            ],
        ),
        (
            "a whiteout of a link that was gone through",
            vec![
                vec![dir("elsewhere"), symlink("d", "elsewhere")],
                vec![file("d/through", ""), file(".wh.d", ""), file("d/here", "")],
            ],
        ),
        (
            "a whiteout through a circle of links in the lowest layer",
            vec![vec![symlink("l", "l/.wh.a"), file("l/.wh.a", "")]],
        ),
        (
            "the name of a whiteout in the lowest layer",
            vec![vec![
                file("a", "x"),
                file(".wh.a", ""),
                dir("d"),
                file("d/.wh..wh..opq", ""),
            ]],
        ),
        (
            "a device that is a whiteout in the upper layer",
            vec![
                vec![file("a", "x")],
                vec![item(EntryType::Char, "a").device(0, 0)],
            ],
        ),
        (
            "a directory that redirects in the upper layer",
            vec![
                vec![dir("d"), file("d/a", "x")],
                vec![dir("d").pax("SCHILY.xattr.trusted.overlay.redirect", "/../outside")],
            ],
        ),
    ];
    table
        .into_iter()
        .map(|(name, layers)| {
            let layers: Vec<Vec<u8>> = layers
                .into_iter()
                .map(|items| Tar::of(items.into_iter().map(|item| item.with_links_to(outside))))
                .collect();
            (format!("layer: {name}"), oci(&layers).into_tar())
        })
        .collect()
}
