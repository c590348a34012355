//! destroy-fs: everything goes, whatever lies on it, and nothing else does.

use std::cell::Cell;
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use runtime::rootfs;
use shim::sys::mount::Propagation;

use crate::host::{mount_table, mount_tmpfs, mounts_below, names, on_host, plain_bind, unmount};

#[test]
fn it_can_be_done_twice_and_to_a_name_that_nobody_knows() {
    on_host(Propagation::Private, |host| {
        host.destroy("00000000000000000000000000000000").unwrap();
        let made = host.create();
        let stopped = Cell::new(0);
        let stop = |path: &Path| {
            assert_eq!(path, made.rootfs);
            assert!(path.join("bin/tool").exists(), "stopped before taken down");
            stopped.set(stopped.get() + 1);
            Ok(())
        };
        rootfs::destroy(&host.dirs, &made.guid, stop).unwrap();
        assert_eq!(stopped.get(), 1);
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn a_leader_that_cannot_be_stopped_keeps_everything() {
    on_host(Propagation::Private, |host| {
        let made = host.create();
        let refusal = || shim::Error::new("stop leader").because("it will not");
        let result = rootfs::destroy(&host.dirs, &made.guid, |_| Err(refusal()));
        assert_eq!(result, Err(refusal()));
        assert!(made.rootfs.join("bin/tool").exists());
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn volumes_that_are_bound_below_are_not_touched() {
    on_host(Propagation::Shared, |host| {
        let (one, two) = (host.volume("one"), host.volume("two"));
        let before = mount_table();
        let made = host.create();
        host.bind(&one, &made.rootfs.join("data")).unwrap();
        host.bind(&two, &made.rootfs.join("data/nested")).unwrap();
        plain_bind(&one, &made.rootfs.join("bin"), MsFlags::empty());
        assert_eq!(mounts_below(&made.rootfs).len(), 4);
        host.destroy(&made.guid).unwrap();
        for volume in [&one, &two] {
            assert!(volume.join("file").exists());
        }
        assert_eq!(mount_table(), before);
        host.assert_clean();
    });
}

#[test]
fn the_hosts_own_dev_and_sys_survive_a_recursive_bind_on_a_shared_host() {
    on_host(Propagation::Shared, |host| {
        let before = mount_table();
        assert!(before.contains(" /dev/pts "), "the test needs /dev/pts");
        let made = host.create();
        for name in ["dev", "sys"] {
            let from = Path::new("/").join(name);
            plain_bind(&from, &made.rootfs.join(name), MsFlags::MS_REC);
        }
        assert!(mounts_below(&made.rootfs).contains(&made.rootfs.join("dev/pts")));
        host.destroy(&made.guid).unwrap();
        assert_eq!(mount_table(), before);
        assert!(Path::new("/dev/pts/ptmx").exists());
        host.assert_clean();
    });
}

#[test]
fn copies_in_other_mount_namespaces_go_as_well() {
    on_host(Propagation::Shared, |host| {
        let made = host.create();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (gone, is_gone) = std::sync::mpsc::channel::<()>();
        let rootfs = made.rootfs.clone();
        plain_bind(Path::new("/dev"), &made.rootfs.join("dev"), MsFlags::MS_REC);
        // Another service of the host, with a copy of its mounts.
        let service = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let before = mounts_below(&rootfs).len();
            ready.send(before).unwrap();
            is_gone.recv().unwrap();
            (mounts_below(&rootfs), Path::new("/dev/pts/ptmx").exists())
        });
        assert!(is_ready.recv().unwrap() > 2);
        host.destroy(&made.guid).unwrap();
        gone.send(()).unwrap();
        assert_eq!(service.join().unwrap(), (Vec::new(), true));
        host.assert_clean();
    });
}

#[test]
fn stacked_mounts_go_and_so_does_one_whose_files_are_in_use() {
    on_host(Propagation::Shared, |host| {
        let made = host.create();
        let open = std::fs::File::open(made.rootfs.join("bin/tool")).unwrap();
        plain_bind(&made.rootfs, &made.rootfs, MsFlags::empty());
        mount_tmpfs(&made.rootfs);
        plain_bind(&host.volume("top"), &made.rootfs, MsFlags::empty());
        host.destroy(&made.guid).unwrap();
        assert!(host.temp.join("top/file").exists());
        drop(open);
        host.assert_clean();
    });
}

#[test]
fn a_directory_that_create_did_not_make_is_refused_unless_it_is_empty() {
    on_host(Propagation::Private, |host| {
        let foreign = host.dirs.base.join("subcontainers/foreign");
        std::fs::create_dir_all(&foreign).unwrap();
        std::fs::write(foreign.join("file"), "x").unwrap();
        let stop = |_: &Path| panic!("nothing is stopped");
        let text = rootfs::destroy(&host.dirs, "foreign", stop)
            .expect_err("refused")
            .to_string();
        assert!(
            text.contains("no record") && text.contains("hint: "),
            "{text}"
        );
        assert!(foreign.join("file").exists());
        std::fs::remove_file(foreign.join("file")).unwrap();
        host.destroy("foreign").unwrap();
        std::os::unix::fs::symlink(&host.temp, &foreign).unwrap();
        host.destroy("foreign").expect_err("a symlink");
        assert!(host.images().exists());
        std::fs::remove_file(&foreign).unwrap();
        host.assert_clean();
    });
}

#[test]
fn what_is_mounted_in_the_writable_layer_is_named_and_kept() {
    on_host(Propagation::Private, |host| {
        let made = host.create();
        let upper = host
            .dirs
            .data
            .join("containers")
            .join(&made.guid)
            .join("upper");
        let volume = host.volume("volume");
        std::fs::create_dir_all(upper.join("a/b")).unwrap();
        for (place, source) in [("a/b", &volume), ("etc/hosts", &volume.join("file"))] {
            let place = upper.join(place);
            plain_bind(source, &place, MsFlags::empty());
            let text = host.destroy(&made.guid).expect_err("refused").to_string();
            assert!(text.contains(place.to_str().unwrap()), "{text}");
            assert!(text.contains("mounted"), "{text}");
            assert!(volume.join("file").exists());
            unmount(&place);
            if place.ends_with("b") {
                // What was not removed by the first attempt is there for the second.
                std::fs::create_dir_all(upper.join("etc")).unwrap();
                std::fs::write(upper.join("etc/hosts"), "").unwrap();
            }
        }
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn after_a_reboot_what_is_left_on_disk_is_recognised() {
    on_host(Propagation::Private, |host| {
        let containers = host.dirs.data.join("containers");
        let forget_the_boot = |guid: &str| {
            unmount(&host.dirs.base.join("subcontainers").join(guid));
            std::fs::remove_dir_all(&host.dirs.state).unwrap();
            std::fs::write(containers.join(guid).join("boot"), "another boot\n").unwrap();
        };
        let made = host.create();
        forget_the_boot(&made.guid);
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
        // And the next create clears what nobody destroys.
        let (old, current) = (host.create(), host.create());
        forget_the_boot(&old.guid);
        std::fs::write(containers.join(&old.guid).join("upper/kept"), "x").unwrap();
        let next = host.create();
        assert_eq!(next.warning, None);
        let mut expected = [current.guid.clone(), next.guid.clone()];
        expected.sort();
        assert_eq!(names(&containers), expected);
        for guid in [&current.guid, &next.guid, &old.guid] {
            host.destroy(guid).unwrap();
        }
        host.assert_clean();
    });
}

#[test]
fn a_layer_that_a_killed_create_had_attached_for_an_older_kernel_goes() {
    on_host(Propagation::Private, |host| {
        let made = host.create();
        let data = host.dirs.data.join("containers").join(&made.guid);
        for stage in ["stage-lower", "stage-upper"] {
            mount_tmpfs(&data.join(stage));
            std::fs::write(data.join(stage).join("file"), "x").unwrap();
        }
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}
