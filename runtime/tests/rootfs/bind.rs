//! bind-mount: types, read-only, propagation, and targets that a container has prepared.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use runtime::bind_mount::{BindMount, bind};
use shim::sys::mount::{Change, Propagation, set_attributes_at};

use crate::host::{mount_line, mount_table, mount_tmpfs, mounts_below, names, on_host, plain_bind};

#[test]
fn a_directory_and_a_file_with_targets_that_are_made() {
    on_host(Propagation::Shared, |host| {
        let volume = host.volume("volume");
        let made = host.create();
        let deep = made.rootfs.join("new/a/b");
        host.bind(&volume, &deep).unwrap();
        assert_eq!(
            std::fs::read_to_string(deep.join("file")).unwrap(),
            "volume"
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&made.rootfs.join("new/a")), 0o755);
        let file = made.rootfs.join("new/f/file");
        let request = BindMount {
            file: true,
            ..host.request(&volume.join("file"), &file)
        };
        bind(&request).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "volume");
        std::fs::write(&file, "through").unwrap();
        assert_eq!(
            std::fs::read_to_string(volume.join("file")).unwrap(),
            "through"
        );
        // On top of what is there.
        host.bind(&host.volume("second"), &deep).unwrap();
        assert_eq!(
            std::fs::read_to_string(deep.join("file")).unwrap(),
            "second"
        );
        // And outside of root filesystems.
        let outside = host.temp.join("x/y");
        host.bind(&volume, &outside).unwrap();
        assert!(outside.join("file").exists());
        host.destroy(&made.guid).unwrap();
        assert!(volume.join("file").exists());
        host.assert_clean();
    });
}

#[test]
fn the_wrong_type_is_refused_before_anything_is_made() {
    on_host(Propagation::Private, |host| {
        let volume = host.volume("volume");
        let made = host.create();
        let target = made.rootfs.join("new/place");
        let tool = made.rootfs.join("bin/tool");
        let file = volume.join("file");
        let cases: [(&Path, &Path, bool, &str); 7] = [
            (&volume, &target, true, "leave out --file"),
            (&file, &target, false, "add --file"),
            (&host.temp.join("absent"), &target, false, "must exist"),
            (&volume, &tool, false, "is not a directory"),
            (&file, &made.rootfs.join("bin"), true, "is a directory"),
            (&file, &tool.join("below"), true, "is not a directory"),
            (&volume, &made.rootfs, false, "root directory itself"),
        ];
        let before = mount_table();
        for (source, target, file, expected) in cases {
            let request = BindMount {
                file,
                ..host.request(source, target)
            };
            let text = bind(&request).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("hint: "), "{text}");
        }
        assert_eq!(mount_table(), before);
        assert!(!made.rootfs.join("new").exists());
        let nobody = host.dirs.base.join("subcontainers/nobody");
        let text = host
            .bind(&volume, &nobody.join("x"))
            .expect_err("no rootfs")
            .to_string();
        assert!(text.contains("no such root filesystem"), "{text}");
        assert!(!nobody.exists());
    });
}

