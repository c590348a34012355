//! A good image of three layers, to be damaged, or imported where something else goes wrong.

use std::fs;
use std::path::{Path, PathBuf};

use tests::World;
use tests::pack::{Files, Tar, config, dir, file, gzip, image, layout};
use tests::tree::Tree;

use super::ways::{Way, skeleton};

/// Three layers, the second of which replaces and deletes. `size` is that of the largest file.
pub(super) fn layers(size: usize) -> Vec<Vec<u8>> {
    let mut lowest = skeleton();
    lowest.extend((0..200).map(|number| file(format!("file{number}"), number.to_string())));
    let second = [
        dir("d").mtime(2),
        file("d/large", vec![7; size]),
        file("file1", "replaced"),
        file(".wh.file2", ""),
    ];
    let third = (0..200).map(|number| file(format!("d/{number}"), "x".repeat(5000)));
    vec![Tar::of(lowest), Tar::of(second), Tar::of(third)]
}

/// A layout of these layers in gzip.
pub(super) fn packed(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::default();
    let manifest = image(&mut files, layers, &config(layers), gzip);
    layout(&mut files, &[manifest]);
    files
}

/// Writes a layout to a new directory below `top`.
pub(super) fn write(top: &Path, name: &str, files: Files) -> PathBuf {
    let path = top.join(name);
    let _ = fs::remove_dir_all(&path);
    files.into_directory(&path);
    path
}

/// Whether an image is all there: as many names as the layers make.
pub(super) fn whole(world: &World, way: Way, id: &str) -> bool {
    let images = world.base.join("images");
    match way {
        Way::Flat => Tree::of(&images.join(id)).len() == NAMES,
        Way::Layered => {
            images.join(format!("{id}.image")).exists() && way.tree(world).len() == NAMES
        }
    }
}

/// How many names the image has: the skeleton, the files but for the deleted one, the directory and what is in it.
pub(super) const NAMES: usize = 9 + 199 + 2 + 200;
