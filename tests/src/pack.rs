//! Makes archives in code, well-formed and otherwise: every byte of a header can be what a tar of ours would not write.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// The time that members have unless a test says otherwise.
pub const MTIME: u64 = 1_000_000_000;

/// A tar being made.
#[derive(Default)]
pub struct Tar(Vec<u8>);

/// One member, with defaults of a regular file of root's.
pub struct Item {
    /// Its header, without the name, which [`Tar::with`] puts in.
    pub header: Header,
    name: Vec<u8>,
    link: Vec<u8>,
    data: Vec<u8>,
    records: Vec<(String, Vec<u8>)>,
}

/// A member of this type, owned by the caller.
#[must_use]
pub fn item(kind: EntryType, name: impl AsRef<[u8]>) -> Item {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory {
        0o755
    } else {
        0o644
    });
    header.set_uid(nix::unistd::geteuid().as_raw().into());
    header.set_gid(nix::unistd::getegid().as_raw().into());
    header.set_mtime(MTIME);
    header.set_size(0);
    Item {
        header,
        name: name.as_ref().to_vec(),
        link: Vec::new(),
        data: Vec::new(),
        records: Vec::new(),
    }
}

/// A regular file.
#[must_use]
pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Item {
    let mut item = item(EntryType::Regular, name);
    item.data = data.as_ref().to_vec();
    item.header.set_size(item.data.len() as u64);
    item
}

/// A directory.
#[must_use]
pub fn dir(name: impl AsRef<[u8]>) -> Item {
    item(EntryType::Directory, name)
}

/// A symbolic link.
#[must_use]
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
    let mut item = item(EntryType::Symlink, name);
    item.link = target.as_ref().to_vec();
    item
}

/// Another name of an earlier member.
#[must_use]
pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Item {
    let mut item = item(EntryType::Link, name);
    item.link = target.as_ref().to_vec();
    item
}

impl Item {
    /// Sets the permissions.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    /// Sets user and group.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    /// Sets the time, in seconds since the epoch.
    #[must_use]
    pub fn mtime(mut self, mtime: u64) -> Self {
        self.header.set_mtime(mtime);
        self
    }

    /// Sets the numbers of a device.
    #[must_use]
    pub fn device(mut self, major: u32, minor: u32) -> Self {
        self.header.set_device_major(major).unwrap();
        self.header.set_device_minor(minor).unwrap();
        self
    }

    /// Adds a record to the extended header that goes before the member.
    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.into(), value.as_ref().to_vec()));
        self
    }

    /// Puts the path of a directory for a leading `@` of the link's target.
    pub fn with_links_to(mut self, directory: &Path) -> Self {
        if let Some(rest) = self.link.strip_prefix(b"@") {
            self.link = [directory.as_os_str().as_bytes(), rest].concat();
        }
        self
    }

    /// Gives it data that its name and kind say nothing of.
    #[must_use]
    pub fn with_data(mut self, data: Vec<u8>) -> Self {
        self.header.set_size(data.len() as u64);
        self.data = data;
        self
    }

    /// Says a size that is not that of the data.
    pub fn size(mut self, size: u64) -> Self {
        self.header.set_size(size);
        self
    }
}

impl Tar {
    /// A whole archive of these members.
    pub fn of(items: impl IntoIterator<Item = Item>) -> Vec<u8> {
        items.into_iter().fold(Self::default(), Self::with).end()
    }

    /// Adds a member, with GNU long names where they are needed.
    #[must_use]
    pub fn with(mut self, mut item: Item) -> Self {
        if !item.records.is_empty() {
            self = self.records(EntryType::XHeader, &item.records);
        }
        for (kind, name, field) in [(b'L', &item.name, 0), (b'K', &item.link, 157)] {
            if name.len() > 100 {
                let mut long = Header::new_gnu();
                long.set_entry_type(EntryType::new(kind));
                long.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
                long.set_size(name.len() as u64 + 1);
                self = self.raw(&mut long, &[name.as_slice(), b"\0"].concat());
            }
            let short = &name[..name.len().min(100)];
            item.header.as_mut_bytes()[field..field + short.len()].copy_from_slice(short);
        }
        let data = std::mem::take(&mut item.data);
        self.raw(&mut item.header, &data)
    }

    /// Adds an extended header of its own.
    pub fn records(self, kind: EntryType, records: &[(String, Vec<u8>)]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = 3 + key.len() + value.len();
            let length = (1..)
                .map(|digits| rest + digits)
                .find(|n| n.to_string().len() == n - rest)
                .unwrap();
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        self.raw(&mut header, &data)
    }

