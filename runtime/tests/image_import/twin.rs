//! Whatever is imported into one directory is imported as layers as well: merged by the kernel, they must be the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use runtime::image::layers::Layers;
use runtime::image::record::Record;
use runtime::image::{ImportRequest, Imported, import};
use tests::{merge, own_mounts};

use crate::place::{Place, id, list, may_mount, times, walk};

/// Imports what `flat` came from as layers, and compares.
pub(crate) fn check(place: &Place, request: &ImportRequest, flat: &shim::Result<Imported>) {
    let base = place.top.join("layered");
    let data = place.top.join("layers");
    let layered = ImportRequest {
        flat: false,
        base: base.clone(),
        data: data.clone(),
        ..request.clone()
    };
    let imported = match (flat, import(&layered)) {
        (Ok(_), Ok(imported)) => imported,
        (Err(flat), Err(layered)) => {
            assert_eq!(flat.to_string(), layered.to_string());
            assert!(
                !base.exists() && !data.exists(),
                "something is left of {layered}"
            );
            return;
        }
        (flat, layered) => panic!("as one directory: {flat:?}\nas layers: {layered:?}"),
    };
    assert_eq!(
        names(&base.join("images")),
        ["img.env", "img.image", "img.json"]
    );
    assert_eq!(imported.root, base.join("images/img.image"));
    let record = Record::read(&base, "img").unwrap().unwrap();
    let mut keys: Vec<_> = record.keys().cloned().collect();
    keys.sort();
    keys.dedup();
    assert_eq!(Layers::open(&data).unwrap().unwrap().list().unwrap(), keys);
    assert_eq!(names(&data.join("layers")).len(), keys.len());
    // What is there is found again, and nothing is added.
    let again = import(&ImportRequest {
        id: id("again"),
        ..layered
    })
    .unwrap();
    let second = Record::read(&base, "again").unwrap().unwrap();
    assert_eq!(second.stack, record.stack);
    assert_eq!(second.root, record.root);
    assert!(again.members == 0 || record.config.is_none(), "{again:?}");
    assert_eq!(names(&data.join("layers")).len(), keys.len());
    if let Ok(flat) = flat
        && may_mount()
    {
        compare(&flat.root, &record, &data, &place.top.join("merged"));
    }
    fs::remove_dir_all(&base).unwrap();
    fs::remove_dir_all(&data).unwrap();
}

/// Merges the layers in a thread whose mounts end with it.
fn compare(flat: &Path, record: &Record, data: &Path, merged: &Path) {
    let layers = data.join("layers");
    let stack = record.stack.iter().rev();
    let stack: Vec<_> = stack.map(|key| layers.join(key.tree())).collect();
    let root = layers.join(record.root.tree());
    let work = || {
        own_mounts().unwrap();
        merge(stack, merged, ",nfs_export=off,index=off,xino=off").unwrap();
        let mut lines = list(merged);
        // The root directory is that of the layer that lists it.
        lines[0] = list(&root)
            .swap_remove(0)
            .replace(" trusted.overlay.opaque=y", "");
        (without_counts(lines), times(merged), groups(merged))
    };
    let (lines, found, together) = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    assert_eq!(without_counts(list(flat)), lines);
    assert_eq!(groups(flat), together);
    assert_eq!(settled(times(flat)), settled(found));
    fs::remove_dir(merged).unwrap();
    fs::remove_dir(merged.with_extension("empty")).unwrap();
}

/// Lines without the number of links: overlay counts names that are hidden, too.
fn without_counts(lines: Vec<String>) -> Vec<String> {
    let word = |word: &&str| !(word.starts_with('n') && word[1..].parse::<u32>().is_ok());
    let line = |line: String| {
        let words: Vec<&str> = line.split(' ').filter(word).collect();
        words.join(" ")
    };
    lines.into_iter().map(line).collect()
}

/// For each name that is no directory the first name of the same file.
fn groups(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let mut first = BTreeMap::new();
    let mut groups = BTreeMap::new();
    walk(root, Path::new(""), &mut |path, relative| {
        let stat = fs::symlink_metadata(path).unwrap();
        if !stat.is_dir() {
            let key = (stat.dev(), stat.ino());
            let name = first.entry(key).or_insert_with(|| relative.to_owned());
            groups.insert(relative.to_owned(), name.clone());
        }
    });
    groups
}

/// The times that an archive has set: what nobody lists has the time of its making.
fn settled(times: Vec<String>) -> BTreeMap<String, String> {
    let year = 365 * 24 * 3600;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    times
        .iter()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(name, _)| !name.is_empty())
        .filter(|(_, time)| {
            let seconds: i64 = time.split('.').next().unwrap().parse().unwrap();
            seconds < i64::try_from(now - year).unwrap()
                || seconds > i64::try_from(now + year).unwrap()
        })
        .map(|(name, time)| (name.to_owned(), time.to_owned()))
        .collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
