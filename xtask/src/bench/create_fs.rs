//! What does not depend on an image's size: importing an image whose layers are there, and create-fs.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Asked;
use super::image::Image;
use super::measure;
use super::stats::{Series, table};
use super::unpack::{import, places};
use crate::oci_layout::{self, Entry};
use crate::{Result, programs};

/// How many files the images have whose root filesystems are made; the benchmark's own image is the last.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// Runs of each for one run of the long contest: these take milliseconds.
const TIMES: usize = 5;

/// Runs them in an empty directory, prints the table and gives the numbers.
pub(super) fn run(asked: &Asked, binary: &Path, image: &Image, into: &Path) -> Result<Vec<Series>> {
    measure::run(&import(binary, &image.layout, into, "bench"))?;
    let mut present = Series::new("import, layers present");
    for number in 0..asked.runs * TIMES {
        let id = format!("again{number}");
        present
            .runs
            .push(measure::run(&import(binary, &image.layout, into, &id))?);
    }
    let mut all = vec![present];
    for count in SIZES {
        let layout = into.join(format!("image-of-{count}"));
        let entries = (0..count).map(|number| {
            let path = format!("d{}/f{number}", number / 100);
            Entry::file(&path, 0o644, number.to_string())
        });
        oci_layout::write(&layout, &[entries.collect()], json!({}))?;
        measure::run(&import(binary, &layout, into, &format!("files{count}")))?;
        all.push(Series::new(format!("create-fs, {count} files")));
    }
    all.push(Series::new("create-fs, the benchmark's image"));
    for _ in 0..asked.runs * TIMES {
        for (at, series) in all.iter_mut().enumerate().skip(1) {
            let id = SIZES.get(at - 1);
            let id = id.map_or("bench".into(), |count| format!("files{count}"));
            series.runs.push(create(binary, into, &id)?);
        }
    }
    println!("{}", table(&all));
    Ok(all)
}

/// Measures create-fs, and takes away what it made.
fn create(binary: &Path, into: &Path, id: &str) -> Result<measure::Run> {
    let verb = |verb: &str, operand: &str| {
        let mut command = programs::program(binary);
        command.args(["subcontainer", verb]).args(places(into));
        command.arg(operand);
        command
    };
    let run = measure::run(&verb("create-fs", id))?;
    let made = into.join("base/subcontainers");
    let failed = |error| format!("{}: {error}", made.display());
    for entry in fs::read_dir(&made).map_err(failed)? {
        let guid = entry.map_err(failed)?.file_name();
        let done = verb("destroy-fs", &guid.to_string_lossy()).output();
        let done = done.map_err(|error| format!("destroy-fs: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
    }
    Ok(run)
}
