//! create-fs: what is in a root filesystem, where it is, and that a failure leaves nothing.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::MsFlags;
use runtime::rootfs::{self, Ids, Record};
use shim::sys::mount::Propagation;

use crate::host::{
    chown, erofs, loop_devices_of, make_fifo, mount_line, mounts_below, names, on_host, squashfs,
    unmount,
};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn an_overlay_over_the_image_that_takes_writes_and_leaves_the_image_alone() {
    on_host(Propagation::Private, |host| {
        let image = host.images().join("img");
        chown(&image, 12, 34);
        std::fs::set_permissions(&image, PermissionsExt::from_mode(0o751)).unwrap();
        let made = host.create();
        assert_eq!(made.warning, None);
        assert_eq!(made.guid.len(), 32);
        assert!(made.guid.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(
            made.rootfs,
            host.dirs.base.join("subcontainers").join(&made.guid)
        );
        let root = std::fs::metadata(&made.rootfs).unwrap();
        assert_eq!(
            (root.uid(), root.gid(), root.mode() & 0o7777),
            (12, 34, 0o751)
        );
        assert_eq!(
            std::fs::read_to_string(made.rootfs.join("bin/tool")).unwrap(),
            "tool"
        );
        std::fs::write(made.rootfs.join("bin/tool"), "changed").unwrap();
        std::fs::remove_file(made.rootfs.join("etc/hostname")).unwrap();
        assert_eq!(
            std::fs::read_to_string(image.join("bin/tool")).unwrap(),
            "tool"
        );
        assert!(image.join("etc/hostname").exists());
        // A peer group of its own, although the host's mounts are private.
        let line = mount_line(&made.rootfs).unwrap();
        assert!(line.contains(" shared:"), "{line}");
        // Whoever looks at the mount table sees what it is made of.
        let upper = host
            .dirs
            .data
            .join("containers")
            .join(&made.guid)
            .join("upper");
        assert!(
            line.contains(&format!("upperdir={}", upper.display())),
            "{line}"
        );
        assert!(line.contains(image.to_str().unwrap()), "{line}");
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn directories_and_records_are_as_private_as_promised() {
    on_host(Propagation::Shared, |host| {
        let made = host.create();
        let containers = host.dirs.data.join("containers");
        for private in [
            &host.dirs.state,
            &host.dirs.data,
            &containers,
            &containers.join(&made.guid),
            &host.dirs.base.join("subcontainers"),
        ] {
            assert_eq!(mode(private), 0o700, "{private:?}");
        }
        let records = host.dirs.state.join("subcontainers");
        assert_eq!(names(&records), [made.guid.as_str()]);
        assert_eq!(mode(&records.join(&made.guid)), 0o600);
        let record: Record =
            serde_json::from_slice(&std::fs::read(records.join(&made.guid)).unwrap()).unwrap();
        assert_eq!(record.version, 1);
        assert_eq!(record.image, "img");
        assert_eq!(record.name.as_deref(), Some("a name"));
        assert_eq!(record.rootfs, made.rootfs);
        assert_eq!(record.data, containers.join(&made.guid));
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(record.boot_id, boot.trim());
        assert_ne!(host.create().guid, made.guid);
    });
}

#[test]
fn hostname_hosts_and_mount_points_are_made_and_links_not_followed() {
    on_host(Propagation::Private, |host| {
        let image = host.images().join("img");
        let victim = host.temp.join("victim");
        std::fs::write(&victim, "victim").unwrap();
        symlink(&victim, image.join("etc/hosts")).unwrap();
        std::fs::remove_file(image.join("etc/hostname")).unwrap();
        make_fifo(&image.join("etc/hostname"));
        let made = host.create();
        let nodename = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let read = |name: &str| std::fs::read_to_string(made.rootfs.join(name)).unwrap();
        assert_eq!(read("etc/hostname"), nodename);
        let hosts = read("etc/hosts");
        assert!(
            hosts.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"),
            "{hosts}"
        );
        assert!(hosts.contains(nodename.trim()), "{hosts}");
        assert_eq!(mode(&made.rootfs.join("etc/hosts")), 0o644);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "victim");
        for (name, expected) in [
            ("proc", 0o555),
            ("sys", 0o555),
            ("run", 0o755),
            ("tmp", 0o1777),
        ] {
            assert_eq!(mode(&made.rootfs.join(name)), expected, "{name}");
            assert!(!image.join(name).exists());
        }
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn an_image_whose_own_directories_lead_elsewhere_is_refused_and_nothing_is_left() {
    on_host(Propagation::Shared, |host| {
        let outside = host.volume("outside");
        for name in ["etc", "proc", "dev", "sys"] {
            for as_file in [false, true] {
                let image = host.make_image("bad");
                let _ = std::fs::remove_dir_all(image.join(name));
                if as_file {
                    std::fs::write(image.join(name), "").unwrap();
                } else {
                    symlink(&outside, image.join(name)).unwrap();
                }
                let error =
                    rootfs::create(&host.dirs, "bad", None, &Ids::AsOnDisk).expect_err(name);
                let text = error.to_string();
                assert!(text.contains(&format!("bad:/{name}")), "{text}");
                assert!(text.contains("hint: "), "{text}");
                host.assert_clean();
                std::fs::remove_dir_all(&image).unwrap();
            }
        }
        assert_eq!(names(&outside), ["file"]);
    });
}

#[test]
fn an_unknown_image_names_every_place_and_changes_nothing() {
    on_host(Propagation::Private, |host| {
        let error =
            rootfs::create(&host.dirs, "absent", None, &Ids::AsOnDisk).expect_err("unknown");
        let text = error.to_string();
        let place = host.images().join("absent");
        assert!(text.contains(place.to_str().unwrap()), "{text}");
        assert!(text.contains("absent.squashfs"), "{text}");
        assert!(text.contains("absent.erofs"), "{text}");
        assert!(text.contains("image import"), "{text}");
        assert!(!host.dirs.state.exists() && !host.dirs.data.exists());
    });
}

#[test]
fn a_squashfs_image_is_mounted_through_a_loop_device_that_goes_with_the_container() {
    on_host(Propagation::Shared, |host| {
        let image = host.make_image("packed");
        let tool = image.join("bin/tool");
        std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o4755)).unwrap();
        squashfs(&image, &host.images().join("packed.squashfs"));
        std::fs::remove_dir_all(&image).unwrap();
        let made = rootfs::create(&host.dirs, "packed", None, &Ids::AsOnDisk).expect("create");
        assert_eq!(mode(&made.rootfs.join("bin/tool")), 0o4755);
        std::fs::write(made.rootfs.join("bin/new"), "new").unwrap();
        let line = mount_line(&made.rootfs).unwrap();
        assert!(!line.contains("nosuid"), "{line}");
        // The image's own mount has no place in the mount table.
        assert_eq!(mounts_below(&host.temp), [made.rootfs.as_path()]);
        assert_eq!(loop_devices_of(&host.temp).len(), 1);
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

#[test]
fn an_erofs_image_is_mounted_from_its_file_and_leaves_nothing() {
    on_host(Propagation::Shared, |host| {
        let image = host.make_image("packed");
        let tool = image.join("bin/tool");
        std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o4755)).unwrap();
        erofs(&image, &host.images().join("packed.erofs"));
        std::fs::remove_dir_all(&image).unwrap();
        let made = rootfs::create(&host.dirs, "packed", None, &Ids::AsOnDisk).expect("create");
        assert_eq!(mode(&made.rootfs.join("bin/tool")), 0o4755);
        std::fs::write(made.rootfs.join("bin/new"), "new").unwrap();
        assert_eq!(mounts_below(&host.temp), [made.rootfs.as_path()]);
        assert_eq!(loop_devices_of(&host.temp), Vec::<String>::new());
        host.destroy(&made.guid).unwrap();
        host.assert_clean();
    });
}

/// The kernel mounts no file that lies on an overlay, and before 6.12 none at all.
#[test]
fn an_erofs_image_that_the_kernel_does_not_mount_from_its_file_gets_a_loop_device() {
    on_host(Propagation::Shared, |host| {
        let image = host.make_image("packed");
        let on_disk = host.temp.join("disk");
        for name in ["upper", "work"] {
            std::fs::create_dir_all(on_disk.join(name)).unwrap();
        }
        let options = format!(
            "lowerdir={0},upperdir={1}/upper,workdir={1}/work",
            host.dirs.base.display(),
            on_disk.display()
        );
        let (kind, none) = (Some("overlay"), MsFlags::empty());
        nix::mount::mount(kind, &host.dirs.base, kind, none, Some(options.as_str()))
            .expect("overlay");
        erofs(&image, &host.images().join("packed.erofs"));
        std::fs::remove_dir_all(&image).unwrap();
        let made = rootfs::create(&host.dirs, "packed", None, &Ids::AsOnDisk).expect("create");
        assert!(made.rootfs.join("bin/tool").exists());
        assert_eq!(loop_devices_of(&host.temp).len(), 1);
        host.destroy(&made.guid).unwrap();
        unmount(&host.dirs.base);
        host.assert_clean();
    });
}

#[test]
fn a_broken_image_file_is_refused_with_a_hint() {
    on_host(Propagation::Private, |host| {
        for kind in ["squashfs", "erofs"] {
            for id in ["broken", "dir"] {
                let file = host.images().join(format!("{id}.{kind}"));
                match id {
                    "dir" => std::fs::create_dir(&file).unwrap(),
                    _ => std::fs::write(&file, vec![7; 65536]).unwrap(),
                }
                let text = rootfs::create(&host.dirs, id, None, &Ids::AsOnDisk)
                    .expect_err(id)
                    .to_string();
                assert!(text.contains("hint: "), "{text}");
                assert!(text.contains(file.to_str().unwrap()), "{text}");
                host.assert_clean();
                match id {
                    "dir" => std::fs::remove_dir(&file).unwrap(),
                    _ => std::fs::remove_file(&file).unwrap(),
                }
            }
        }
    });
}

#[test]
fn where_the_upper_cannot_be_on_disk_it_is_in_memory_and_that_is_said() {
    on_host(Propagation::Shared, |host| {
        for name in ["lower", "upper", "work"] {
            std::fs::create_dir(host.temp.join(name)).unwrap();
        }
        std::fs::create_dir(&host.dirs.data).unwrap();
        let at = |name: &str| host.temp.join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            at("lower"),
            at("upper"),
            at("work")
        );
        let (source, kind) = (Some("test"), Some("overlay"));
        nix::mount::mount(
            source,
            &host.dirs.data,
            kind,
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .expect("overlay");
        let before = mounts_below(&host.temp);
        let made = host.create();
        let warning = made.warning.as_deref().unwrap_or_default();
        assert!(
            warning.contains("tmpfs") && warning.contains("in memory"),
            "{warning}"
        );
        std::fs::write(made.rootfs.join("data/written"), "x").unwrap();
        assert_eq!(mounts_below(&host.temp).len(), before.len() + 1);
        host.destroy(&made.guid).unwrap();
        assert_eq!(mounts_below(&host.temp), before);
        assert_eq!(
            names(&host.dirs.data.join("containers")),
            Vec::<String>::new()
        );
    });
}

#[test]
fn paths_that_overlay_would_split_and_long_ones_work() {
    on_host(Propagation::Private, |host| {
        let mut dirs = host.dirs.clone();
        let odd = format!("a:b,c\\d {}", "long".repeat(50));
        for directory in [&mut dirs.base, &mut dirs.data, &mut dirs.state] {
            *directory = host.temp.join(&odd).join(directory.file_name().unwrap());
        }
        std::fs::create_dir_all(&dirs.base).unwrap();
        std::fs::rename(host.images(), dirs.base.join("images")).unwrap();
        let made = rootfs::create(&dirs, "img", None, &Ids::AsOnDisk).expect("create");
        assert_eq!(
            std::fs::read_to_string(made.rootfs.join("bin/tool")).unwrap(),
            "tool"
        );
        rootfs::destroy(&dirs, &made.guid, |_| Ok(())).unwrap();
        assert_eq!(names(&dirs.data.join("containers")), Vec::<String>::new());
    });
}

#[test]
fn a_mount_point_that_cannot_be_made_leaves_nothing() {
    on_host(Propagation::Private, |host| {
        std::fs::write(host.dirs.base.join("subcontainers"), "a file").unwrap();
        let text = rootfs::create(&host.dirs, "img", None, &Ids::AsOnDisk)
            .expect_err("refused")
            .to_string();
        assert!(text.contains("hint: "), "{text}");
        std::fs::remove_file(host.dirs.base.join("subcontainers")).unwrap();
        host.assert_clean();
    });
}
