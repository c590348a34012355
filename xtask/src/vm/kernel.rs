//! The machine's kernel: Debian's for virtual machines, from its package, which is unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};

use super::failed;
use super::system::filesystem;
use crate::{Result, programs};

/// For virtual machines; it brings the newest of its suite.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// What the kernel needs to find its disks, in this order. What is missing is part of it already.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
];

/// What QEMU is given.
pub(super) struct Kernel {
    /// Where all of this is, and what belongs to one machine.
    pub(super) dir: PathBuf,
    pub(super) program: PathBuf,
    pub(super) initrd: PathBuf,
    /// An ext4 image with all modules.
    pub(super) modules: PathBuf,
}

/// The kernel of a suite. What has been fetched once is kept; to have a newer one, remove its directory.
pub(super) fn prepare(place: &Path, suite: &str) -> Result<Kernel> {
    let dir = place.join("kernels").join(suite);
    let kernel = Kernel {
        dir: dir.clone(),
        program: dir.join("kernel"),
        initrd: dir.join("initrd"),
        modules: dir.join("modules.ext4"),
    };
    if !kernel.program.is_file() {
        fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let package = fetch(&dir, suite)?;
        unpack(&dir, &package, &kernel)?;
    }
    initrd(&dir, &kernel.initrd)?;
    Ok(kernel)
}

/// Downloads the package, with lists of its own: the host's apt knows nothing of it.
fn fetch(dir: &Path, suite: &str) -> Result<PathBuf> {
    let lists = dir.join("apt");
    let make = |name: &str| {
        let path = lists.join(name);
        fs::create_dir_all(&path).map_err(failed(&path))
    };
    make("lists/partial")?;
    make("cache/archives/partial")?;
    let sources = lists.join("sources.list");
    let text = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {suite} main\n"
    );
    fs::write(&sources, text).map_err(failed(&sources))?;
    let apt = |name: &str| {
        let mut command = programs::program(name);
        for (option, path) in [
            ("Etc::SourceList", sources.clone()),
            ("Etc::SourceParts", "-".into()),
            ("State::Lists", lists.join("lists")),
            ("Cache", lists.join("cache")),
        ] {
            command.arg("-o");
            command.arg(format!("Dir::{option}={}", path.display()));
        }
        command.args(["-o", "APT::Sandbox::User=root"]);
        command.current_dir(dir);
        command
    };
    programs::run(apt("apt-get").args(["update", "--quiet"]))?;
    let depends = programs::output_of(apt("apt-cache").args(["depends", PACKAGE]))?;
    let depends = String::from_utf8_lossy(&depends);
    let name = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or_else(|| format!("{suite} has no {PACKAGE}"))?;
    programs::run(apt("apt-get").args(["download", "--quiet", name]))?;
    only(dir, |file| {
        file.starts_with("linux-image-") && file.ends_with(".deb")
    })
}

/// Takes apart what was downloaded. The kernel itself comes last: it says that all is there.
fn unpack(dir: &Path, package: &Path, kernel: &Kernel) -> Result<()> {
    let tree = dir.join("tree");
    programs::run(
        programs::program("dpkg-deb")
            .arg("-x")
            .args([package, &tree]),
    )?;
    let modules = tree.join("lib/modules");
    let version = only(&modules, |_| true)?;
    let version = version.file_name().unwrap_or_default();
    programs::run(
        programs::program("depmod")
            .arg("-b")
            .arg(&tree)
            .arg(version),
    )?;
    filesystem(&modules, &kernel.modules, "256M")?;
    let program = only(&tree.join("boot"), |file| file.starts_with("vmlinuz-"))?;
    fs::copy(program, &kernel.program)
        .map(drop)
        .map_err(failed(&kernel.program))
}

/// busybox, the modules for the disks, and the script that mounts them.
fn initrd(dir: &Path, place: &Path) -> Result<()> {
    let tree = dir.join("initrd.tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(failed(&tree))?;
    }
    for name in ["bin", "dev", "modules", "root"] {
        let path = tree.join(name);
        fs::create_dir_all(&path).map_err(failed(&path))?;
    }
    let busybox = programs::find("busybox").ok_or("busybox is not there")?;
    let init = tree.join("init");
    fs::copy(busybox, tree.join("bin/busybox")).map_err(failed(&tree))?;
    fs::write(&init, include_str!("initrd.sh")).map_err(failed(&init))?;
    programs::run(programs::program("chmod").arg("755").arg(&init))?;
    let version = only(&dir.join("tree/lib/modules"), |_| true)?;
    for (number, module) in MODULES.iter().enumerate() {
        let target = tree.join(format!("modules/{number}.ko"));
        let plain = version.join("kernel").join(format!("{module}.ko"));
        let packed = plain.with_extension("ko.xz");
        if plain.is_file() {
            fs::copy(&plain, &target).map_err(failed(&plain))?;
        } else if packed.is_file() {
            let xz = programs::output_of(programs::program("xz").arg("-dc").arg(&packed))?;
            fs::write(&target, xz).map_err(failed(&target))?;
        }
    }
    let mut archive = programs::program("bsdtar");
    archive.args(["-c", "--format", "newc", "-f"]).arg(place);
    programs::run(archive.arg("-C").arg(&tree).arg("."))
}

/// The one file of a directory that is meant.
fn only(dir: &Path, is_meant: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).map_err(failed(dir))?;
    let mut found = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&is_meant));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry.path()),
        _ => Err(format!(
            "not one file, but none or several, in {}",
            dir.display()
        )),
    }
}
