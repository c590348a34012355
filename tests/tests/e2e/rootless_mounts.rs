//! Mounts of an ordinary user's container.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};

use nix::sys::signal::Signal;
use tests::write_file;

use super::rootless::User;

fn has_mounts(ann: &User) {
    let _ = ann.import();
    let photos = ann.home.join("photos");
    let volume = ann.base().join("volumes/main");
    for place in [&photos, &volume] {
        write_file(place.join("file"), "ann's\n");
    }
    for place in [&photos, &volume, &photos.join("file"), &volume.join("file")] {
        chown(place, Some(ann.uid), Some(ann.uid)).expect("chown");
    }
    let root = ann.create();
    let launched = ann
        .launch(&root)
        .opt(format!(
            "--mount=type=bind,src={},dst=/photos,ro",
            photos.display()
        ))
        .opts([
            "--mount=type=volume,src=main,dst=/volume",
            "--mount=type=tmpfs,dst=/t,size=1m",
        ])
        .opts(["--mount=type=dev", "--share=sys", "--resolv-conf"])
        .spawn();
    let sh = |script: &str| ann.exec(&root).sh(script).done();
    let seen = sh(
        "cat /photos/file; stat -c %u /photos/file /volume/file /t; echo x > /volume/new; echo x > /dev/null; \
                   test -s /etc/resolv.conf && test -d /sys/kernel && exec 3<>/dev/ptmx && ls /dev/pts",
    );
    assert_eq!(
        seen.expect_ok(),
        "ann's\n0\n0\n0\n0\nptmx",
        "{}",
        seen.err_text()
    );
    assert_eq!(
        fs::metadata(volume.join("new")).expect("written").uid(),
        ann.uid
    );
    assert!(
        sh("touch /photos/x")
            .err_text()
            .contains("Read-only file system")
    );

    let entry = format!("type=bind,src={},dst=/later,ro", photos.display());
    let add = ann.run(["subcontainer", "mount", "add"]).rootfs(&root);
    let _ = add.cmd([entry.as_str()]).text();
    assert_eq!(sh("cat /later/file").expect_ok(), "ann's");
    let list = ann
        .run(["subcontainer", "mount", "list"])
        .rootfs(&root)
        .text();
    assert!(list.contains("/later "), "{list}");
    let _ = ann
        .run(["subcontainer", "mount", "rm"])
        .rootfs(&root)
        .cmd(["/later"])
        .text();
    assert_eq!(sh("ls /later").expect_ok(), "");
    launched.signal(Signal::SIGTERM);
    launched.finish().expect_code(0);
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn a_user_with_granted_ids_has_mounts() {
    let Some(ann) = User::granted() else { return };
    has_mounts(&ann);
}

#[test]
fn a_user_with_one_id_has_mounts() {
    let Some(ann) = User::single() else { return };
    has_mounts(&ann);
}
