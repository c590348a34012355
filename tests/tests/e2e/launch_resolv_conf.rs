//! `launch --resolv-conf`: the host's file inside, in place of whatever the image has there.

use std::fs;
use std::os::unix::fs::symlink;

use tests::{World, tool, write_file};

use super::launch_mounts::launch;

#[test]
fn the_hosts_resolv_conf() {
    let Some(world) = World::new() else { return };
    let given = world.dir.join("resolv");
    write_file(&given, "nameserver 192.0.2.1\n");
    let link = world.dir.join("link");
    symlink(&given, &link).expect("symlink");
    let option = format!("--resolv-conf={}", link.display());
    let stub = world.dir.join("stub");
    write_file(&stub, "outside\n");
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        stub.to_str().expect("path"),
        "/nowhere",
    ] {
        let root = world.create();
        symlink(target, root.join("etc/resolv.conf")).expect("symlink");
        let _leader = launch(&world, &root, &[&option]);
        let seen = world
            .exec(&root)
            .sh("cat /etc/resolv.conf; stat -c '%a %u %F' /etc/resolv.conf; ls -A /etc/.res*");
        let done = seen.done();
        assert_eq!(done.out_text(), "nameserver 192.0.2.1\n644 0 regular file");
        assert_eq!(fs::read_to_string(&stub).expect("stub"), "outside\n");
        assert_eq!(
            fs::read_to_string(root.join("etc/resolv.conf")).expect("file"),
            "nameserver 192.0.2.1\n"
        );
    }
    let root = world.create();
    let _leader = launch(&world, &root, &["--resolv-conf"]);
    assert_eq!(
        fs::read(root.join("etc/resolv.conf")).expect("file"),
        fs::read("/etc/resolv.conf").expect("the host's")
    );
}

#[test]
fn resolv_conf_is_written_before_it_is_covered() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let given = world.dir.join("resolv");
    write_file(&given, "nameserver 192.0.2.1\n");
    let options = [
        format!("--resolv-conf={}", given.display()),
        "--mount=type=tmpfs,dst=/etc/resolv.conf.d".to_owned(),
        "--read-only".to_owned(),
    ];
    let _leader = launch(&world, &root, &options);
    assert_eq!(
        world.exec(&root).cmd(["cat", "/etc/resolv.conf"]).text(),
        "nameserver 192.0.2.1"
    );
}

/// Whatever mask the caller has, every user inside can read it.
#[test]
fn resolv_conf_has_its_mode_whatever_the_callers_mask_is() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let sh = tool("sh");
    let masked = [
        sh.to_str().expect("path"),
        "-c",
        "umask 077; exec \"$@\"",
        "sh",
    ];
    let run = world.launch_run(&root).opt("--resolv-conf").wrap(masked);
    let text = run.cmd(["stat", "-c", "%a", "/etc/resolv.conf"]).text();
    assert_eq!(text, "644");
}
