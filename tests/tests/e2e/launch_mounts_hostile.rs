//! `launch --mount` against hostile images and volumes, and bad input: refused by name, and nothing has changed.

use std::fs;
use std::os::unix::fs::{chown, symlink};

use tests::{Rootfs, Sentinel, Snapshot, World, write_file};

use super::cases::in_each;
use super::launch_mounts::with_mounts;
use super::mounts::source;

/// Refused with these words on the error line, and the host is as before.
fn refused(world: &World, root: &Rootfs, options: &[String], words: &[&str]) {
    let before = Snapshot::of(world);
    let done = world.launch_run(root).opts(options).done();
    done.expect_refused(&[125]);
    let text = done.err_text();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
    before.assert_same(world);
}

#[test]
fn a_target_through_a_symlink_of_the_image() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let data = source(&world, "data");
    let root = world.create();
    let climbing = format!(
        "{}{}",
        "../".repeat(40),
        &sentinel.dir.to_str().expect("path")[1..]
    );
    for target in [
        sentinel.dir.clone(),
        climbing.into(),
        sentinel.join("missing"),
        "/mnt".into(),
        "mnt".into(),
        "/proc/self/root".into(),
    ] {
        let link = root.join("link");
        symlink(&target, &link).expect("symlink");
        for place in ["/link", "/link/empty", "/link/new/deeper"] {
            for content in [
                "type=tmpfs".to_owned(),
                format!("type=bind,src={}", data.display()),
                format!("type=bind,src={}/file", data.display()),
            ] {
                let entry = format!("{content},dst={place}");
                refused(
                    &world,
                    &root,
                    &[format!("--mount={entry}")],
                    &[&entry, "/link is a symlink", "hint: give the real path"],
                );
                sentinel.assert_same();
            }
        }
        fs::remove_file(&link).expect("remove");
    }
}

#[test]
fn a_target_through_a_symlink_of_a_volume() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let volume = world.base.join("volumes/main");
    let root = world.create();
    fs::create_dir(root.join("v")).expect("directory");
    for target in [
        sentinel.dir.to_str().expect("path"),
        "/etc",
        "../etc",
        "nowhere",
    ] {
        let _ = fs::remove_file(volume.join("link"));
        symlink(target, volume.join("link")).expect("symlink");
        for place in ["/v/link", "/v/link/empty"] {
            let options = [
                "--mount=type=volume,src=main,dst=/v".to_owned(),
                format!("--mount=type=tmpfs,dst={place}"),
            ];
            // The plan cannot know what is in the volume; the kernel refuses.
            refused(
                &world,
                &root,
                &options,
                &[&format!("mount at \"{place}\" (tmpfs"), "ELOOP"],
            );
            sentinel.assert_same();
        }
    }
    assert_eq!(fs::read_dir(&volume).expect("volume").count(), 1);
}

#[test]
fn thirty_two_launches_make_the_same_mount_point() {
    in_each(|world, case| {
        if !matches!(case.profile, "confined" | "outer") {
            return;
        }
        if let Some(user) = &case.user {
            for place in ["volumes", "volumes/main"] {
                chown(world.base.join(place), Some(*user), Some(*user)).expect("chown");
            }
        }
        let roots: Vec<_> = (0..32).map(|_| world.create()).collect();
        let options = [
            "--mount=type=volume,src=main,dst=/v",
            "--mount=type=tmpfs,dst=/v/new/deep/er",
        ];
        let clients: Vec<_> = roots
            .iter()
            .map(|root| world.launch_run(root).opts(options).cmd(["true"]).spawn())
            .collect();
        for client in clients {
            client.finish().expect_code(0);
        }
        for root in &roots {
            world.destroy(root);
        }
    });
}

#[test]
fn etc_that_leads_out_takes_no_resolv_conf() {
    let Some(world) = World::new() else { return };
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    let root = world.create();
    fs::remove_dir_all(root.join("etc")).expect("remove");
    symlink(sentinel.join("etc"), root.join("etc")).expect("symlink");
    refused(
        &world,
        &root,
        &["--resolv-conf".to_owned()],
        &["write resolv.conf in", "ELOOP"],
    );
    sentinel.assert_same();
    fs::remove_file(root.join("etc")).expect("remove");
    fs::create_dir_all(root.join("etc/resolv.conf")).expect("directory");
    refused(
        &world,
        &root,
        &["--resolv-conf".to_owned()],
        &["is a directory or a mount point"],
    );
    let fifo = world.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    for (file, word) in [(fifo, "is a FIFO"), (world.dir.join("none"), "ENOENT")] {
        refused(
            &world,
            &root,
            &[format!("--resolv-conf={}", file.display())],
            &[word],
        );
    }
}

