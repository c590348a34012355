//! Documents that are almost right: index, manifest, configuration, docker's manifest, and the record of an image, with
//! values replaced by others of any type, keys doubled and dropped, and text damaged. Digests are made right again, so
//! that what is wrong is read.

use serde_json::{Map, Value, json};
use tests::pack::{self, Files, Tar, config, docker, file, layout};

use super::random::Random;

/// A new image archive with a changed document.
pub fn make(random: &mut Random) -> Vec<u8> {
    let layer = Tar::of([file("etc/a", "x")]);
    let layers = vec![layer; 1 + random.below(2)];
    if random.once_in(3) {
        let mut files = docker(&layers, &["x:1"]);
        let at = random.below(files.0.len());
        files.0[at].1 = changed_text(random, &files.0[at].1.clone());
        return files.into_tar();
    }
    let mut files = Files::default();
    let descriptors: Vec<Value> = layers
        .iter()
        .map(|layer| files.blob(pack::OCI_LAYER, layer))
        .collect();
    let which = random.below(3);
    let mut text = config(&layers).to_string().into_bytes();
    if which == 0 {
        text = changed_text(random, &text);
    }
    let config = files.blob(pack::OCI_CONFIG, &text);
    let manifest = json!({"schemaVersion": 2, "mediaType": pack::OCI_MANIFEST, "config": config, "layers": descriptors});
    let mut text = manifest.to_string().into_bytes();
    if which == 1 {
        text = changed_text(random, &text);
    }
    let mut descriptor = files.blob(pack::OCI_MANIFEST, &text);
    if which == 2 {
        change(random, &mut descriptor, 0);
    }
    layout(&mut files, &[descriptor]);
    if random.once_in(4) {
        let at = files.0.len() - 1 - random.below(2);
        files.0[at].1 = changed_text(random, &files.0[at].1.clone());
    }
    files.into_tar()
}

/// A changed record of an image whose layers are below `data`.
pub fn record(random: &mut Random, data: &str) -> Vec<u8> {
    let hex = "a".repeat(64);
    let whole = json!({
        "version": 1, "data": data, "format": "oci", "imported": 1, "reference": "x:1",
        "layers": [{"diff_id": format!("sha256:{hex}"), "key": hex, "size": 3}],
        "config": {"digest": format!("sha256:{hex}"), "text": config(&[]).to_string()},
    });
    changed_text(random, whole.to_string().as_bytes())
}

/// A document with some of its values changed, or, once in a while, its bytes.
fn changed_text(random: &mut Random, text: &[u8]) -> Vec<u8> {
    let mut data = text.to_vec();
    match serde_json::from_slice::<Value>(text) {
        Ok(mut value) if !random.once_in(4) => {
            for _ in 0..=random.below(3) {
                change(random, &mut value, 0);
            }
            data = value.to_string().into_bytes();
        }
        _ => random.scramble(&mut data),
    }
    if random.once_in(30) {
        let deep = "[".repeat(*random.of(&[100, 200, 100_000]));
        data = [deep.as_bytes(), &data].concat();
    }
    data
}

/// Changes one value somewhere below this one.
fn change(random: &mut Random, value: &mut Value, depth: usize) {
    let deeper = depth < 8 && !random.once_in(4);
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = random.of(&keys).clone();
            match random.below(8) {
                0 => drop(map.remove(&key)),
                1 => {
                    let other = random.of(&keys).clone();
                    let moved = map.get(&key).cloned().unwrap_or(Value::Null);
                    map.insert(other, moved);
                }
                _ => {
                    if let Some(inner) = map.get_mut(&key) {
                        change(random, inner, depth + 1);
                    }
                }
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = random.below(list.len());
            match random.below(6) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => change(random, &mut list[at], depth + 1),
            }
        }
        Value::String(text) if random.once_in(2) => {
            let mut bytes = std::mem::take(text).into_bytes();
            random.scramble(&mut bytes);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => *value = other(random),
    }
}

/// A value that is seldom meant.
fn other(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e300),
        5 => json!([]),
        6 => Value::Object(Map::new()),
        7 => json!("x".repeat(70_000)),
        8 => json!("../../../etc/passwd"),
        9 => json!(
            "sha256:../../../../../../../../../../../../../../../../../../../../../../../etc/passwd"
        ),
        10 => json!("\u{0}"),
        _ => json!(["", "a\nb", "PATH=/x\nLD_PRELOAD=/y"]),
    }
}
