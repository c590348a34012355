//! Builds layered images by hand: the layers in the data directory and the record that names them, as an import leaves
//! them. So a test can have layers that no archive has, and very many.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::{World, tool, write_file};

/// A layered image that is being made.
#[derive(Debug)]
pub struct Layered {
    base: PathBuf,
    data: PathBuf,
    id: String,
    /// How keys end: nothing, or with which rights a user namespace has unpacked them.
    form: &'static str,
    keys: Vec<String>,
}

impl Layered {
    /// An image without layers in the world's own directories.
    ///
    /// # Panics
    /// Where the directories cannot be made.
    #[must_use]
    pub fn new(world: &World, id: &str) -> Self {
        Self::at(&world.base, &world.data, id)
    }

    /// The same in others.
    ///
    /// # Panics
    /// Where the directories cannot be made.
    #[must_use]
    pub fn at(base: &Path, data: &Path, id: &str) -> Self {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for directory in [base.join("images"), data.join("layers")] {
            builder.create(directory).expect("directory");
        }
        Self {
            base: base.to_owned(),
            data: data.to_owned(),
            id: id.to_owned(),
            form: "",
            keys: Vec::new(),
        }
    }

    /// The same, as root of a user namespace unpacks it.
    #[must_use]
    pub fn for_user_namespaces(mut self) -> Self {
        self.form = ".user";
        self
    }

    /// One more layer on top, an empty directory: where its tree is.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub fn layer(&mut self) -> PathBuf {
        let number = self.keys.len();
        // Other images may have as many layers in the same store.
        let name: u64 = self.id.bytes().map(u64::from).sum();
        let key = format!("{name:032x}{number:032x}{}", self.form);
        let tree = self.data.join("layers").join(&key).join("fs");
        self.keys.push(key);
        fs::create_dir_all(&tree).expect("layer");
        tree
    }

    /// One more layer on top, the files of image `img`: where its tree is.
    ///
    /// # Panics
    /// Where it cannot be moved.
    pub fn img(&mut self) -> PathBuf {
        let tree = self.layer();
        fs::remove_dir(&tree).expect("empty");
        fs::rename(self.base.join("images/img"), &tree).expect("move the image");
        tree
    }

    /// The keys of its layers, lowest first.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Writes the record, with which the image is there.
    pub fn publish(&self) {
        let layers: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                let diff_id = format!("sha256:{}", key.get(..64).unwrap_or_default());
                serde_json::json!({ "diff_id": diff_id, "key": key, "size": 0 })
            })
            .collect();
        let record = serde_json::json!({
            "version": 1, "data": self.data, "layers": layers, "format": "oci", "imported": 1,
            "stack": self.keys, "root": self.keys.last(),
        });
        let images = self.base.join("images");
        write_file(
            images.join(format!("{}.image", self.id)),
            record.to_string(),
        );
    }
}

/// Makes a directory of a layer hide what is in the same directory below; `attributes` is `trusted`, or in a user
/// namespace `user`.
///
/// # Panics
/// When it cannot.
pub fn opaque(directory: impl AsRef<Path>, attributes: &str) {
    let name = format!("{attributes}.overlay.opaque");
    let mut setfattr = std::process::Command::new(tool("setfattr"));
    let status = setfattr
        .args(["-n", &name, "-v", "y"])
        .arg(directory.as_ref())
        .status();
    assert!(status.expect("setfattr").success());
}

/// Hides a name of the layers below.
///
/// # Panics
/// Where that cannot be made.
pub fn whiteout(path: impl AsRef<Path>) {
    mknod(path.as_ref(), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).expect("whiteout");
}
