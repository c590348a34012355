//! `cargo xtask bench NAME [N] [--json FILE] [--dir DIR]`: measures the release binary beside its peers, in one run and in
//! random order, because a machine's speed drifts. Only ratios within one run are worth anything.

mod create_fs;
mod image;
mod measure;
mod stats;
mod unpack;

use std::path::PathBuf;

use crate::{Result, programs};

pub(crate) use measure::measured_child;

/// How often everything is run unless the command line says otherwise.
const RUNS: usize = 5;

/// What the command line asks for.
struct Asked {
    runs: usize,
    /// Where the numbers go as JSON, too.
    json: Option<PathBuf>,
    /// Where everything is unpacked to: the filesystem that is measured.
    dir: PathBuf,
}

type Bench = (&'static str, fn(&Asked) -> Result<()>);

const BENCHES: &[Bench] = &[("unpack", unpack::run)];

/// Runs the bench that the first word names, or all.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (names, asked) = asked(words)?;
    for name in &names {
        if !BENCHES.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = BENCHES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "no bench \"{name}\"; there is {}",
                known.join(", ")
            ));
        }
    }
    for (name, bench) in BENCHES {
        if names.is_empty() || names.contains(name) {
            println!("=== {name}");
            bench(&asked)?;
        }
    }
    Ok(())
}

fn asked<'a>(words: &[&'a str]) -> Result<(Vec<&'a str>, Asked)> {
    let mut asked = Asked {
        runs: RUNS,
        json: None,
        dir: programs::top().join("target/bench"),
    };
    let mut names = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut path = || {
            let path = words.next().ok_or(format!("{word} needs a path"))?;
            std::path::absolute(path).map_err(|error| format!("{path}: {error}"))
        };
        match *word {
            "--json" => asked.json = Some(path()?),
            "--dir" => asked.dir = path()?,
            number if number.starts_with(|c: char| c.is_ascii_digit()) => {
                asked.runs = number
                    .parse()
                    .ok()
                    .filter(|runs| *runs > 0)
                    .ok_or(format!("\"{number}\" is no number of runs"))?;
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name => names.push(name),
        }
    }
    Ok((names, asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_names_a_number_and_options() {
        let (names, all) = asked(&["unpack", "7", "--json", "/x", "--dir", "/y"]).expect("words");
        assert_eq!(names, ["unpack"]);
        assert_eq!(all.runs, 7);
        assert_eq!(all.json, Some("/x".into()));
        assert_eq!(all.dir, PathBuf::from("/y"));
        for bad in [&["0"][..], &["7x"], &["--json"], &["--fast"]] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
        assert!(run(&["nothing"]).is_err_and(|why| why.contains("unpack")));
    }
}
