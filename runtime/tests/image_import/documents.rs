//! Image archives that are not what they say: digests, sizes, types, names of blobs, damaged compression.

use serde_json::{Value, json};

use crate::pack::{
    Files, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Tar, bzip2, config, docker, file, gzip, layout,
    oci, sha256, symlink, xz, zstd,
};
use crate::verdict::refuse;

fn layer() -> Vec<u8> {
    Tar::of([file("etc/a", "x")])
}

fn blob(data: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256(data))
}

/// A good image of which one file is then changed.
fn changed(name: &str, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut files = oci(&[layer()]);
    change(files.get_mut(name));
    files.into_tar()
}

/// A good image without one of its files.
fn without(name: &str) -> Vec<u8> {
    let mut files = oci(&[layer()]);
    files.0.retain(|(key, _)| key != name);
    files.into_tar()
}

/// An image whose configuration and manifest were changed before the digests were taken.
fn with(in_config: Option<(&str, Value)>, in_manifest: Option<(&str, Value)>) -> Vec<u8> {
    let set = |document: &mut Value, change: Option<(&str, Value)>| {
        if let Some((path, value)) = change {
            *document.pointer_mut(path).unwrap() = value;
        }
    };
    let mut files = Files::default();
    let layers = vec![files.blob(OCI_LAYER, &layer())];
    let mut config = config(&[layer()]);
    set(&mut config, in_config);
    let config = files.blob(OCI_CONFIG, config.to_string().as_bytes());
    let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    set(&mut manifest, in_manifest);
    let descriptor = files.blob(OCI_MANIFEST, manifest.to_string().as_bytes());
    layout(&mut files, &[descriptor]);
    files.into_tar()
}

#[test]
fn blobs_that_are_changed_or_missing() {
    let configuration = config(&[layer()]).to_string();
    let configuration = blob(configuration.as_bytes());
    let layer = blob(&layer());
    refuse(
        "layer",
        &changed(&layer, |data| data[600] ^= 1),
        "should have the digest",
    );
    refuse(
        "layer cut",
        &changed(&layer, |data| data.truncate(1024)),
        "bytes and has 1024",
    );
    refuse("layer missing", &without(&layer), "not in the archive");
    refuse(
        "configuration",
        &changed(&configuration, |data| data[9] ^= 1),
        "verify blob",
    );
    refuse(
        "configuration missing",
        &without(&configuration),
        "not in the archive",
    );
    refuse(
        "index",
        &changed("index.json", |data| data.truncate(9)),
        "index.json",
    );
    refuse(
        "layout",
        &changed("oci-layout", |data| data[23] = b'2'),
        "unknown version 2",
    );
}

#[test]
fn configurations_that_do_not_fit() {
    let config = |path, value| with(Some((path, value)), None);
    let other = json!([format!("sha256:{}", sha256(b"other"))]);
    refuse(
        "diff id",
        &config("/rootfs/diff_ids", other),
        "verify content of layer",
    );
    refuse(
        "none",
        &config("/rootfs/diff_ids", json!([])),
        "has 1 layers, its configuration names 0",
    );
    let forging = json!(["A=1\nLD_PRELOAD=/evil.so"]);
    refuse(
        "forged variable",
        &config("/config/Env", forging),
        "newline",
    );
    refuse(
        "machine",
        &config("/architecture", json!("pdp11")),
        "linux/pdp11",
    );
}

#[test]
fn manifests_that_lead_elsewhere() {
    let manifest = |path, value: &str| with(None, Some((path, json!(value))));
    let digest = "/layers/0/digest";
    refuse(
        "layer type",
        &manifest("/layers/0/mediaType", "application/x-rpm"),
        "application/x-rpm",
    );
    refuse(
        "configuration type",
        &manifest("/config/mediaType", "application/x-helm"),
        "x-helm",
    );
    let traversal = manifest(digest, "sha256:../../../../../../../../../etc/passwd");
    refuse("traversal", &traversal, "Invalid encoded value");
    let sha512 = manifest(digest, &format!("sha512:{}", "0".repeat(128)));
    refuse("another digest", &sha512, "no sha256");
    let size = with(None, Some(("/layers/0/size", json!(7))));
    refuse("size", &size, "should have 7 bytes");
    let mut none = Files::default();
    layout(&mut none, &[]);
    refuse("no image", &none.into_tar(), "has no image");
    refuse(
        "xz",
        &oci(&[b"\xfd7zXZ\0\0\0".to_vec()]).into_tar(),
        "the xz data ends too early",
    );
    refuse("no tar", &oci(&[vec![b'x'; 600]]).into_tar(), "checksum");
}

#[test]
fn docker_archives_that_lead_out() {
    let name = format!("{:064x}/layer.tar", 0);
    let base = docker(&[layer()], &["a:1"]);
    let relinked = |target: &str| {
        let member = |(key, data): &(String, Vec<u8>)| {
            if *key == name {
                symlink(key, target)
            } else {
                file(key, data)
            }
        };
        Tar::of(base.0.iter().map(member))
    };
    let config_name = base.0[1].0.clone();
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = base.clone();
        change(files.get_mut(name));
        files.into_tar()
    };
    let out = relinked("../../../../../../../../../../etc/passwd");
    refuse("relative link", &out, "not in the archive");
    refuse(
        "absolute link",
        &relinked("/etc/passwd"),
        "not in the archive",
    );
    refuse("circle", &relinked("layer.tar"), "ELOOP");
    let manifest = json!([{"Config": config_name, "Layers": ["/etc/passwd"]}]).to_string();
    let path = changed("manifest.json", &|data| *data = manifest.clone().into());
    refuse("path", &path, "not in the archive");
    let config = changed(&config_name, &|data| data.push(b' '));
    refuse("configuration", &config, "verify image configuration");
    let layer = changed(&name, &|data| data[600] ^= 1);
    refuse("layer", &layer, "verify content of layer");
}

#[test]
fn compressed_streams_that_are_damaged() {
    let noise = (0..40_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]);
    let data = Tar::of([file("etc/a", noise.collect::<Vec<u8>>())]);
    for packed in [gzip(&data), zstd(&data), xz(&data), bzip2(&data)] {
        refuse("cut", &packed[..packed.len() * 2 / 3], "read archive");
        refuse("cut at the start", &packed[..20], "truncated");
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 0x55;
        // bzip2 finds out at the end of a block, after its beginning was looked at.
        refuse("damaged", &damaged, "archive");
        // The checksum is at the end, behind the last byte that tar reads.
        let mut checksum = packed.clone();
        let last = match packed[0] {
            0x1f => packed.len() - 6,
            // The index and the footer lie between.
            0xfd => packed.len() - 28,
            // The last byte of bzip2 has bits that mean nothing.
            b'B' => packed.len() - 4,
            _ => packed.len() - 1,
        };
        checksum[last] ^= 1;
        refuse("checksum", &checksum, "read archive");
    }
}
