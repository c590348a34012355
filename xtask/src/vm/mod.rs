//! `cargo xtask vm [--kernel 6.1|6.12] [--system bookworm|trixie] [FILTER...]`: the end-to-end tests in a whole Debian system,
//! with systemd and cgroups of version 2 alone, under a kernel of Debian's. QEMU emulates the processor, so it runs where there
//! is no KVM, ten to twenty times slower than the machine itself. The system brings its engines along (podman, Docker,
//! containerd, crun, runc): tests that need one find it there.
//!
//! `--conformance DIR [WORD...]` has `cargo xtask conformance DIR WORD...` run there instead. DIR is handed in as a disk.
//!
//! All of it is made below `target/vm` and kept there; the host's packages and its apt configuration stay as they are, but for
//! the programs that this needs. The tests are those that are built here: they and the product are static.

mod kernel;
mod system;

use std::fs;
use std::path::{Path, PathBuf};

use crate::task_test::install_programs;
use crate::{Result, programs, task_build};

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

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'w> {
    /// The suite of Debian's that has the kernel.
    kernel: &'static str,
    /// The release that the system is.
    system: &'static str,
    /// The public test-suites, if they are to be run, and not our tests.
    suites: Option<PathBuf>,
    /// Filters of our tests, or words for the suites.
    words: Vec<&'w str>,
}

/// Makes the machine, runs it, and says how the tests ended.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let wanted = parse(words)?;
    if let Some(why) = install_programs(NEEDED).first() {
        return Err(why.clone());
    }
    let place = programs::top().join("target/vm");
    fs::create_dir_all(&place).map_err(failed(&place))?;
    let system = system::image(&place, wanted.system)?;
    let kernel = kernel::prepare(&place, wanted.kernel)?;
    let mut disks = vec![system, kernel.modules.clone()];
    match &wanted.suites {
        None => disks.push(tests_disk(&kernel.dir, &wanted.words)?),
        Some(suites) => {
            disks.push(conformance_disk(&kernel.dir, suites, &wanted.words)?);
            disks.push(suites_disk(&kernel.dir, suites)?);
        }
    }
    boot(&kernel, &disks)
}

/// Boots it with these disks, and hears how the tests end.
fn boot(kernel: &kernel::Kernel, disks: &[PathBuf]) -> Result<()> {
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
    for disk in disks {
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

/// What the words ask for.
fn parse<'w>(words: &[&'w str]) -> Result<Wanted<'w>> {
    let mut wanted = Wanted {
        kernel: KERNELS[0].1,
        system: system::RELEASES[0],
        suites: None,
        words: Vec::new(),
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match *word {
            "--kernel" => {
                let asked = rest.next().copied().unwrap_or_default();
                let known = KERNELS.iter().find(|(version, _)| *version == asked);
                let known = known.ok_or_else(|| {
                    let all: Vec<_> = KERNELS.iter().map(|(version, _)| *version).collect();
                    format!("--kernel takes one of {}", all.join(", "))
                })?;
                wanted.kernel = known.1;
            }
            "--system" => {
                let asked = rest.next().copied().unwrap_or_default();
                let known = system::RELEASES.iter().find(|name| **name == asked);
                wanted.system = known.ok_or_else(|| {
                    format!("--system takes one of {}", system::RELEASES.join(", "))
                })?;
            }
            "--conformance" => {
                let dir = Path::new(rest.next().copied().unwrap_or_default());
                wanted.suites = Some(fs::canonicalize(dir).map_err(failed(dir))?);
                // Options among them are the other task's.
                wanted.words.extend(rest.by_ref());
            }
            option if option.starts_with("--") => {
                return Err(format!("unknown option {option}"));
            }
            filter => wanted.words.push(filter),
        }
    }
    if wanted.words.is_empty() && wanted.suites.is_none() {
        wanted.words = FILTERS.to_vec();
    }
    Ok(wanted)
}

