//! Id maps of bind mounts: ids on disk and ids seen, on every filesystem that the machine has.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use nix::mount::MsFlags;
use runtime::bind_mount::{BindMount, bind};
use runtime::rootfs::{self, Ids};
use shim::idmap::{IdMap, user_namespace};
use shim::sys::mount::Propagation;

use crate::host::{chown, mount_line, mount_table, mount_tmpfs, on_host, unmount};

const MAP_10: &[(u32, u32, u32)] = &[(0, 100_000, 10)];

fn lines(map: &[(u32, u32, u32)]) -> Vec<IdMap> {
    let line = |&(from, to, range): &(u32, u32, u32)| IdMap { from, to, range };
    map.iter().map(line).collect()
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

fn owned(path: &Path, id: u32) {
    std::fs::write(path, "").unwrap();
    chown(path, id, id);
}

#[test]
fn ids_are_mapped_on_disk_and_in_memory_and_in_both_directions() {
    on_host(Propagation::Shared, |host| {
        let made = host.create();
        let memory = host.temp.join("memory");
        mount_tmpfs(&memory);
        for (name, volume) in [("disk", host.volume("disk")), ("memory", memory)] {
            owned(&volume.join("zero"), 0);
            owned(&volume.join("nine"), 9);
            owned(&volume.join("ten"), 10);
            let target = made.rootfs.join(name);
            let request = BindMount {
                idmap: lines(MAP_10),
                ..host.request(&volume, &target)
            };
            bind(&request).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(owner(&target.join("zero")), (100_000, 100_000));
            assert_eq!(owner(&target.join("nine")), (100_009, 100_009));
            // What has no line belongs to nobody.
            assert_eq!(owner(&target.join("ten")), (65534, 65534));
            chown(&target.join("zero"), 100_005, 100_006);
            assert_eq!(owner(&volume.join("zero")), (5, 6));
            // Ids without a line cannot be stored.
            let new = std::fs::write(target.join("new"), "").map_err(|error| error.raw_os_error());
            assert_eq!(new, Err(Some(nix::errno::Errno::EOVERFLOW as i32)));
        }
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn several_lines_and_one_id() {
    on_host(Propagation::Private, |host| {
        let volume = host.volume("volume");
        let made = host.create();
        for id in [0, 70, 1000] {
            owned(&volume.join(id.to_string()), id);
        }
        let target = made.rootfs.join("data");
        let request = BindMount {
            idmap: lines(&[(70, 0, 1), (0, 70, 1), (1000, 2000, 100)]),
            readonly: true,
            ..host.request(&volume, &target)
        };
        bind(&request).unwrap();
        for (on_disk, seen) in [("70", 0), ("0", 70), ("1000", 2000)] {
            assert_eq!(owner(&target.join(on_disk)), (seen, seen), "{on_disk}");
        }
        let line = mount_line(&target).unwrap();
        assert!(line.contains(" ro,") && line.contains("idmapped"), "{line}");
        // A single file takes a map as well.
        let file = BindMount {
            idmap: lines(&[(70, 7, 1)]),
            file: true,
            ..host.request(&volume.join("70"), &made.rootfs.join("file"))
        };
        bind(&file).unwrap();
        assert_eq!(owner(&made.rootfs.join("file")), (7, 7));
    });
}

#[test]
fn the_root_of_the_hosts_own_filesystem_can_be_mapped() {
    on_host(Propagation::Shared, |host| {
        let made = host.create();
        let target = made.rootfs.join("data");
        let request = BindMount {
            idmap: lines(MAP_10),
            readonly: true,
            ..host.request(Path::new("/"), &target)
        };
        bind(&request).unwrap();
        assert_eq!(owner(&target.join("etc")), (100_000, 100_000));
        host.destroy(&made.guid).unwrap();
        assert!(Path::new("/etc/passwd").exists());
        host.assert_clean();
    });
}

#[test]
fn a_source_that_is_mapped_already_gets_the_new_map_from_its_ids_on_disk() {
    on_host(Propagation::Shared, |host| {
        let volume = host.volume("volume");
        owned(&volume.join("five"), 5);
        let (first, second) = (host.temp.join("first"), host.temp.join("second"));
        let request = BindMount {
            idmap: lines(MAP_10),
            ..host.request(&volume, &first)
        };
        bind(&request).unwrap();
        assert_eq!(owner(&first.join("five")), (100_005, 100_005));
        for recursive in [false, true] {
            let request = BindMount {
                idmap: lines(&[(5, 77, 1)]),
                recursive,
                ..host.request(&first, &second)
            };
            bind(&request).expect("Linux 6.15 is needed");
            assert_eq!(owner(&second.join("five")), (77, 77));
            unmount(&second);
        }
        // Without a map the source's stays.
        host.bind(&first, &second).unwrap();
        assert_eq!(owner(&second.join("five")), (100_005, 100_005));
    });
}

#[test]
fn recursively_every_mount_is_mapped_or_the_one_that_cannot_be_is_named() {
    on_host(Propagation::Shared, |host| {
        let volume = host.volume("volume");
        let sub = volume.join("sub");
        mount_tmpfs(&sub);
        owned(&sub.join("three"), 3);
        let made = host.create();
        let request = BindMount {
            idmap: lines(MAP_10),
            recursive: true,
            ..host.request(&volume, &made.rootfs.join("new/place"))
        };
        bind(&request).unwrap();
        let seen = made.rootfs.join("new/place/sub/three");
        assert_eq!(owner(&seen), (100_003, 100_003));
        let refusing = volume.join("proc");
        std::fs::create_dir(&refusing).unwrap();
        nix::mount::mount(
            Some("proc"),
            &refusing,
            Some("proc"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let before = mount_table();
        let other = BindMount {
            target: made.rootfs.join("other/place"),
            ..request
        };
        let text = bind(&other).expect_err("procfs").to_string();
        assert!(text.contains(refusing.to_str().unwrap()), "{text}");
        assert!(text.contains("proc, cannot be idmapped"), "{text}");
        assert!(text.contains("idmap=0:100000:10"), "{text}");
        assert_eq!(mount_table(), before);
        assert!(!made.rootfs.join("other").exists());
    });
}

#[test]
fn a_merged_overlay_is_refused_and_explained() {
    on_host(Propagation::Private, |host| {
        let (one, two) = (host.create(), host.create());
        let request = BindMount {
            idmap: lines(MAP_10),
            ..host.request(&one.rootfs, &two.rootfs.join("x/y"))
        };
        let text = bind(&request).expect_err("overlay").to_string();
        assert!(
            text.contains("cannot be idmapped") && text.contains("overlay"),
            "{text}"
        );
        assert!(!two.rootfs.join("x").exists());
    });
}

#[test]
fn the_process_that_carried_the_map_is_gone() {
    on_host(Propagation::Private, |_| {
        let own = std::fs::metadata("/proc/self/ns/user").unwrap().ino();
        for _ in 0..50 {
            let made = std::fs::File::from(user_namespace(&lines(MAP_10)).expect("namespace"));
            assert_ne!(made.metadata().unwrap().ino(), own);
        }
        let children = std::fs::read_to_string("/proc/thread-self/children");
        assert_eq!(children.unwrap_or_default().trim(), "");
    });
}

const BASE: &str = "ROOTFS_TEST_USER_NAMESPACE_IN";

/// The other process of the test below: root of a user namespace only.
#[test]
fn in_user_namespace() {
    let Some(temp) = std::env::var_os(BASE).map(std::path::PathBuf::from) else {
        return;
    };
    let dirs = runtime::config::Dirs {
        base: temp.join("base"),
        state: temp.join("state"),
        data: temp.join("data"),
    };
    let made = rootfs::create(&dirs, "img", None, &Ids::AsOnDisk).expect("create");
    assert_eq!(made.warning, None);
    assert!(mount_line(&made.rootfs).unwrap().contains("userxattr"));
    // A directory that is removed and made again is opaque: needs extended attributes that work here.
    std::fs::remove_dir_all(made.rootfs.join("bin")).unwrap();
    std::fs::create_dir(made.rootfs.join("bin")).unwrap();
    assert_eq!(crate::host::names(&made.rootfs.join("bin")).len(), 0);
    let request = BindMount {
        source: temp.join("volume"),
        target: made.rootfs.join("data"),
        recursive: true,
        readonly: true,
        file: false,
        idmap: Vec::new(),
        dirs: dirs.clone(),
    };
    bind(&request).expect("bind");
    assert!(made.rootfs.join("data/file").exists());
    let idmapped = BindMount {
        idmap: lines(&[(0, 0, 1)]),
        ..request
    };
    let text = bind(&idmapped)
        .expect_err("the disk is not ours")
        .to_string();
    assert!(
        text.contains("EPERM") && text.contains("user namespace"),
        "{text}"
    );
    rootfs::destroy(&dirs, &made.guid, |_| Ok(())).expect("destroy");
}

#[test]
fn root_of_a_user_namespace_can_do_all_but_map_a_disk_of_the_host() {
    on_host(Propagation::Private, |host| {
        host.volume("volume");
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "idmap::in_user_namespace", "--nocapture"])
            .env(BASE, &host.temp)
            .output()
            .expect("unshare of util-linux is needed");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        host.assert_clean();
    });
}
