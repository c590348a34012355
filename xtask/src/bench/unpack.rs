//! From an archive to a root filesystem: ours, layered and flat, and umoci, podman and tar on the same image.
//!
//! Ours ends when everything is on disk; the others leave that to the kernel, so each table also tells how long the disk
//! took afterwards. What is measured is read from the page cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use super::image::{Image, Random};
use super::stats::{Series, document, table, write};
use super::{Asked, create_fs, image, measure};
use crate::{Result, programs, task_build, task_test};

/// Peers and their packages; what is missing is named.
const PEERS: &[(&str, &str)] = &[("umoci", "umoci"), ("podman", "podman"), ("tar", "tar")];

/// Makes the command of one contestant that unpacks into an empty directory.
type Make = fn(&Path, &Image, &Path) -> Command;

/// A contestant: what it is called, the program it needs, its command.
struct Contestant {
    name: &'static str,
    needs: &'static str,
    make: Make,
}

const CONTESTANTS: &[Contestant] = &[
    Contestant {
        name: "start-container, layers",
        needs: "",
        make: |binary, image, into| import(binary, &image.layout, into, "bench"),
    },
    Contestant {
        name: "start-container --flat",
        needs: "",
        make: |binary, image, into| {
            let mut command = import(binary, &image.layout, into, "bench");
            command.arg("--flat");
            command
        },
    },
    Contestant {
        name: "umoci raw unpack",
        needs: "umoci",
        make: |_, image, into| {
            let mut command = programs::program("umoci");
            let from = format!("{}:latest", image.layout.display());
            command.args(["raw", "unpack", "--image", &from]);
            command.arg(into.join("root"));
            command
        },
    },
    Contestant {
        name: "podman load",
        needs: "podman",
        make: |_, image, into| {
            let mut command = podman(into);
            command.arg("load").arg("--input").arg(&image.docker);
            command
        },
    },
    Contestant {
        name: "tar -xzf, layer after layer",
        needs: "tar",
        make: |_, image, into| {
            let mut command = programs::program("sh");
            let script =
                "into=$1; shift; for layer; do tar -xzf \"$layer\" -C \"$into\" || exit; done";
            command.args(["-c", script, "sh"]).arg(into);
            command.args(&image.layers);
            command
        },
    },
];

/// An import into the store below `into`.
pub(super) fn import(binary: &Path, source: &Path, into: &Path, id: &str) -> Command {
    let mut command = programs::program(binary);
    command.args(["image", "import", &format!("--id={id}")]);
    command.args(places(into)).arg(source);
    command
}

/// The directories of a store below `into`.
pub(super) fn places(into: &Path) -> [String; 3] {
    ["base", "state", "data"].map(|name| format!("--{name}={}", into.join(name).display()))
}

fn podman(into: &Path) -> Command {
    let mut command = programs::program("podman");
    command.arg("--root").arg(into.join("podman"));
    command.arg("--runroot").arg(into.join("podman-run"));
    command
}

/// Runs all contestants `asked.runs` times.
pub(super) fn run(asked: &Asked) -> Result<()> {
    let missing = task_test::install_programs(PEERS);
    let binary = task_build::release_binary_or_named()?;
    let image = image::image()?;
    let version = programs::output_of(programs::program(&binary).arg("--version"))?;
    println!("{}", String::from_utf8_lossy(&version).trim_end());
    for line in &missing {
        println!("{line}");
    }
    read_all(&image)?;
    let mut all: Vec<(&Contestant, Series)> = CONTESTANTS
        .iter()
        .filter(|one| one.needs.is_empty() || programs::is_installed(one.needs))
        .map(|one| (one, Series::new(one.name)))
        .collect();
    let seed = std::process::id();
    let mut random = Random(u64::from(seed) + 1);
    let mut scratch = Scratch::new(&asked.dir)?;
    scratch.must_hold(asked.runs * all.len())?;
    for round in 1..=asked.runs {
        let mut order: Vec<usize> = (0..all.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, random.between(0, at + 1));
        }
        for at in order {
            let (one, series) = &mut all[at];
            let place = scratch.next()?;
            let run = measure::run(&(one.make)(&binary, &image, &place))?;
            series.runs.push(run);
            series.syncs.push(sync(&place)?);
            println!("{round}/{}: {} {:.2} s", asked.runs, one.name, run.seconds);
        }
    }
    let all: Vec<Series> = all.into_iter().map(|(_, series)| series).collect();
    println!("\n{}", table(&all));
    let small = create_fs::run(asked, &binary, &image, &scratch.next()?)?;
    if let Some(path) = &asked.json {
        let runs = asked.runs;
        let missing = &missing;
        let unpack = document(&all);
        let more = document(&small);
        write(
            path,
            &json!({"runs": runs, "missing": missing, "unpack": unpack, "present": more}),
        )?;
    }
    Ok(())
}

/// Reads the image once, so that nobody is the first to wait for the disk.
fn read_all(image: &Image) -> Result<()> {
    for path in image.layers.iter().chain([&image.docker]) {
        let failed = |error| format!("read {}: {error}", path.display());
        let mut file = fs::File::open(path).map_err(failed)?;
        std::io::copy(&mut file, &mut std::io::sink()).map_err(failed)?;
    }
    Ok(())
}

/// Waits until the filesystem has written everything, and tells how long that took.
fn sync(dir: &Path) -> Result<f64> {
    let begun = Instant::now();
    let file = fs::File::open(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    nix::unistd::syncfs(&file).map_err(|errno| format!("syncfs: {errno}"))?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Empty directories, which stay until the end: ext4 passes over every inode that was freed a minute ago or less (five,
/// until the disk has it), one by one, so who comes after a removal would pay for it.
struct Scratch {
    path: PathBuf,
    made: usize,
}

impl Scratch {
    fn new(dir: &Path) -> Result<Self> {
        let path = dir.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, made: 0 })
    }

    /// One more, on a quiet disk.
    fn next(&mut self) -> Result<PathBuf> {
        self.made += 1;
        let place = self.path.join(self.made.to_string());
        fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        sync(&place)?;
        Ok(place)
    }

    /// Whether there is space for `count` of the benchmark's images.
    fn must_hold(&self, count: usize) -> Result<()> {
        let shown = self.path.display();
        let have =
            nix::sys::statvfs::statvfs(&self.path).map_err(|errno| format!("{shown}: {errno}"))?;
        let have = have.blocks_available() * have.fragment_size();
        let need = count as u64 * image::SPACE;
        if have < need {
            let gib = |bytes: u64| bytes >> 30;
            return Err(format!(
                "{shown} has {} GiB, all runs together need {}: give a smaller N, or --dir",
                gib(have),
                gib(need) + 1
            ));
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for number in 1..=self.made {
            // podman mounts its store onto itself.
            let _ = nix::mount::umount2(
                &self.path.join(number.to_string()).join("podman/overlay"),
                nix::mount::MntFlags::MNT_DETACH,
            );
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}
