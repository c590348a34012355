//! The machine's root filesystem: a release of Debian by debootstrap, as an ext4 image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::failed;
use crate::{Result, programs};

/// The releases to choose from. The first is what is taken unasked.
pub(super) const RELEASES: &[&str] = &["bookworm", "trixie"];
const MIRROR: &str = "http://deb.debian.org/debian";

/// systemd, what tests and the public test-suites use, and the engines with the parts that only other packages'
/// recommendations would bring.
const PACKAGES: &[&str] = &[
    "apparmor",
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "kmod",
    "apparmor",
    "attr",
    "bats",
    "busybox-static",
    "conmon",
    "containerd",
    "crun",
    "docker.io",
    "e2fsprogs",
    "gawk",
    "iproute2",
    "iptables",
    "jq",
    "libarchive-tools",
    "netavark",
    "podman",
    "procps",
    "python3",
    "runc",
    "squashfs-tools",
    "strace",
    "uidmap",
    "xz-utils",
];

/// What trixie has in packages of their own.
const TRIXIES: &[&str] = &["docker-cli"];

/// Services that would only make the boot longer: tests have daemons and profiles of their own. And a /tmp where nothing is a
/// device, as trixie's is: the root filesystems of containers are there.
const MASKED: &[&str] = &[
    "apparmor.service",
    "containerd.service",
    "docker.service",
    "docker.socket",
    "tmp.mount",
];

/// Somebody whose own systemd runs from the beginning (loginctl(1), enable-linger).
const USER: &str = "ann";

/// Sparse; the machine forgets what it writes.
const SIZE: &str = "4G";

/// The image of a release, made unless there is one of the same parts.
pub(super) fn image(place: &Path, release: &str) -> Result<PathBuf> {
    let place = place.join("systems").join(release);
    fs::create_dir_all(&place).map_err(failed(&place))?;
    let image = place.join("system.ext4");
    let made_of = place.join("made-of");
    let service = include_str!("tests.service");
    let script = include_str!("tests.sh");
    let packages = match release {
        "trixie" => [PACKAGES, TRIXIES].concat().join(","),
        _ => PACKAGES.join(","),
    };
    let parts = format!("{packages} {}\n{service}{script}", MASKED.join(" "));
    if image.is_file() && fs::read_to_string(&made_of).is_ok_and(|text| text == parts) {
        return Ok(image);
    }
    let tree = place.join("tree");
    debian(&tree, &place.join("packages"), release, &packages)?;
    let write = |name: &str, text: &str| {
        let path = tree.join(name);
        fs::write(&path, text).map_err(failed(&path))
    };
    let link = |name: String, target: &str| {
        let path = tree.join(name);
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(()),
            Err(_) => symlink(target, &path).map_err(failed(&path)),
        }
    };
    let units = "etc/systemd/system";
    let wanted = format!("{units}/default.target.wants");
    for dir in [&wanted, "usr/lib/modules", "var/lib/systemd/linger"] {
        fs::create_dir_all(tree.join(dir)).map_err(failed(&tree))?;
    }
    write("usr/local/lib/tests.sh", script)?;
    write(&format!("{units}/tests.service"), service)?;
    write(&format!("var/lib/systemd/linger/{USER}"), "")?;
    write("etc/fstab", "")?;
    write("etc/hostname", "machine\n")?;
    link(
        format!("{wanted}/tests.service"),
        &format!("/{units}/tests.service"),
    )?;
    for masked in MASKED {
        link(format!("{units}/{masked}"), "/dev/null")?;
    }
    // Gone first: half an image must not be taken for one.
    if image.exists() {
        fs::remove_file(&image).map_err(failed(&image))?;
    }
    filesystem(&tree, &image, SIZE)?;
    fs::write(&made_of, parts).map_err(failed(&made_of))?;
    Ok(image)
}

/// Installs a release with these packages, unless `done` says that the tree has them.
fn debian(tree: &Path, done: &Path, release: &str, packages: &str) -> Result<()> {
    let made_once = format!("{packages} {USER}");
    if fs::read_to_string(done).is_ok_and(|text| text == made_once) {
        return Ok(());
    }
    if tree.exists() {
        fs::remove_dir_all(tree).map_err(failed(tree))?;
    }
    let mut debootstrap = programs::program("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={packages}")]);
    programs::run(debootstrap.arg(release).arg(tree).arg(MIRROR))?;
    let mut useradd = programs::program("chroot");
    useradd.arg(tree).args(["useradd", "--create-home", USER]);
    programs::run(&mut useradd)?;
    fs::write(done, made_once).map_err(failed(done))
}

/// An ext4 image of a directory.
pub(super) fn filesystem(tree: &Path, image: &Path, size: &str) -> Result<()> {
    let mut mkfs = programs::program("mkfs.ext4");
    mkfs.args(["-q", "-F", "-d"]).arg(tree).arg(image);
    programs::run(mkfs.arg(size))
}
