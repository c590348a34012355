//! `cargo xtask vm [--kernel 6.1|6.12] [FILTER...]`: the end-to-end tests in a whole Debian system, with systemd and cgroups of
//! version 2 alone, under a kernel of Debian's. QEMU emulates the processor, so it runs where there is no KVM, ten to twenty
//! times slower than the machine itself.
//!
//! All of it is made below `target/vm` and kept there; the host's packages and its apt configuration stay as they are, but for
//! the programs that this needs. The tests are those that are built here: they and the product are static.

mod kernel;
mod system;

use std::fs;
use std::path::{Path, PathBuf};

use crate::task_test::install_programs;
use crate::{Result, programs};

/// The kernels to choose from, and the suite of Debian's that has each. The first is what is taken unasked.
const KERNELS: &[(&str, &str)] = &[("6.1", "bookworm"), ("6.12", "bookworm-backports")];

/// What is run unasked: the tests that depend on the host's cgroups and on its engines.
const FILTERS: &[&str] = &["oci::"];

/// How long a machine may live, in seconds.
const DEADLINE: &str = "5400";

const NEEDED: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("bsdtar", "libarchive-tools"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
];

/// What the last line of a machine begins with.
const END: &str = "the tests ended with ";

/// Makes the machine, runs it, and says how the tests ended.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (suite, filters) = parse(words)?;
    if let Some(why) = install_programs(NEEDED).first() {
        return Err(why.clone());
    }
    let place = programs::top().join("target/vm");
    fs::create_dir_all(&place).map_err(failed(&place))?;
    let system = system::image(&place)?;
    let kernel = kernel::prepare(&place, suite)?;
    let tests = tests_disk(&kernel.dir, &filters)?;

    let console = kernel.dir.join("console.log");
    let mut machine = programs::program("timeout");
    machine.args(["--foreground", "--signal=KILL", DEADLINE]);
    machine.args(["qemu-system-x86_64", "-accel", "tcg,thread=multi"]);
    // QEMU 7.2 spoils the flags at cmpxchg16b, which Linux 6.12 allocates memory with.
    machine.args(["-cpu", "max,-cx16", "-smp", "2", "-m", "3072"]);
    machine.arg("-no-reboot");
    machine.args(["-display", "none", "-monitor", "none", "-nic", "none"]);
    machine.arg("-serial");
    machine.arg(format!("file:{}", console.display()));
    machine.args(["-serial", "stdio", "-append"]);
    machine.arg("console=ttyS0 panic=-1 mitigations=off systemd.mask=serial-getty@ttyS0.service");
    machine.arg("-kernel").arg(&kernel.program);
    machine.arg("-initrd").arg(&kernel.initrd);
    // In this order, which the programs in the machine rely on. What they write is forgotten.
    for disk in [&system, &kernel.modules, &tests] {
        let disk = disk.display();
        machine.arg("-drive");
        machine.arg(format!("file={disk},format=raw,if=virtio,snapshot=on"));
    }
    let (mut end, mut skipped) = (None, 0);
    programs::run_and_hear(&mut machine, |line| {
        skipped += usize::from(line.starts_with("skipped "));
        if let Some(status) = line.strip_prefix(END) {
            end = Some(status.trim().to_owned());
        }
    })?;
    println!(
        "{skipped} skipped; the machine's own words: {}",
        console.display()
    );
    match end.as_deref() {
        Some("0") => Ok(()),
        Some(status) => Err(format!("the tests ended with {status}")),
        None => Err(format!(
            "the machine ended without a word of the tests; see {}",
            console.display()
        )),
    }
}

/// The suite of Debian's that has the kernel, and what to run.
fn parse<'w>(words: &[&'w str]) -> Result<(&'static str, Vec<&'w str>)> {
    let mut suite = KERNELS[0].1;
    let mut filters = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--kernel" => {
                let asked = words.next().copied().unwrap_or_default();
                let known = KERNELS.iter().find(|(version, _)| *version == asked);
                let known = known.ok_or_else(|| {
                    let all: Vec<_> = KERNELS.iter().map(|(version, _)| *version).collect();
                    format!("--kernel takes one of {}", all.join(", "))
                })?;
                suite = known.1;
            }
            option if option.starts_with("--") => {
                return Err(format!("unknown option {option}"));
            }
            filter => filters.push(filter),
        }
    }
    if filters.is_empty() {
        filters = FILTERS.to_vec();
    }
    Ok((suite, filters))
}

/// A tar archive with the tests, the product and what tests read, at the paths that they have here: those are compiled in.
fn tests_disk(dir: &Path, filters: &[&str]) -> Result<PathBuf> {
    let programs = [
        programs::build("start-container", "start-container", &[])?,
        programs::build("start-container-pull", "start-container-pull", &[])?,
        programs::build("tests", "guest", &[])?,
    ];
    let tests = programs::build_tests("tests", "e2e")?;
    let words = dir.join("words");
    let text = format!(
        "TESTS={}\nFILTERS='{}'\n",
        tests.display(),
        filters.join(" ")
    );
    fs::write(&words, text).map_err(failed(&words))?;

    let archive = dir.join("tests.tar");
    let mut tar = programs::program("bsdtar");
    tar.args(["-c", "-P", "-s", ",.*/target/vm/.*/words,/vm/words,", "-f"]);
    tar.arg(&archive).arg(&words).arg(&tests).args(&programs);
    tar.args(["tests/golden", "docs"].map(|name| programs::top().join(name)));
    programs::run(&mut tar)?;
    // A disk consists of whole sectors.
    programs::run(
        programs::program("truncate")
            .arg("--size=%1M")
            .arg(&archive),
    )?;
    Ok(archive)
}

/// Says what could not be done with a file.
fn failed(path: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kernels_and_filters() {
        assert_eq!(parse(&[]), Ok(("bookworm", vec!["oci::"])));
        let chosen = parse(&["--kernel", "6.12", "exec::", "oci::podman"]);
        assert_eq!(
            chosen,
            Ok(("bookworm-backports", vec!["exec::", "oci::podman"]))
        );
        assert!(parse(&["--kernel", "5.10"]).is_err_and(|why| why.contains("6.1, 6.12")));
        assert!(parse(&["--kernal"]).is_err());
    }
}
