//! Writes an OCI image layout directory: gzip layers, configuration, manifest, index, all under their real digests.
//! OCI image-spec 1.1, `image-layout.md`, `manifest.md`, `config.md`, `layer.md`.
//!
//! It decides nothing about the content; `task_demo` does. Times are fixed, so the same content has the same digests.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Result;

/// 2024-01-01, for everything in a layer: an image made twice is the same image.
const MTIME: u64 = 1_704_067_200;

const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One entry of a layer.
pub(crate) struct Entry {
    path: String,
    kind: Kind,
    mode: u32,
    owner: u64,
}

enum Kind {
    Dir,
    File(Vec<u8>),
    Symlink(String),
}

impl Entry {
    /// A directory.
    pub(crate) fn dir(path: &str, mode: u32) -> Self {
        Self::new(path, Kind::Dir, mode)
    }

    /// A file.
    pub(crate) fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Kind::File(content.into()), mode)
    }

    /// A symbolic link.
    pub(crate) fn symlink(path: &str, target: &str) -> Self {
        Self::new(path, Kind::Symlink(target.into()), 0o777)
    }

    /// The whiteout of `name` in `dir`: the file of that name in the layers below is gone.
    pub(crate) fn whiteout(dir: &str, name: &str) -> Self {
        Self::file(&format!("{dir}/.wh.{name}"), 0o644, "")
    }

    /// The same, owned by this user and the group of the same number instead of root.
    pub(crate) fn owned_by(mut self, owner: u64) -> Self {
        self.owner = owner;
        self
    }

    fn new(path: &str, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            owner: 0,
        }
    }
}

/// Writes an image of these layers, lowest first, with this `config` object, as the layout directory `dir`.
/// Returns the number of bytes in its blobs.
pub(crate) fn write(dir: &Path, layers: &[Vec<Entry>], config: Value) -> Result<usize> {
    let blobs = Blobs(dir);
    let mut diff_ids = Vec::new();
    let mut descriptors = Vec::new();
    let mut total = 0;
    for layer in layers {
        let tar = layer_tar(layer).map_err(|error| format!("make a layer: {error}"))?;
        let packed = gzip(&tar).map_err(|error| format!("compress a layer: {error}"))?;
        diff_ids.push(digest(&tar));
        descriptors.push(blobs.put(GZIP_LAYER, &packed)?);
        total += packed.len();
    }
    let config = self::config(config, &diff_ids);
    let more = finish(dir, &config, &descriptors)?;
    Ok(total + more)
}

/// The same of layers that are files already: their digests and where they are; they are moved into the layout.
pub(crate) fn from_files(dir: &Path, layers: &[(String, PathBuf)], config: &str) -> Result<()> {
    let blobs = Blobs(dir);
    let mut descriptors = Vec::new();
    for (digest, file) in layers {
        let failed = |error| format!("move {}: {error}", file.display());
        let path = blobs.path(digest);
        let size = std::fs::metadata(file).map_err(failed)?.len();
        std::fs::create_dir_all(dir.join("blobs/sha256")).map_err(failed)?;
        std::fs::rename(file, path).map_err(failed)?;
        descriptors.push(json!({"mediaType": GZIP_LAYER, "digest": digest, "size": size}));
    }
    finish(dir, config, &descriptors).map(drop)
}

/// The files of the layers of the only image in a layout, lowest first.
pub(crate) fn layers(dir: &Path) -> Result<Vec<PathBuf>> {
    let blobs = Blobs(dir);
    let read = |path: &Path| {
        let failed = |error: &dyn std::fmt::Display| format!("read {}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        serde_json::from_slice::<Value>(&text).map_err(|error| failed(&error))
    };
    let path = |descriptor: &Value| blobs.path(descriptor["digest"].as_str().unwrap_or_default());
    let index = read(&dir.join("index.json"))?;
    let manifest = read(&path(&index["manifests"][0]))?;
    let layers = manifest["layers"].as_array();
    Ok(layers.into_iter().flatten().map(path).collect())
}

/// The configuration of an image for this machine that says `config` and has layers with these DiffIDs.
pub(crate) fn config(config: Value, diff_ids: &[String]) -> String {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
}

/// Writes all but the layers, and gives how many bytes that is without the index.
fn finish(dir: &Path, config: &str, layers: &[Value]) -> Result<usize> {
    let blobs = Blobs(dir);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blobs.put("application/vnd.oci.image.config.v1+json", config.as_bytes())?,
        "layers": layers,
    })
    .to_string();
    let mut descriptor = blobs.put(MANIFEST, manifest.as_bytes())?;
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    });
    put_file(&dir.join("index.json"), index.to_string().as_bytes())?;
    let version = json!({"imageLayoutVersion": "1.0.0"}).to_string();
    put_file(&dir.join("oci-layout"), version.as_bytes())?;
    Ok(config.len() + manifest.len())
}

/// The blob directory of a layout.
struct Blobs<'a>(&'a Path);

impl Blobs<'_> {
    /// Stores a blob and returns its descriptor.
    fn put(&self, media_type: &str, blob: &[u8]) -> Result<Value> {
        let digest = digest(blob);
        put_file(&self.path(&digest), blob)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": blob.len()}))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.0.join("blobs").join(digest.replace(':', "/"))
    }
}

