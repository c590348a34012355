//! Archives that were made to write, link, remove or change something outside their root, or to be read in two ways; and
//! some that look like it and are right. What comes of each is in `tests/golden/hostile.txt`.
//!
//! They are FIELD's rows for traversal, whiteouts and desynchronised readers: what umoci, tar-rs, containerd, oras and others
//! had to mend.

mod headers;
mod layers;
mod paths;

use std::path::Path;

use crate::pack::{Item, Tar};

/// An archive and what it is called.
pub struct Hostile {
    /// Its kind and its name.
    pub name: String,
    /// The archive.
    pub data: Vec<u8>,
}

/// All archives. Their links lead to `outside` where they lead outside.
#[must_use]
pub fn archives(outside: &Path) -> Vec<Hostile> {
    [
        paths::archives(outside),
        layers::archives(outside),
        headers::archives(outside),
    ]
    .concat()
    .into_iter()
    .map(|(name, data)| Hostile { name, data })
    .collect()
}

/// A table of root filesystem tars. `@` in a link's target stands for `outside`.
fn rootfs<const N: usize>(
    kind: &str,
    outside: &Path,
    table: [(&str, Vec<Item>); N],
) -> Vec<(String, Vec<u8>)> {
    table
        .into_iter()
        .map(|(name, items)| {
            let items = items.into_iter().map(|item| item.with_links_to(outside));
            (format!("{kind}: {name}"), Tar::of(items))
        })
        .collect()
}
