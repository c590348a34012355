//! SIGKILL of create-fs at any moment: the next create, or destroy, leaves nothing of it.

use std::path::PathBuf;
use std::process::Command;

use runtime::config::Dirs;
use runtime::rootfs::{self, Ids};
use shim::sys::mount::Propagation;

use crate::host::{mounts_below, names, on_host, squashfs, until};

const DIRS: &str = "ROOTFS_TEST_CREATE_IN";

/// The other process of the test below: makes root filesystems until it is killed.
#[test]
fn create_for_ever() {
    let Some(temp) = std::env::var_os(DIRS).map(PathBuf::from) else {
        return;
    };
    let dirs = Dirs {
        base: temp.join("base"),
        state: temp.join("state"),
        data: temp.join("data"),
    };
    loop {
        rootfs::create(&dirs, "packed", None, &Ids::AsOnDisk).expect("create");
    }
}

#[test]
fn killed_at_any_moment() {
    on_host(Propagation::Shared, |host| {
        let packed = host.make_image("packed");
        squashfs(&packed, &host.images().join("packed.squashfs"));
        std::fs::remove_dir_all(&packed).unwrap();
        let records = host.dirs.state.join("subcontainers");
        let mut half_made = 0;
        for round in 0..60 {
            let known = names(&records).len();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "killed::create_for_ever", "--nocapture"])
                .env(DIRS, &host.temp)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            until(|| names(&records).len() > known);
            // A different moment in every round: between one and some thousand looks at the directory.
            for _ in 0..round * round / 4 {
                names(&records);
            }
            child.kill().unwrap();
            child.wait().unwrap();
            half_made += names(&records)
                .iter()
                .filter(|name| name.contains('.'))
                .count();
            if round % 2 == 0 {
                // By name, half made or not.
                for name in names(&records) {
                    host.destroy(name.trim_end_matches(".creating")).unwrap();
                }
                host.assert_clean();
            } else {
                // By the next create.
                let made = host.create();
                assert_eq!(made.warning, None);
                let left = names(&records);
                assert!(left.iter().all(|name| name.len() == 32), "{left:?}");
                assert_eq!(names(&host.dirs.data.join("containers")), left);
                assert_eq!(names(&host.dirs.base.join("subcontainers")), left);
                assert_eq!(mounts_below(&host.dirs.base).len(), left.len());
                for guid in left {
                    host.destroy(&guid).unwrap();
                }
                host.assert_clean();
            }
        }
        assert!(half_made > 0, "no create was killed half way");
    });
}

#[test]
fn many_at_once_do_not_take_each_other_for_dead() {
    on_host(Propagation::Shared, |host| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let dirs = host.dirs.clone();
                // A thread inherits the mount namespace of its maker.
                std::thread::spawn(move || {
                    for _ in 0..10 {
                        let made =
                            rootfs::create(&dirs, "img", None, &Ids::AsOnDisk).expect("create");
                        assert!(made.rootfs.join("bin/tool").exists());
                        assert_eq!(made.warning, None);
                        rootfs::destroy(&dirs, &made.guid, |_| Ok(())).expect("destroy");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        host.assert_clean();
    });
}