/// A disk with the tests, the product and what tests read. Why a test has failed is told at once, and not at a far end.
fn tests_disk(dir: &Path, filters: &[&str]) -> Result<PathBuf> {
    let tests = programs::build_tests("tests", "e2e")?;
    let words = format!(
        "cd /\nexec {} --nocapture --test-threads=2 {}\n",
        tests.display(),
        filters.join(" ")
    );
    let files = [
        programs::build("start-container", "start-container", &[])?,
        programs::build("start-container-pull", "start-container-pull", &[])?,
        programs::build("tests", "guest", &[])?,
        tests,
        programs::top().join("tests/golden"),
        programs::top().join("docs"),
    ];
    words_disk(dir, &words, &files)
}

/// A disk with the product and with this program, which runs the suites there. runc's asks Go for the architecture's name, and
/// the machine has no Go.
fn conformance_disk(dir: &Path, suites: &Path, words: &[&str]) -> Result<PathBuf> {
    let product = task_build::release_binary_or_named()?;
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let words = format!(
        "printf '#!/bin/sh\\necho amd64\\n' > /usr/local/bin/go\nchmod 755 /usr/local/bin/go\n\
         mkdir -p {suites}\nmount /dev/vdd {suites}\nexport START_CONTAINER_BIN={}\nexec {} conformance {suites} {}\n",
        product.display(),
        own.display(),
        words.join(" "),
        suites = suites.display(),
    );
    let docs = programs::top().join("docs");
    words_disk(dir, &words, &[product, own, docs])
}

/// An image of the suites, with as much room again.
fn suites_disk(dir: &Path, suites: &Path) -> Result<PathBuf> {
    let used = programs::output_of(programs::program("du").arg("-sm").arg(suites))?;
    let used = String::from_utf8_lossy(&used);
    let used = used.split_whitespace().next().map(str::parse::<u64>);
    let Some(Ok(used)) = used else {
        return Err(format!("du does not say how large {} is", suites.display()));
    };
    let image = dir.join("suites.ext4");
    if image.exists() {
        fs::remove_file(&image).map_err(failed(&image))?;
    }
    system::filesystem(suites, &image, &format!("{}M", 2 * used + 64))?;
    Ok(image)
}

/// A tar archive with a script, which the machine runs, and files at the paths that they have here: those are compiled in.
fn words_disk(dir: &Path, text: &str, files: &[PathBuf]) -> Result<PathBuf> {
    let words = dir.join("words");
    fs::write(&words, text).map_err(failed(&words))?;
    let archive = dir.join("tests.tar");
    let mut tar = programs::program("bsdtar");
    tar.args(["-c", "-P", "-s", ",.*/target/vm/.*/words,/vm/words,", "-f"]);
    programs::run(tar.arg(&archive).arg(&words).args(files))?;
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
    fn words_are_kernels_systems_and_filters() {
        let unasked = parse(&[]).unwrap();
        assert_eq!((unasked.kernel, unasked.system), ("bookworm", "bookworm"));
        assert_eq!(unasked.words, ["oci::"]);
        let words = [
            "--kernel",
            "6.12",
            "exec::",
            "--system",
            "trixie",
            "oci::podman",
        ];
        let chosen = parse(&words).unwrap();
        assert_eq!(
            (chosen.kernel, chosen.system),
            ("bookworm-backports", "trixie")
        );
        assert_eq!(chosen.words, ["exec::", "oci::podman"]);
        assert!(parse(&["--kernel", "5.10"]).is_err_and(|why| why.contains("6.1, 6.12")));
        assert!(parse(&["--system"]).is_err_and(|why| why.contains("bookworm, trixie")));
        assert!(parse(&["--kernal"]).is_err());
        let suites = parse(&["--conformance", "/", "--systemd-cgroup", "crun"]).unwrap();
        assert_eq!(suites.suites.as_deref(), Some(Path::new("/")));
        assert_eq!(suites.words, ["--systemd-cgroup", "crun"]);
    }
}
