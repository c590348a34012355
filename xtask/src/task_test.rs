//! `cargo xtask test`: installs what the tests need, builds what they run, runs all of them.
//!
//! The tests get the two programs through `START_CONTAINER_BIN` and `START_CONTAINER_GUEST`. A test that cannot run on this
//! machine prints a line that begins with `skipped`, its name and the reason; these are repeated at the end. With
//! `REQUIRE=all` tests fail instead, and a skip that they did not make a failure is one here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, programs, task_build, task_guest};

/// A program that tests use, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("bsdtar", "libarchive-tools"),
    ("busybox", "busybox-static"),
    ("docker-registry", "docker-registry"),
    ("debootstrap", "debootstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mksquashfs", "squashfs-tools"),
    ("mkfs.erofs", "erofs-utils"),
    ("fsverity", "fsverity"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("newuidmap", "uidmap"),
    ("podman", "podman"),
    ("openssl", "openssl"),
    ("runc", "runc"),
    ("conmon", "conmon"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("setfattr", "attr"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("strace", "strace"),
    ("tar", "tar"),
    ("umoci", "umoci"),
    ("unshare", "util-linux"),
    ("zstd", "zstd"),
];

/// The tests with the published client, and their two situations: the host itself, and a container around the client.
const SDK: &str = "tests/sdk";
const SDK_SITUATIONS: &[&str] = &["run.mjs", "lxc.mjs"];

/// The oldest node that has what these tests use, and the one to run them with where only an older one is installed.
const NODE_NEEDED: (u32, u32) = (20, 11);
const NODE_FROM_NPM: &str = "22.23.3";

/// End-to-end tests that go through everything that is cloned. A debug build ends a cloned process that allocates.
const CLONING: &[&str] = &[
    "launch::",
    "exec::",
    "bind_mount::",
    "terminal::",
    "users::",
];

/// The programs under test.
struct Programs {
    binary: PathBuf,
    debug: PathBuf,
    guest: PathBuf,
}

/// Installs, builds, runs, and tells what was skipped.
pub(crate) fn run() -> Result<()> {
    let mut skipped = install_programs(NEEDED);
    let programs = Programs {
        binary: task_build::release_binary()?,
        debug: programs::build("start-container", "start-container", &[])?,
        guest: task_guest::program()?,
    };
    // It has to be beside the binary that is tested.
    task_build::release_pull()?;
    let mut outcomes = Vec::new();
    let mut run = |command: &Command, binary: &Path| {
        let mut command = clean(command);
        command
            .env("START_CONTAINER_BIN", binary)
            .env("START_CONTAINER_GUEST", &programs.guest);
        let outcome = programs::run_and_hear(&mut command, |line| {
            if is_skip(line) {
                skipped.push(line.trim().to_string());
            }
        });
        outcomes.push(outcome);
    };
    let mut rust = programs::cargo();
    // The output of tests that pass is shown for the sake of those that say that they were skipped.
    rust.args(["test", "--workspace", "--no-fail-fast"]);
    rust.args(["--", "--show-output"]);
    run(&rust, &programs.binary);
    let mut again = programs::cargo();
    again.args(["test", "--package", "tests", "--test", "e2e", "--"]);
    run(again.args(CLONING), &programs.debug);
    match install_node_packages() {
        Ok((node, sdk)) => {
            for situation in SDK_SITUATIONS {
                let mut node = programs::program(&node);
                run(node.arg(situation).current_dir(&sdk), &programs.binary);
            }
        }
        Err(why) => skipped.push(format!("skipped {SDK}: {why}")),
    }

    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    let judged = judged(&skipped, std::env::var("REQUIRE").as_deref() == Ok("all"));
    if let Ok(words) = &judged {
        println!("{words}");
    }
    if failed.is_empty() {
        judged.map(drop)
    } else {
        Err(failed.join("\n"))
    }
}

/// Installs the Debian packages of missing programs; returns what cannot be had.
pub(crate) fn install_programs(needed: &[(&str, &str)]) -> Vec<String> {
    let missing: Vec<_> = needed
        .iter()
        .filter(|(name, _)| !programs::is_installed(name))
        .collect();
    if missing.is_empty() {
        return Vec::new();
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
        .unwrap_or_else(|| "its package does not have it".into());
    missing
        .iter()
        .filter(|(name, _)| !programs::is_installed(name))
        .map(|(name, package)| format!("skipped what needs {name} ({package}): {why}"))
        .collect()
}

/// The command, below one that gives ^C and a hang-up their default meaning again. A shell without job control (a script, a CI
/// runner) and nohup have what they start ignore them, that is inherited, and there are tests that rely on them.
fn clean(command: &Command) -> Command {
    let mut env = programs::program("env");
    env.arg("--default-signal=HUP,INT,QUIT")
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        env.current_dir(directory);
    }
    env
}

/// Installs the pinned npm packages and returns node and the directory that its tests run in.
fn install_node_packages() -> Result<(PathBuf, PathBuf)> {
    let dir = programs::top().join(SDK);
    if !Path::new(&dir).join("package-lock.json").is_file() {
        return Err("there are no tests".into());
    }
    let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    programs::run(programs::program("npm").args(options).current_dir(&dir))?;
    Ok((node()?, dir))
}

/// The node that is installed, or a newer one from npm if it is too old (Debian 12 has node 18).
fn node() -> Result<PathBuf> {
    let version = programs::output_of(programs::program("node").arg("--version"))?;
    if node_version(&String::from_utf8_lossy(&version)) >= Some(NODE_NEEDED) {
        return Ok("node".into());
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(format!("node is too old, and npm has none for {other}")),
    };
    // The file alone, without the scripts of the package `node`.
    let package = format!("node-linux-{architecture}");
    let place = programs::top().join("target/node");
    std::fs::create_dir_all(&place)
        .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
    let mut npm = programs::program("npm");
    npm.args(["install", "--no-save", "--ignore-scripts"])
        .args(["--no-audit", "--no-fund", "--prefix"])
        .arg(&place)
        .arg(format!("{package}@{NODE_FROM_NPM}"));
    programs::run(&mut npm)?;
    Ok(place.join("node_modules").join(package).join("bin/node"))
}

/// Major and minor of `v20.11.1`.
fn node_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a test says with this line that it was skipped: `skipped NAME: REASON` or `skipped: NAME: REASON`.
fn is_skip(line: &str) -> bool {
    line.trim_start()
        .strip_prefix("skipped")
        .is_some_and(|rest| rest.starts_with([' ', ':']) && rest.contains(": "))
}

/// What to say about the skips, or the failure that they are.
fn judged(skipped: &[String], all_required: bool) -> Result<String> {
    let list = skipped.join("\n  ");
    match (skipped, all_required) {
        ([], _) => Ok("nothing was skipped".into()),
        (_, true) => Err(format!(
            "with REQUIRE=all nothing may be skipped:\n  {list}"
        )),
        (_, false) => Ok(format!("not everything was run:\n  {list}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_are_told_from_other_lines() {
        for line in [
            "skipped launch: needs root",
            "  skipped: mount: this machine lacks squashfs",
        ] {
            assert!(is_skip(line), "{line}");
        }
        for line in [
            "skipped 0",
            "skippedx: y: z",
            "ok 1 - skipped: a",
            "test skipped_by_none ... ok",
        ] {
            assert!(!is_skip(line), "{line}");
        }
    }

    #[test]
    fn nodes_are_told_apart_by_age() {
        assert_eq!(node_version("v18.20.4\n"), Some((18, 20)));
        assert!(node_version("v20.11.0") >= Some(NODE_NEEDED));
        assert!(node_version("v20.9.1") < Some(NODE_NEEDED));
        assert!(node_version("none") < Some(NODE_NEEDED));
    }

    #[test]
    fn a_skip_is_a_failure_only_when_all_is_required() {
        let skipped = ["skipped x: no such device".to_string()];
        assert!(judged(&skipped, false).is_ok_and(|words| words.contains("no such device")));
        assert!(judged(&skipped, true).is_err_and(|why| why.contains("no such device")));
        assert!(judged(&[], true).is_ok());
    }
}