    /// Adds a header and data just as they are, but for the checksum and the padding.
    pub fn raw(mut self, header: &mut Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The archive with its end mark.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// The archive as it is so far.
    #[must_use]
    pub fn without_end(self) -> Vec<u8> {
        self.0
    }
}

/// Compresses with gzip.
#[must_use]
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with zstd, with a checksum.
#[must_use]
pub fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with xz.
#[must_use]
pub fn xz(data: &[u8]) -> Vec<u8> {
    xz_with(data, 1 << 20)
}

/// Compresses with xz and a dictionary of this size.
#[must_use]
pub fn xz_with(data: &[u8], dictionary: u32) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(0);
    options.lzma_options.dict_size = dictionary;
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Compresses with bzip2.
#[must_use]
pub fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The digest in lower-case hex.
#[must_use]
pub fn sha256(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Files of an image archive, in the order in which they are packed.
#[derive(Clone, Default)]
pub struct Files(pub Vec<(String, Vec<u8>)>);

impl Files {
    /// Adds a file.
    pub fn put(&mut self, name: impl Into<String>, data: impl Into<Vec<u8>>) {
        self.0.push((name.into(), data.into()));
    }

    /// Adds a blob and gives its descriptor.
    pub fn blob(&mut self, media_type: &str, data: &[u8]) -> serde_json::Value {
        let digest = sha256(data);
        self.put(format!("blobs/sha256/{digest}"), data);
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": data.len()})
    }

    /// The content of a file that is there.
    pub fn get_mut(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|(key, _)| key == name).unwrap().1
    }

    /// The archive as a tar.
    #[must_use]
    pub fn into_tar(self) -> Vec<u8> {
        Tar::of(self.0.into_iter().map(|(name, data)| file(name, data)))
    }

    /// The archive as a directory.
    pub fn into_directory(self, directory: &Path) {
        for (name, data) in self.0 {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, data).unwrap();
        }
    }
}

/// Media type of a manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer that is not compressed; the runtime does not believe it.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// This machine's architecture by the name that Go and OCI have for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A configuration for this machine whose layers are these (uncompressed).
pub fn config(layers: &[Vec<u8>]) -> serde_json::Value {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(layer)))
        .collect();
    json!({
        "architecture": architecture(), "os": "linux",
        "config": {"User": "web", "Env": ["PATH=/bin", "A=b c"], "Entrypoint": ["/init"], "WorkingDir": "/srv"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// Adds an image to a layout and gives its manifest's descriptor. Layers are packed as `pack` says.
pub fn image(
    files: &mut Files,
    layers: &[Vec<u8>],
    config: &serde_json::Value,
    pack: fn(&[u8]) -> Vec<u8>,
) -> serde_json::Value {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| files.blob(OCI_LAYER, &pack(layer)))
        .collect();
    let config = files.blob(OCI_CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    files.blob(OCI_MANIFEST, manifest.to_string().as_bytes())
}

/// A layout whose index has these descriptors.
pub fn layout(files: &mut Files, manifests: &[serde_json::Value]) {
    files.put("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    files.put(
        "index.json",
        json!({"schemaVersion": 2, "manifests": manifests}).to_string(),
    );
}

/// A layout with one image of these layers, which has the tag `latest`.
pub fn tagged(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::default();
    let mut manifest = image(&mut files, layers, &config(layers), <[u8]>::to_vec);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    layout(&mut files, &[manifest]);
    files
}

/// A layout with one image of these layers.
pub fn oci(layers: &[Vec<u8>]) -> Files {
    let mut files = Files::default();
    let manifest = image(&mut files, layers, &config(layers), <[u8]>::to_vec);
    layout(&mut files, &[manifest]);
    files
}

/// What `docker save` writes for one image of these layers.
pub fn docker(layers: &[Vec<u8>], tags: &[&str]) -> Files {
    let mut files = Files::default();
    let config = config(layers).to_string();
    let config_name = format!("{}.json", sha256(config.as_bytes()));
    let names: Vec<String> = (0..layers.len())
        .map(|number| format!("{number:064x}/layer.tar"))
        .collect();
    for (name, layer) in names.iter().zip(layers) {
        files.put(name, layer.clone());
    }
    files.put(&config_name, config);
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
    files.put("manifest.json", manifest.to_string());
    files
}
