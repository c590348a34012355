//! `fuzz archive|config SECONDS [SEED]`: see the module `fuzz` of the library; `cargo xtask fuzz` builds and calls it.
//!
//! Works in a mount namespace and a small memory filesystem of its own. The process that imports is a child; when it dies
//! or something does not hold, its last input is kept in `target/fuzz`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use benches::fuzz::{Place, archive, documents, random::Random};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Inputs of one child; a leak of the process shows, and ends with it.
const INPUTS: u64 = 20_000;
/// How often progress is told.
const TOLD: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words.as_slice() {
        ["--child", kind, top, seed] => match number(seed).map(|seed| child(kind, top, seed)) {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(why)) => {
                eprintln!("fuzz: {why}");
                ExitCode::FAILURE
            }
            None => ExitCode::from(2),
        },
        [kind @ ("archive" | "config"), seconds, rest @ ..] => {
            let seed = rest.first().map_or(Some(1), |seed| number(seed));
            let (Some(seconds), Some(seed)) = (number(seconds), seed) else {
                return ExitCode::from(2);
            };
            match outer(kind, Duration::from_secs(seconds), seed) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("fuzz: {why}");
                    ExitCode::FAILURE
                }
            }
        }
        _ => {
            eprintln!("usage: fuzz archive|config SECONDS [SEED]");
            ExitCode::from(2)
        }
    }
}

/// Runs children until the time is over.
fn outer(kind: &str, time: Duration, first_seed: u64) -> Result<(), String> {
    let text = |error: nix::Error| format!("{error}; needs root");
    tests::own_mounts().map_err(text)?;
    let top = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
    std::fs::create_dir(&top).map_err(|error| error.to_string())?;
    let done = children(kind, time, first_seed, &top);
    let _ = umount2(&top, MntFlags::MNT_DETACH);
    let _ = std::fs::remove_dir(&top);
    done
}

fn children(kind: &str, time: Duration, first_seed: u64, top: &Path) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let mut told = begun;
    let mut seed = first_seed;
    while begun.elapsed() < time {
        let (kind_of, options) = (Some("tmpfs"), Some("size=256m,nr_inodes=100k"));
        mount(kind_of, top, kind_of, MsFlags::empty(), options)
            .map_err(|error| format!("mount tmpfs: {error}"))?;
        let ended = Command::new(&own)
            .args(["--child", kind])
            .arg(top)
            .arg(seed.to_string())
            .status();
        let ended = ended.map_err(|error| error.to_string())?;
        if !ended.success() {
            let kept = keep(&top.join("input"), kind, seed);
            let kept = kept.map_or_else(|why| why, |path| path.display().to_string());
            return Err(format!("seed {seed} ended with {ended}; the input: {kept}"));
        }
        umount2(top, MntFlags::MNT_DETACH).map_err(|error| format!("unmount: {error}"))?;
        seed += 1;
        if told.elapsed() > TOLD {
            told = Instant::now();
            let inputs = (seed - first_seed) * INPUTS;
            println!("{kind}: {inputs} inputs in {} s", begun.elapsed().as_secs());
        }
    }
    let inputs = (seed - first_seed) * INPUTS;
    println!(
        "{kind}: {inputs} inputs in {} s, no finding; seeds {first_seed} to {}",
        begun.elapsed().as_secs(),
        seed - 1
    );
    Ok(())
}

fn keep(input: &Path, kind: &str, seed: u64) -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
    let kept = dir.join(format!("{kind}-{seed}"));
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::copy(input, &kept))
        .map_err(|error| format!("keep the input: {error}"))?;
    Ok(kept)
}

/// Makes inputs and imports them.
fn child(kind: &str, top: &str, seed: u64) -> Result<(), String> {
    let mut place = Place::new(Path::new(top)).map_err(|error| error.to_string())?;
    let mut random = Random::new(seed);
    let seeds = match kind {
        "archive" => benches::fuzz::seeds(kind)?,
        _ => Vec::new(),
    };
    let outside = place.outside().display().to_string();
    let data = place.data().display().to_string();
    for _ in 0..INPUTS {
        if kind == "archive" {
            let input = archive::make(&mut random, &seeds, &outside);
            place.import(&input)?;
        } else if random.once_in(3) {
            let input = documents::record(&mut random, &data);
            place.read_record(&input)?;
        } else {
            let input = documents::make(&mut random);
            place.import(&input)?;
        }
    }
    place.look(true)
}
