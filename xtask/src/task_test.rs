//! `cargo xtask test`: installs what the tests need, builds what they run, runs all of them.
//!
//! The tests get the two programs through `START_CONTAINER_BIN` and `START_CONTAINER_GUEST`. A Rust test that cannot run
//! here appends a line `name: reason` to the file named by `START_CONTAINER_SKIPS`; node's say it in their own report.
//! Everything that was skipped is printed at the end; with `REQUIRE=all` it is a failure.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Result, programs, task_build, task_guest};

/// A program that tests use, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("mksquashfs", "squashfs-tools"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("setfattr", "attr"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("zstd", "zstd"),
];

const SDK: &str = "tests/sdk";

/// Installs, builds, runs, and tells what was skipped.
pub(crate) fn run() -> Result<()> {
    let mut skipped = Vec::new();
    install_programs(&mut skipped);
    let node_tests = node_tests()?;
    let node = install_node_packages(&node_tests, &mut skipped);
    let binary = task_build::release_binary()?;
    let guest = task_guest::program()?;
    let work = Work::new()?;

    let run = |command: &mut std::process::Command| {
        programs::run(
            command
                .env("START_CONTAINER_BIN", &binary)
                .env("START_CONTAINER_GUEST", &guest)
                .env("START_CONTAINER_SKIPS", work.skips()),
        )
    };
    let rust = run(programs::cargo().args(["test", "--workspace"]));
    let node = match node {
        true => run(programs::program("node")
            .args(["--test", "--test-reporter=spec"])
            .arg("--test-reporter-destination=stdout")
            .arg("--test-reporter=tap")
            .arg(format!(
                "--test-reporter-destination={}",
                work.tap().display()
            ))
            .args(&node_tests)),
        false => Ok(()),
    };

    skipped.extend(lines_of(&work.skips()));
    skipped.extend(skipped_in_tap(
        &fs::read_to_string(work.tap()).unwrap_or_default(),
    ));
    rust.and(node)?;
    report(&skipped, std::env::var("REQUIRE").as_deref() == Ok("all"))
}

/// Installs the Debian packages of missing programs; what cannot be had is written down.
fn install_programs(skipped: &mut Vec<String>) {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(name, _)| !programs::is_installed(name))
        .collect();
    if missing.is_empty() {
        return;
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let apt = || {
        let mut command = programs::program("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let installed = programs::run(apt().args(["update", "--quiet"])).and_then(|()| {
        let options = ["install", "--yes", "--quiet", "--no-install-recommends"];
        programs::run(apt().args(options).args(&packages))
    });
    let why = installed
        .err()
        .unwrap_or_else(|| "not in its package".into());
    for (name, package) in missing {
        if !programs::is_installed(name) {
            skipped.push(format!("tests that need {name} ({package}): {why}"));
        }
    }
}

/// The test files for node, sorted. Empty where the directory is missing.
fn node_tests() -> Result<Vec<PathBuf>> {
    let top = programs::top();
    let entries = match fs::read_dir(top.join(SDK)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("read {SDK}: {error}"))?,
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .filter(|name| name.to_string_lossy().ends_with(".test.mjs"))
        .map(|name| Path::new(SDK).join(name))
        .collect();
    files.sort();
    Ok(files)
}

/// Installs the pinned npm packages; whether node's tests can run.
fn install_node_packages(tests: &[PathBuf], skipped: &mut Vec<String>) -> bool {
    if tests.is_empty() {
        skipped.push(format!("node's tests: there are none in {SDK}"));
        return false;
    }
    let dir = programs::top().join(SDK);
    if !dir.join("package-lock.json").is_file() {
        return true;
    }
    let options = ["ci", "--no-audit", "--no-fund"];
    match programs::run(programs::program("npm").args(options).current_dir(dir)) {
        Ok(()) => true,
        Err(why) => {
            skipped.push(format!("node's tests: {why}"));
            false
        }
    }
}

/// A directory for what the tests report, gone at the end.
struct Work(PathBuf);

impl Work {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("start-container-test-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("make {}: {error}", dir.display()))?;
        Ok(Self(dir))
    }

    fn skips(&self) -> PathBuf {
        self.0.join("skips")
    }

    fn tap(&self) -> PathBuf {
        self.0.join("tap")
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The lines of a file that need not exist, sorted, each once: a test may run in more than one binary.
fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines.sort();
    lines.dedup();
    lines
}

/// The tests that a TAP report says were skipped or left to do, with their reasons.
fn skipped_in_tap(report: &str) -> Vec<String> {
    report
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
        .filter_map(|line| {
            let (test, reason) = line
                .split_once(" # SKIP")
                .or_else(|| line.split_once(" # TODO"))?;
            let name = test.split_once(" - ").map_or(test, |(_, name)| name);
            Some(format!("{name}: {}", reason.trim()))
        })
        .collect()
}

fn report(skipped: &[String], all_required: bool) -> Result<()> {
    if skipped.is_empty() {
        println!("nothing was skipped");
        return Ok(());
    }
    let list = format!("{} skipped:\n  {}", skipped.len(), skipped.join("\n  "));
    if all_required {
        return Err(format!(
            "with REQUIRE=all nothing may be skipped, but {list}"
        ));
    }
    println!("{list}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_found_in_a_tap_report() {
        let report = "TAP version 13\n# Subtest: a\n    ok 1 - inner # SKIP no kernel support\n\
                      ok 2 - plain\nok 3 - later # TODO\n# SKIP not a result\n";
        assert_eq!(
            skipped_in_tap(report),
            ["inner: no kernel support", "later: "]
        );
    }

    #[test]
    fn a_skip_is_a_failure_only_when_all_is_required() {
        let skipped = ["x: no such device".to_string()];
        assert_eq!(report(&skipped, false), Ok(()));
        assert!(report(&skipped, true).is_err_and(|why| why.contains("no such device")));
        assert_eq!(report(&[], true), Ok(()));
    }
}
