//! When a whiteout is applied, and that nobody can tell.

use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use tests::pack::symlink as link;
use tests::pack::{Item, Tar, dir, file, hardlink};

use super::super::lower::{Lower, Marks};
use super::super::{Meaning, Rights, Tree, Unpacker};
use super::WAITING_MAX;
use crate::image::archive::Archive;
use crate::image::disk::flush;
use crate::image::limits::TABLES;
use crate::image::store::layers::contents::Contents;

/// A layer that is unpacked above another one.
struct Two {
    top: PathBuf,
    below: PathBuf,
    layer: PathBuf,
}

impl Two {
    /// `name` is the test's own.
    fn new(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("hide-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        let (below, layer) = (top.join("below"), top.join("layer"));
        fs::create_dir_all(&below).unwrap();
        fs::create_dir(&layer).unwrap();
        Self { top, below, layer }
    }

    /// Applies an archive; `asked` is called when the layer below is asked for.
    fn apply(&self, items: impl IntoIterator<Item = Item>, asked: impl Fn()) -> shim::Result<()> {
        let open = |path: &Path| OwnedFd::from(fs::File::open(path).unwrap());
        let source = Box::new(|| {
            asked();
            Ok(vec![open(&self.below)])
        });
        let marks = Marks::of(Rights::SingleId);
        let tree =
            Tree::layer(open(&self.layer), Lower::new(source, marks), marks, TABLES).unwrap();
        flush::to_disk(
            false,
            || Ok(()),
            |flusher| {
                let mut unpacker =
                    Unpacker::new(tree, Rights::SingleId, Contents::new(None), flusher);
                let bytes = Tar::of(items);
                unpacker.apply(&mut Archive::new(&bytes[..], "test"), Meaning::Layer)?;
                unpacker.settle()
            },
        )
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let found = fs::symlink_metadata(self.layer.join(path));
        found.is_ok_and(|found| found.file_type().is_char_device())
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.top);
    }
}

#[test]
fn whiteouts_wait_for_the_end_of_the_archive() {
    let two = Two::new("wait");
    fs::create_dir(two.below.join("d")).unwrap();
    fs::write(two.below.join("d/gone"), "").unwrap();
    let asked = Cell::new(false);
    let items = [
        dir("d"),
        file("d/.wh.gone", ""),
        file("d/.wh.never-there", ""),
        file("d/last", ""),
    ];
    let when = || {
        assert!(two.layer.join("d/last").exists(), "asked too early");
        asked.set(true);
    };
    two.apply(items, when).unwrap();
    assert!(asked.get());
    assert!(two.is_whiteout("d/gone"));
    assert!(!two.layer.join("d/never-there").exists());
}

#[test]
fn what_looks_below_sees_whiteouts_that_came_before() {
    let two = Two::new("order");
    fs::create_dir(two.below.join("target")).unwrap();
    symlink("target", two.below.join("way")).unwrap();
    fs::write(two.below.join("file"), "").unwrap();

    // Not through the link that is hidden.
    two.apply([file(".wh.way", ""), file("way/f", "")], || {})
        .unwrap();
    assert!(two.layer.join("way/f").is_file());
    assert!(!two.layer.join("target").exists());

    // Not to the file that is hidden.
    let two = Two::new("order-link");
    fs::write(two.below.join("file"), "").unwrap();
    let refused = two.apply([file(".wh.file", ""), hardlink("other", "file")], || {});
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("not there"), "{text}");
}

#[test]
fn whiteouts_stay_in_the_directory_that_they_were_in() {
    let two = Two::new("moved");
    for name in ["d", "elsewhere"] {
        fs::create_dir(two.below.join(name)).unwrap();
        fs::write(two.below.join(name).join("gone"), "").unwrap();
    }
    let items = [
        dir("d"),
        dir("elsewhere"),
        file("d/.wh.gone", ""),
        link("d", "elsewhere"),
    ];
    two.apply(items, || {}).unwrap();
    assert!(two.layer.join("d").is_symlink());
    assert!(!two.is_whiteout("elsewhere/gone"));
}

#[test]
fn a_file_of_the_layer_itself_is_not_hidden() {
    for items in [
        [file(".wh.name", ""), file("name", "new")],
        [file("name", "new"), file(".wh.name", "")],
    ] {
        let two = Two::new("own");
        fs::write(two.below.join("name"), "old").unwrap();
        two.apply(items, || {}).unwrap();
        assert_eq!(fs::read(two.layer.join("name")).unwrap(), b"new");
    }
}

#[test]
fn many_whiteouts_do_not_wait_for_ever() {
    let two = Two::new("many");
    let asked = Cell::new(0);
    let whiteouts = (0..WAITING_MAX).map(|number| file(format!(".wh.{number}"), ""));
    let items = whiteouts.chain([file("last", "")]);
    let when = || {
        assert!(!two.layer.join("last").exists(), "too many were kept");
        asked.set(asked.get() + 1);
    };
    two.apply(items, when).unwrap();
    assert_eq!(asked.get(), 1);
}
