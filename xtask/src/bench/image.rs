//! The image that is unpacked: 23,000 files, 0.96 GB, five gzip layers, the same on every machine.
//!
//! Sizes and contents are like those of images that people use: many small files, a few large ones, text, tables and
//! machine code, some of which does not compress. Made once, below the build directory, with tar and gzip of the machine.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{Result, oci_layout, programs};

/// Changes whenever the image does.
const VERSION: &str = "unpack-1";
const FILES: usize = 23_000;
const BYTES: usize = 960_000_000;
/// What one copy of it needs on a disk, at most.
pub(super) const SPACE: u64 = 5 << 28;
/// Which part of the files each layer has, lowest first.
const SHARES: [f64; 5] = [0.30, 0.35, 0.20, 0.12, 0.03];
const FILES_PER_DIRECTORY: usize = 40;
/// Contents are cut from a pool of this many bytes for each kind; gzip does not look back that far.
const POOL: usize = 4 << 20;

/// Where the image is, in each form.
pub(super) struct Image {
    /// An OCI layout with the tag `latest`.
    pub(super) layout: PathBuf,
    /// A docker-archive whose layers are not compressed.
    pub(super) docker: PathBuf,
    /// The gzip layers, lowest first.
    pub(super) layers: Vec<PathBuf>,
}

/// The image, made if it is not there.
pub(super) fn image() -> Result<Image> {
    let dir = programs::top().join("target/bench-images").join(VERSION);
    if !dir.is_dir() {
        let temporary = dir.with_extension("tmp");
        let _ = fs::remove_dir_all(&temporary);
        println!("making the image, once");
        make(&temporary)?;
        fs::rename(&temporary, &dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let layout = dir.join("layout");
    Ok(Image {
        layers: oci_layout::layers(&layout)?,
        layout,
        docker: dir.join("docker.tar"),
    })
}

fn make(dir: &Path) -> Result<()> {
    let failed = |error: std::io::Error| format!("make the image: {error}");
    let docker = dir.join("docker");
    fs::create_dir_all(&docker).map_err(failed)?;
    let pools = pools();
    let mut random = Random(1);
    let mut diff_ids = Vec::new();
    let mut packed = Vec::new();
    for (number, share) in SHARES.iter().enumerate() {
        let tree = dir.join("tree");
        let count = (FILES as f64 * share) as usize;
        let bytes = BYTES as f64 * share;
        fill(
            &tree,
            number,
            &sizes(count, bytes, &mut random),
            &pools,
            &mut random,
        )
        .map_err(failed)?;
        let tar = docker.join(format!("layer{number}.tar"));
        let options = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"];
        let mut command = programs::program("tar");
        command
            .args(options)
            .args(["--mtime=@1700000000", "--format=gnu"]);
        command.args(["--mode=u+rwX,go=rX", "--create", "--file"]);
        programs::run(command.arg(&tar).arg("--directory").arg(&tree).arg("."))?;
        fs::remove_dir_all(&tree).map_err(failed)?;
        diff_ids.push(digest(&tar)?);
        let gzip = dir.join(format!("layer{number}.tar.gz"));
        let into = File::create(&gzip).map_err(failed)?;
        programs::run(
            programs::program("gzip")
                .args(["-6", "--no-name", "--stdout"])
                .arg(&tar)
                .stdout(into),
        )?;
        packed.push((digest(&gzip)?, gzip));
    }
    let config = oci_layout::config(json!({"Cmd": ["/bin/true"]}), &diff_ids);
    oci_layout::from_files(&dir.join("layout"), &packed, &config)?;
    docker_archive(dir, &docker, &config).map_err(failed)??;
    fs::remove_dir_all(&docker).map_err(failed)
}

/// Packs the plain layers as `docker save` does.
fn docker_archive(dir: &Path, docker: &Path, config: &str) -> std::io::Result<Result<()>> {
    fs::write(docker.join("config.json"), config)?;
    let layers: Vec<String> = (0..SHARES.len())
        .map(|number| format!("layer{number}.tar"))
        .collect();
    let tags = ["localhost/bench:latest"];
    let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": layers}]);
    fs::write(docker.join("manifest.json"), manifest.to_string())?;
    let mut command = programs::program("tar");
    command
        .arg("--create")
        .arg("--file")
        .arg(dir.join("docker.tar"));
    command.arg("--directory").arg(docker);
    command.args(["manifest.json", "config.json"]).args(layers);
    Ok(programs::run(&mut command))
}

/// Sizes of `count` files that have about `bytes` together: 60 % below 8 kB, 30 % below 64 kB, the rest shares what is left.
fn sizes(count: usize, bytes: f64, random: &mut Random) -> Vec<usize> {
    let (small, medium) = (count * 60 / 100, count * 30 / 100);
    let mut sizes: Vec<usize> = (0..small).map(|_| random.between(50, 8_000)).collect();
    sizes.extend((0..medium).map(|_| random.between(8_000, 64_000)));
    let left = bytes - sizes.iter().sum::<usize>() as f64;
    let large = count - small - medium;
    // Each next one is a little larger than the one before; the last are fifty times as large as the first.
    let weights: Vec<f64> = (0..large)
        .map(|number| 50_f64.powf(number as f64 / large as f64))
        .collect();
    let unit = left / weights.iter().sum::<f64>();
    sizes.extend(weights.iter().map(|weight| (weight * unit) as usize));
    // Large and small ones lie side by side.
    for at in (1..sizes.len()).rev() {
        sizes.swap(at, random.between(0, at + 1));
    }
    sizes
}

fn fill(
    tree: &Path,
    layer: usize,
    sizes: &[usize],
    pools: &[Vec<u8>],
    random: &mut Random,
) -> std::io::Result<()> {
    for (number, size) in sizes.iter().enumerate() {
        let directory = tree.join(format!(
            "usr/lib/layer{layer}/part{}",
            number / FILES_PER_DIRECTORY
        ));
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(&directory)?;
        }
        let name = directory.join(format!("file{number}"));
        let mut file = File::create(&name)?;
        // Text, tables, code, and one in twelve that does not compress.
        let kind = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3][random.between(0, 12)];
        let mut left = *size;
        while left > 0 {
            let start = random.between(0, POOL / 2);
            let piece = &pools[kind][start..][..left.min(POOL / 2)];
            file.write_all(piece)?;
            left -= piece.len();
        }
        if number % 20 == 7 {
            std::os::unix::fs::symlink(format!("file{number}"), name.with_extension("link"))?;
        }
    }
    // What lower layers have and this one deletes.
    if layer > 0 {
        let below = tree.join(format!("usr/lib/layer{}/part1", layer - 1));
        fs::create_dir_all(&below)?;
        fs::write(below.join(format!(".wh.file{}", FILES_PER_DIRECTORY)), "")?;
    }
    Ok(())
}

