//! Root of a container in the default profile and devices: those that it makes, those of its image, and the host's.

use std::fs;
use std::path::Path;

use tests::{LoopDevice, bare_host, write_file};

use crate::bare_host::all_refused;

#[test]
fn no_device_can_be_made() {
    let Some(world) = bare_host() else { return };
    let script = "for d in / /tmp /dev; do mknod $d/disk b 7 0; mknod $d/memory c 1 1; mknod $d/zero2 c 1 5; done";
    all_refused(&world, script, 9, &[": Operation not permitted"]);
}

#[test]
fn the_mode_of_a_host_device_cannot_be_changed() {
    let Some(world) = bare_host() else { return };
    let (root, _leader) = {
        let root = world.create();
        let run = world.launch_run(&root).opt("--mount=type=dev,dst=/dev");
        let leader = tests::Launch::start(run, &root);
        (root, leader)
    };
    let table = world
        .exec(&root)
        .cmd(["cat", "/proc/self/mountinfo"])
        .text();
    // What covers masked files is the host's null device, and what a /dev of the container's own has are its nodes.
    let nodes: Vec<&str> = table
        .lines()
        .filter(|line| line.contains(" - devtmpfs ") || line.split(' ').nth(3) == Some("/null"))
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    assert!(
        nodes.iter().any(|path| path.starts_with("/proc/")),
        "{table}"
    );
    assert!(nodes.contains(&"/dev/null"), "{table}");
    let mode = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(path).expect("stat");
        (
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ctime(),
            meta.ctime_nsec(),
        )
    };
    let before = mode(Path::new("/dev/null"));
    for path in &nodes {
        // Nothing would change if it succeeded, but the time of the change.
        for change in ["chmod 666", "chown 0:0"] {
            let done = world
                .exec(&root)
                .sh(&format!("{change} {path} 2>&1"))
                .done();
            let text = done.out_text();
            assert!(
                text.ends_with(": Read-only file system"),
                "{change} {path}: {text}"
            );
        }
    }
    assert_eq!(mode(Path::new("/dev/null")), before);
    // And they are devices all the same.
    let script = "echo lost > /dev/null && head -c 4 /dev/zero | wc -c && cat /proc/keys | wc -c";
    assert_eq!(world.exec(&root).sh(script).text(), "4\n0");
}

/// An image may bring device nodes, made by root of the host when it was imported.
#[test]
fn a_block_device_of_the_image_can_neither_be_opened_nor_mounted() {
    let Some(world) = bare_host() else { return };
    let file = world.dir.join("disk");
    write_file(&file, vec![b'x'; 1 << 20]);
    let device = LoopDevice::over(&file);
    let (major, minor) = device.numbers();
    let node = world.base.join("images/img/disk");
    let number = nix::sys::stat::makedev(major, minor);
    let all = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&node, nix::sys::stat::SFlag::S_IFBLK, all, number).expect("mknod");
    let script = "cat /disk | head -c 4; (exec 3>> /disk); mount -t ext4 /disk /mnt; mount -o loop /disk /mnt";
    let reasons = [
        ": Permission denied",
        ": Operation not permitted",
        "are you root?)",
        ": No such file or directory",
    ];
    all_refused(&world, script, 4, &reasons);
}
