//! The machine's root filesystem: Debian by debootstrap, as an ext4 image.

use std::fs;
use std::path::{Path, PathBuf};

use super::failed;
use crate::{Result, programs};

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";

/// systemd, what tests use, and podman with the parts that only other packages' recommendations would bring.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "kmod",
    "attr",
    "busybox-static",
    "conmon",
    "crun",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "libarchive-tools",
    "netavark",
    "podman",
    "procps",
    "runc",
    "squashfs-tools",
    "strace",
    "uidmap",
];

/// Somebody whose own systemd runs from the beginning (loginctl(1), enable-linger).
const USER: &str = "ann";

/// Sparse; the machine forgets what it writes.
const SIZE: &str = "4G";

/// The image, made unless there is one of the same parts.
pub(super) fn image(place: &Path) -> Result<PathBuf> {
    let image = place.join("system.ext4");
    let made_of = place.join("system.made-of");
    let service = include_str!("tests.service");
    let script = include_str!("tests.sh");
    let parts = format!("{SUITE} {}\n{service}{script}", PACKAGES.join(","));
    if image.is_file() && fs::read_to_string(&made_of).is_ok_and(|text| text == parts) {
        return Ok(image);
    }
    let tree = place.join("system");
    let packages = place.join("system.packages");
    let list = PACKAGES.join(",");
    let made_once = format!("{list} {USER}");
    if !fs::read_to_string(&packages).is_ok_and(|text| text == made_once) {
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(failed(&tree))?;
        }
        let mut debootstrap = programs::program("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={list}"), SUITE]);
        programs::run(debootstrap.arg(&tree).arg(MIRROR))?;
        let mut useradd = programs::program("chroot");
        useradd.arg(&tree).args(["useradd", "--create-home", USER]);
        programs::run(&mut useradd)?;
        fs::write(&packages, made_once).map_err(failed(&packages))?;
    }
    let write = |name: &str, text: &str| {
        let path = tree.join(name);
        fs::write(&path, text).map_err(failed(&path))
    };
    let wanted = "etc/systemd/system/default.target.wants";
    for dir in [wanted, "usr/lib/modules", "var/lib/systemd/linger"] {
        fs::create_dir_all(tree.join(dir)).map_err(failed(&tree))?;
    }
    write("usr/local/lib/tests.sh", script)?;
    write("etc/systemd/system/tests.service", service)?;
    write(&format!("var/lib/systemd/linger/{USER}"), "")?;
    write("etc/fstab", "")?;
    write("etc/hostname", "machine\n")?;
    let link = tree.join(wanted).join("tests.service");
    if fs::symlink_metadata(&link).is_err() {
        std::os::unix::fs::symlink("/etc/systemd/system/tests.service", &link)
            .map_err(failed(&link))?;
    }
    // Gone first: half an image must not be taken for one.
    if image.exists() {
        fs::remove_file(&image).map_err(failed(&image))?;
    }
    let mut mkfs = programs::program("mkfs.ext4");
    mkfs.args(["-q", "-F", "-d"]).arg(&tree);
    programs::run(mkfs.arg(&image).arg(SIZE))?;
    fs::write(&made_of, parts).map_err(failed(&made_of))?;
    Ok(image)
}