fn put_file(path: &Path, content: &[u8]) -> Result<()> {
    let failed = |error| format!("write {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// This machine's architecture by the name that Go and OCI have for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn layer_tar(layer: &[Entry]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in layer {
        let mut header = tar::Header::new_ustar();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner);
        header.set_gid(entry.owner);
        header.set_mtime(MTIME);
        header.set_size(0);
        match &entry.kind {
            Kind::Dir => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, &entry.path, std::io::empty())?;
            }
            Kind::File(content) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, &entry.path, content.as_slice())?;
            }
            Kind::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, &entry.path, target)?;
            }
        }
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Read;

    use super::*;

    /// A layout of its own for each test, removed at its end.
    struct Layout(PathBuf);

    impl Layout {
        fn new(name: &str) -> Self {
            let dir = format!("xtask-oci-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(dir);
            let lower = vec![
                Entry::dir("bin", 0o755),
                Entry::file("bin/tool", 0o755, "tool"),
                Entry::symlink("bin/id", "tool"),
            ];
            let upper = vec![
                Entry::whiteout("bin", "id"),
                Entry::file("app", 0o640, "app").owned_by(1000),
            ];
            write(&dir, &[lower, upper], json!({"User": "app"})).expect("write the layout");
            Self(dir)
        }

        fn blob(&self, descriptor: &Value) -> Vec<u8> {
            let digest = descriptor["digest"].as_str().expect("a digest");
            let blob = fs::read(self.0.join("blobs").join(digest.replace(':', "/"))).expect("blob");
            assert_eq!(super::digest(&blob), digest);
            assert_eq!(descriptor["size"], blob.len());
            blob
        }

        fn json(&self, descriptor: &Value) -> Value {
            serde_json::from_slice(&self.blob(descriptor)).expect("JSON")
        }

        fn manifest(&self) -> Value {
            let index = fs::read(self.0.join("index.json")).expect("read the index");
            let index: Value = serde_json::from_slice(&index).expect("JSON");
            self.json(&index["manifests"][0])
        }
    }

    impl Drop for Layout {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_blob_has_the_digest_and_size_that_point_to_it() {
        let layout = Layout::new("digests");
        let manifest = layout.manifest();
        let config = layout.json(&manifest["config"]);
        assert_eq!(config["config"]["User"], "app");
        let layers = manifest["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 2);
        for (at, layer) in layers.iter().enumerate() {
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(&*layout.blob(layer))
                .read_to_end(&mut tar)
                .expect("gunzip");
            assert_eq!(config["rootfs"]["diff_ids"][at], digest(&tar));
        }
    }

    #[test]
    fn a_layout_of_files_is_the_same_layout() {
        let layout = Layout::new("blobs");
        let again = Layout(layout.0.with_extension("again"));
        fs::create_dir(&again.0).expect("directory");
        let manifest = layout.manifest();
        let mut files = Vec::new();
        for (at, layer) in manifest["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .enumerate()
        {
            let file = again.0.join(at.to_string());
            fs::write(&file, layout.blob(layer)).expect("layer");
            files.push((layer["digest"].as_str().expect("digest").to_owned(), file));
        }
        let config = String::from_utf8(layout.blob(&manifest["config"])).expect("text");
        from_files(&again.0, &files, &config).expect("layout");
        assert_eq!(again.manifest(), manifest);
        let names = |layout: &Layout| -> Vec<_> {
            let found = layers(&layout.0).expect("layers");
            found
                .iter()
                .map(|path| path.file_name().map(ToOwned::to_owned))
                .collect()
        };
        assert_eq!(names(&again), names(&layout));
        assert_eq!(names(&again).len(), 2);
    }

    #[test]
    fn layers_have_what_was_asked_for() {
        let layout = Layout::new("entries");
        let manifest = layout.manifest();
        let mut seen = BTreeMap::new();
        for layer in manifest["layers"].as_array().expect("layers") {
            let blob = layout.blob(layer);
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&*blob));
            for entry in archive.entries().expect("entries") {
                let entry = entry.expect("entry");
                let header = entry.header();
                let shape = format!(
                    "{:?} {:o} {} {:?}",
                    header.entry_type(),
                    header.mode().expect("mode"),
                    header.uid().expect("uid"),
                    entry.link_name().expect("link").unwrap_or_default()
                );
                seen.insert(entry.path().expect("path").display().to_string(), shape);
            }
        }
        let expected = [
            ("app", "Regular 640 1000 \"\""),
            ("bin", "Directory 755 0 \"\""),
            ("bin/.wh.id", "Regular 644 0 \"\""),
            ("bin/id", "Symlink 777 0 \"tool\""),
            ("bin/tool", "Regular 755 0 \"\""),
        ];
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(path, shape)| (path.to_string(), shape.to_string()))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_same_content_is_the_same_image() {
        let (one, two) = (Layout::new("one"), Layout::new("two"));
        assert_eq!(one.manifest(), two.manifest());
    }
}
