//! A real registry, Debian's `docker-registry`, on a free port with storage of its own; and the images that are put there.
//!
//! Images are built here byte by byte and stored with plain HTTP requests, so that the runtime's own view of images and
//! registries has no part in it.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::tool;
use crate::{until, write_file};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that runs; ended when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    dir: PathBuf,
}

/// An image that a registry has.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The digest of its manifest.
    pub digest: String,
    /// Its layers as they are stored.
    pub layers: Vec<Vec<u8>>,
    descriptor: Value,
}

impl Registry {
    /// Starts one in `dir`, which it makes, for this machine alone.
    ///
    /// # Panics
    /// When it does not come up; `cargo xtask test` installs it.
    #[must_use]
    pub fn start(dir: &Path) -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), dir, &dir.join("storage"), "")
    }

    /// The same storage by way of a second registry, with more lines in its configuration.
    #[must_use]
    pub fn again(&self, name: &str, more: &str) -> Self {
        let dir = self.dir.join(name);
        Self::on(self.address.ip(), &dir, &self.dir.join("storage"), more)
    }

    /// The same storage at another address of this machine.
    #[must_use]
    pub fn again_on(&self, address: IpAddr) -> Self {
        let dir = self.dir.join("elsewhere");
        Self::on(address, &dir, &self.dir.join("storage"), "")
    }

    fn on(address: IpAddr, dir: &Path, storage: &Path, more: &str) -> Self {
        let program = tool("docker-registry");
        // Between the choice of a port and its use another test may take it: then the registry ends, and is tried again.
        for _ in 0..10 {
            let free = TcpListener::bind((address, 0)).and_then(|free| free.local_addr());
            let free = free.expect("free port");
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http:\n  addr: {free}\n{more}",
                storage.display()
            );
            write_file(dir.join("config.yml"), config);
            let log = fs::File::create(dir.join("log")).expect("log");
            let mut child = Command::new(&program)
                .args(["serve".as_ref(), dir.join("config.yml").as_os_str()])
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("start docker-registry");
            let up = until("the registry", || {
                if child.try_wait().expect("wait").is_some() {
                    return Some(false);
                }
                TcpStream::connect(free).is_ok().then_some(true)
            });
            if up {
                return Self {
                    child,
                    address: free,
                    dir: dir.to_owned(),
                };
            }
        }
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        panic!("docker-registry does not start: {log}");
    }

    /// A name in it, as users write it.
    #[must_use]
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Stores an image of these layers under `name:tag`.
    #[must_use]
    pub fn push(&self, name: &str, tag: &str, layers: &[Layer]) -> Pushed {
        self.push_for("amd64", name, tag, layers)
    }

    /// The same for another architecture.
    #[must_use]
    pub fn push_for(&self, architecture: &str, name: &str, tag: &str, layers: &[Layer]) -> Pushed {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Env": ["FROM_REGISTRY=yes"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        self.put_blob(name, &config);
        for layer in layers {
            self.put_blob(name, &layer.stored);
        }
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| describe(layer.kind, &layer.stored))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        self.put_manifest(name, tag, MANIFEST, &manifest);
        let mut descriptor = describe(MANIFEST, &manifest);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        Pushed {
            digest: digest(&manifest),
            layers: layers.iter().map(|layer| layer.stored.clone()).collect(),
            descriptor,
        }
    }

    /// Stores an index of images that are there under `name:tag`, and gives its digest.
    #[must_use]
    pub fn push_index(&self, name: &str, tag: &str, images: &[&Pushed]) -> String {
        let manifests: Vec<&Value> = images.iter().map(|image| &image.descriptor).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let index = index.to_string().into_bytes();
        self.put_manifest(name, tag, INDEX, &index);
        digest(&index)
    }

    fn put_blob(&self, name: &str, data: &[u8]) {
        let begun = self.request("POST", &format!("/v2/{name}/blobs/uploads/"), "", &[]);
        let location = begun
            .lines()
            .find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case("location").then_some(value)
            })
            .unwrap_or_else(|| panic!("no place to upload to: {begun}"));
        let path = location
            .split_once(&format!("//{}", self.address))
            .map_or(location, |(_, path)| path);
        let path = format!("{path}&digest={}", digest(data));
        let answer = self.request("PUT", &path, "application/octet-stream", data);
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    fn put_manifest(&self, name: &str, tag: &str, kind: &str, data: &[u8]) {
        let answer = self.request("PUT", &format!("/v2/{name}/manifests/{tag}"), kind, data);
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    /// One request and the whole answer.
    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).expect("connect");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("request");
        stream.write_all(body).expect("request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answer");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A layer: files in a tar.
#[derive(Debug, Clone)]
pub struct Layer {
    stored: Vec<u8>,
    diff_id: String,
    kind: &'static str,
}

impl Layer {
    /// A layer of these files.
    ///
    /// # Panics
    /// Never, but that memory is short.
    #[must_use]
    pub fn of(files: &[(&str, &[u8])]) -> Self {
        let plain = archive(files);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("gzip");
        Self {
            stored: gzip.finish().expect("gzip"),
            diff_id: digest(&plain),
            kind: "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }

    /// A layer of one file with so many bytes that cannot be compressed, and are not.
    #[must_use]
    pub fn noise(name: &str, size: usize, seed: u64) -> Self {
        let stored = archive(&[(name, &noise(size, seed))]);
        Self {
            diff_id: digest(&stored),
            stored,
            kind: "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        archive
            .append_data(&mut header, name, *content)
            .expect("tar");
    }
    archive.into_inner().expect("tar")
}

/// Bytes that look random and are the same for the same seed.
#[must_use]
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// `sha256:` and hex.
#[must_use]
pub fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

fn describe(kind: &str, data: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(data), "size": data.len()})
}