/// Text, tables, code and noise.
fn pools() -> Vec<Vec<u8>> {
    let mut random = Random(2);
    let words: Vec<Vec<u8>> = (0..4000)
        .map(|_| {
            let length = random.between(2, 11);
            (0..length)
                .map(|_| b"etaoinshrdlucmfwypvbgkjqxz"[random.skewed(26)])
                .collect()
        })
        .collect();
    let mut text = Vec::with_capacity(POOL + 16);
    while text.len() < POOL {
        text.extend_from_slice(&words[random.skewed(words.len())]);
        text.push(if random.between(0, 12) == 0 {
            b'\n'
        } else {
            b' '
        });
    }
    let mut tables = Vec::with_capacity(POOL + 16);
    while tables.len() < POOL {
        let number = (tables.len() / 16) as u32;
        tables.extend_from_slice(&number.to_le_bytes());
        tables.extend_from_slice(&(random.skewed(60_000) as u32).to_le_bytes());
        tables.extend_from_slice(&(random.next() as u16).to_le_bytes());
        tables.extend_from_slice(&[0; 6]);
    }
    // Operations that are used again and again, with operands that are not.
    let operations: Vec<[u8; 3]> = (0..200)
        .map(|_| {
            [
                random.next() as u8,
                random.next() as u8,
                random.next() as u8,
            ]
        })
        .collect();
    let mut code = Vec::with_capacity(POOL + 16);
    while code.len() < POOL {
        code.extend_from_slice(&operations[random.skewed(operations.len())]);
        code.extend((0..random.between(0, 3)).map(|_| random.next() as u8));
    }
    let noise = (0..POOL / 8).flat_map(|_| random.next().to_le_bytes());
    vec![text, tables, code, noise.collect()]
}

fn digest(path: &Path) -> Result<String> {
    let told = programs::output_of(programs::program("sha256sum").arg("--binary").arg(path))?;
    let told = String::from_utf8_lossy(&told);
    let hex = told.split(' ').next().unwrap_or_default();
    Ok(format!("sha256:{}", hex.trim_start_matches('\\')))
}

/// A generator with a fixed sequence (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() >> 11) as usize % (high - low)
    }

    /// Below `limit`, the lower the likelier.
    fn skewed(&mut self, limit: usize) -> usize {
        let a = self.between(0, limit) as f64 / limit as f64;
        (a * a * a * limit as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_sum_that_was_asked_for_and_are_the_same_each_time() {
        let of = |seed| sizes(6900, 288e6, &mut Random(seed));
        let sum: usize = of(1).iter().sum();
        assert!(sum.abs_diff(288_000_000) < 10_000, "{sum}");
        assert_eq!(of(1).len(), 6900);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