#[test]
fn bad_input_is_refused_by_name_before_anything_exists() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    let other = world.create();
    write_file(root.join("etc/plain"), "");
    let (data, other) = (data.display(), other.path.display());
    for (entries, words) in [
        (
            &[format!("type=bind,src={data}x,dst=/d")][..],
            &["did you mean data?", "ENOENT"][..],
        ),
        (
            &["type=volume,src=mian,dst=/d".to_owned()],
            &["did you mean main?"],
        ),
        (
            &[format!("type=bind,src={data},dst=/etc/plain")],
            &["/etc/plain is a file"],
        ),
        (
            &[format!("type=bind,src={data}/file,dst=/etc")],
            &["the source is a file and /etc a directory"],
        ),
        (
            &[format!("type=bind,src={data},dst=/etc/plain/sub")],
            &["/etc/plain/sub: ENOTDIR"],
        ),
        (
            &[
                "type=tmpfs,dst=/d".to_owned(),
                "type=tmpfs,dst=//d/".to_owned(),
            ],
            &["/d is mounted twice"],
        ),
        (
            &[
                format!("type=bind,src={data},dst=/d,propagation=shared"),
                "type=tmpfs,dst=/d/e".to_owned(),
            ],
            &["it lies in /d, which is shared"],
        ),
        (
            &[format!("type=bind,src={other},dst=/d,idmap=0:1000:10")],
            &[
                "prepare the mount at \"/d\"",
                "EINVAL",
                "cannot be idmapped",
            ],
        ),
        (
            &[format!("type=overlay,lower={data}:{data}/file,dst=/d")],
            &["data/file is no directory"],
        ),
        (
            &[format!(
                "type=overlay,lower={data},upper={data},work={data}/nowork,dst=/d"
            )],
            &["ENOENT"],
        ),
        (
            &["type=bind,src=/dev/null,dst=/dev".to_owned()],
            &["the source is a file and /dev a directory"],
        ),
        (
            &["type=tmpfs,dst=/d,size=64q".to_owned()],
            &["size=64q is no size"],
        ),
    ] {
        let options: Vec<_> = entries
            .iter()
            .map(|entry| format!("--mount={entry}"))
            .collect();
        refused(&world, &root, &options, words);
        assert!(!root.join("d").exists(), "{entries:?} has made something");
    }
    let options = ["--share=dev", "--mount=type=tmpfs,dst=/dev"].map(str::to_owned);
    refused(&world, &root, &options, &["/dev is mounted twice"]);
    refused(
        &world,
        &root,
        &["--share=dev,etc".to_owned()],
        &["no \"etc\" to share"],
    );
}

#[test]
fn a_target_that_cannot_be_made_is_named() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let root = world.create();
    fs::create_dir(root.join("d")).expect("directory");
    let outer = format!("--mount=type=bind,src={},dst=/d,ro", data.display());
    let options = [outer, "--mount=type=tmpfs,dst=/d/new".to_owned()];
    refused(
        &world,
        &root,
        &options,
        &["mount at \"/d/new\" (tmpfs", "EROFS", "make it there first"],
    );
    // In what is shared with the host nothing is made at all.
    let options = ["--share=dev", "--mount=type=tmpfs,dst=/dev/sce2e-new"].map(str::to_owned);
    refused(
        &world,
        &root,
        &options,
        &[
            "mount at \"/dev/sce2e-new\"",
            "ENOENT",
            "shared with the host",
        ],
    );
}

#[test]
fn a_source_through_symlinks_of_the_host_is_the_callers_affair() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    symlink(&data, world.dir.join("link")).expect("symlink");
    let entry = format!("type=bind,src={}/link,dst=/d", world.dir.display());
    let (root, _leader) = with_mounts(&world, &[entry]);
    assert_eq!(world.exec(&root).cmd(["cat", "/d/file"]).text(), "data");
}