#[test]
fn what_was_made_for_a_mount_that_fails_is_removed() {
    on_host(Propagation::Private, |host| {
        let volume = host.volume("volume");
        let made = host.create();
        // The way ends at a file after directories had to be made.
        symlink("../bin/tool", made.rootfs.join("data/link")).unwrap();
        let target = made.rootfs.join("new/a/../../data/link/b");
        host.bind(&volume, &target).expect_err("not a directory");
        assert!(!made.rootfs.join("new").exists());
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn what_was_made_for_a_mount_that_cannot_be_attached_is_removed() {
    on_host(Propagation::Shared, |host| {
        let made = host.create();
        let before = mount_table();
        // The last call of all refuses it: a mount namespace is not mounted within itself (ELOOP).
        let request = BindMount {
            file: true,
            ..host.request(
                Path::new("/proc/thread-self/ns/mnt"),
                &made.rootfs.join("new/a/namespace"),
            )
        };
        let text = bind(&request).expect_err("a loop").to_string();
        assert!(text.contains("mount at"), "{text}");
        assert!(!made.rootfs.join("new").exists());
        assert_eq!(mount_table(), before);
        // What was there before stays.
        let request = BindMount {
            target: made.rootfs.join("data/namespace"),
            ..request
        };
        bind(&request).expect_err("a loop");
        assert_eq!(names(&made.rootfs.join("data")), [""; 0]);
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn links_of_a_container_lead_inside_it_wherever_they_point() {
    on_host(Propagation::Shared, |host| {
        let volume = host.volume("volume");
        let outside = host.volume("outside");
        let made = host.create();
        let root = &made.rootfs;
        let up = "../".repeat(40);
        let outside_text = outside.to_str().unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink(format!("{up}{outside_text}"), root.join("relative")).unwrap();
        symlink(outside.join("dangling"), root.join("dangling")).unwrap();
        symlink("absolute", root.join("chain")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let inside = root.join(outside_text.trim_start_matches('/'));
        for (name, place) in [
            ("absolute", inside.join("absolute")),
            ("relative", inside.join("relative")),
            ("dangling", inside.join("dangling/dangling")),
            ("chain", inside.join("chain")),
            ("magic", root.join("proc/self/root/magic")),
        ] {
            host.bind(&volume, &root.join(name).join(name)).expect(name);
            assert!(mount_line(&place).is_some(), "{name}: {}", mount_table());
        }
        // ".." of a path below the root filesystem stops at it, too.
        host.bind(&volume, &root.join("data").join(&up).join("dots"))
            .unwrap();
        assert!(root.join("dots/file").exists());
        symlink("loop", root.join("loop")).unwrap();
        let text = host
            .bind(&volume, &root.join("loop/x"))
            .expect_err("a circle")
            .to_string();
        assert!(text.contains("ELOOP"), "{text}");
        assert_eq!(names(&outside), ["file"]);
        assert_eq!(mounts_below(&outside).len(), 0);
        // A link of the host that leads into the root filesystem is walked by the same rule.
        let link = host.temp.join("link");
        symlink(root.join("absolute"), &link).unwrap();
        host.bind(&volume, &link.join("through")).unwrap();
        assert!(inside.join("through/file").exists());
        assert_eq!(names(&outside), ["file"]);
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn a_container_that_swaps_directories_and_links_cannot_lead_outside() {
    on_host(Propagation::Private, |host| {
        let volume = host.volume("volume");
        let outside = host.volume("outside");
        let made = host.create();
        let (dir, link) = (made.rootfs.join("swap"), made.rootfs.join("link"));
        std::fs::create_dir(&dir).unwrap();
        symlink(&outside, &link).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (from, to) = (dir.clone(), link.clone());
        let hostile = std::thread::spawn(move || {
            let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            let here = nix::fcntl::AT_FDCWD;
            let mut swaps = 0_u64;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                // EBUSY once a mount lies on one of them.
                let _ = nix::fcntl::renameat2(here, &from, here, &to, exchange);
                swaps += 1;
            }
            swaps
        });
        for round in 0..300 {
            let _ = host.bind(&volume, &dir.join(format!("a/b{round}")));
            assert_eq!(names(&outside), ["file"]);
        }
        stop.send(()).unwrap();
        assert!(hostile.join().unwrap() > 0);
        assert_eq!(mounts_below(&outside).len(), 0);
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn read_only_is_read_only_all_the_way_down_when_recursive() {
    on_host(Propagation::Shared, |host| {
        let volume = host.volume("volume");
        mount_tmpfs(&volume.join("sub"));
        let made = host.create();
        let readonly = BindMount {
            readonly: true,
            ..host.request(&volume, &made.rootfs.join("flat"))
        };
        bind(&readonly).unwrap();
        let deep = BindMount {
            recursive: true,
            target: made.rootfs.join("deep"),
            ..readonly
        };
        bind(&deep).unwrap();
        let write = |path: &str| {
            std::fs::write(made.rootfs.join(path), "x").map_err(|error| error.raw_os_error())
        };
        assert_eq!(write("flat/new"), Err(Some(libc_erofs())));
        assert_eq!(write("deep/new"), Err(Some(libc_erofs())));
        assert_eq!(write("deep/sub/new"), Err(Some(libc_erofs())));
        assert!(mount_line(&made.rootfs.join("flat/sub")).is_none());
        std::fs::write(volume.join("sub/new"), "still writable").unwrap();
        // A read-only source stays so.
        host.bind(&made.rootfs.join("flat"), &made.rootfs.join("again"))
            .unwrap();
        assert_eq!(write("again/new"), Err(Some(libc_erofs())));
        host.destroy(&made.guid).unwrap();
        assert!(volume.join("sub/new").exists());
    });
}

fn libc_erofs() -> i32 {
    nix::errno::Errno::EROFS as i32
}

#[test]
fn a_mount_made_later_arrives_in_a_running_container_and_goes_with_it() {
    on_host(Propagation::Private, |host| {
        let (volume, nested) = (host.volume("volume"), host.volume("nested"));
        let before = mount_table();
        let made = host.create();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (mounted, is_mounted) = std::sync::mpsc::channel::<()>();
        let place = made.rootfs.join("data");
        let leader = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let slave = Change {
                propagation: Some(Propagation::Slave),
                recursive: true,
                ..Change::default()
            };
            set_attributes_at(c"/", slave).unwrap();
            ready.send(()).unwrap();
            is_mounted.recv().unwrap();
            let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
            (read(&place.join("file")), read(&place.join("nested/file")))
        });
        is_ready.recv().unwrap();
        host.bind(&volume, &made.rootfs.join("data")).unwrap();
        host.bind(&nested, &made.rootfs.join("data/nested"))
            .unwrap();
        mounted.send(()).unwrap();
        let seen = leader.join().unwrap();
        assert_eq!(seen, ("volume".to_owned(), "nested".to_owned()));
        host.destroy(&made.guid).unwrap();
        assert_eq!(mount_table(), before);
    });
}

#[test]
fn mounts_on_a_shared_host_do_not_travel_back_to_the_source() {
    on_host(Propagation::Shared, |host| {
        let volume = host.volume("volume");
        let made = host.create();
        host.bind(&volume, &made.rootfs.join("data")).unwrap();
        host.bind(&host.volume("nested"), &made.rootfs.join("data/nested"))
            .unwrap();
        assert_eq!(mounts_below(&volume).len(), 0);
        // The other way they do.
        mount_tmpfs(&volume.join("late"));
        assert!(mount_line(&made.rootfs.join("data/late")).is_some());
        host.destroy(&made.guid).unwrap();
        assert_eq!(mounts_below(&volume), [volume.join("late")]);
        host.assert_clean();
    });
}

#[test]
fn sources_may_be_sockets_devices_and_links() {
    on_host(Propagation::Private, |host| {
        let made = host.create();
        let socket = host.temp.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let link = host.temp.join("link");
        symlink(&socket, &link).unwrap();
        let targets = ["run/socket", "dev/null", "run/link"];
        for (source, target) in [&socket, Path::new("/dev/null"), &link]
            .into_iter()
            .zip(targets)
        {
            let request = BindMount {
                file: true,
                ..host.request(source, &made.rootfs.join(target))
            };
            bind(&request).unwrap();
        }
        std::os::unix::net::UnixStream::connect(made.rootfs.join("run/link")).unwrap();
        std::fs::set_permissions(&host.temp, PermissionsExt::from_mode(0o700)).unwrap();
        host.destroy(&made.guid).unwrap();
        assert!(socket.exists());
        plain_bind(&host.temp, &host.temp, MsFlags::empty());
        host.assert_clean();
    });
}
