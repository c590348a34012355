//! CONTRACT 1 and 2: create-fs and destroy-fs, and the files and directories of the runtime.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tests::{Run, Snapshot, World, binary, erofs, mounts_below, squashfs, tool, write_file};

use crate::auto_ids::{create, rootfs};

#[test]
fn create_fs_prints_the_path_and_the_guid_is_its_last_component() {
    let Some(world) = World::new() else { return };
    let done = world.verb("create-fs").cmd(["img"]).done();
    let text = String::from_utf8(done.out.clone()).expect("utf8");
    assert!(
        done.expect_ok().lines().count() == 1 && text.ends_with('\n'),
        "{text:?}"
    );
    let path = PathBuf::from(text.trim_end());
    assert_eq!(
        path.parent(),
        Some(world.base.join("subcontainers").as_path())
    );
    assert_eq!(mounts_below(&path), std::slice::from_ref(&path));
    assert!(path.join("bin/busybox").exists());
    let guid = path.file_name().expect("guid");
    assert_eq!(world.verb("destroy-fs").cmd([guid]).text(), "");
    assert!(!path.exists());
}

#[test]
fn every_root_filesystem_is_its_own() {
    let Some(world) = World::new() else { return };
    let roots: Vec<_> = (0..5).map(|_| world.create()).collect();
    for (number, root) in roots.iter().enumerate() {
        write_file(root.join("mark"), number.to_string());
        fs::remove_file(root.join("etc/group")).expect("remove");
    }
    for (number, root) in roots.iter().enumerate() {
        assert_eq!(
            fs::read_to_string(root.join("mark")).expect("read"),
            number.to_string()
        );
    }
    let image = world.base.join("images/img");
    assert!(
        image.join("etc/group").exists() && !image.join("mark").exists(),
        "the image has changed"
    );
    let guids: std::collections::BTreeSet<_> = roots.iter().map(|root| &root.guid).collect();
    assert_eq!(guids.len(), 5);
}

#[test]
fn a_name_is_accepted_and_kept() {
    let Some(world) = World::new() else { return };
    let path = PathBuf::from(world.verb("create-fs").cmd(["img", "web"]).text());
    let guid = path.file_name().expect("guid");
    let journal = world.state.join("subcontainers").join(guid);
    assert!(
        fs::read_to_string(journal)
            .expect("journal")
            .contains("web")
    );
}

#[test]
fn hostname_and_hosts_are_written() {
    let Some(world) = World::new() else { return };
    // Over what the image has under these names, which is not written through.
    let image = world.base.join("images/img/etc");
    write_file(image.join("hostname"), "image\n");
    std::os::unix::fs::symlink("elsewhere", image.join("hosts")).expect("symlink");
    // Whatever the caller's umask is, everybody inside can read them.
    let sh = tool("sh");
    let wrap = [
        sh.to_str().expect("path"),
        "-c",
        "umask 077; exec \"$@\"",
        "sh",
    ];
    let root = rootfs(&world.verb("create-fs").wrap(wrap).cmd(["img"]).done());
    for name in ["etc/hostname", "etc/hosts"] {
        let mode = fs::metadata(root.join(name)).expect("stat").mode();
        assert_eq!(mode & 0o7777, 0o644, "{name}");
    }
    assert!(!root.join("etc/elsewhere").exists());
    assert_eq!(
        fs::read_to_string(image.join("hostname")).expect("read"),
        "image\n"
    );
    let hostname = fs::read_to_string(root.join("etc/hostname")).expect("hostname");
    // The UTS namespace is the caller's, so the name is too.
    let own = nix::unistd::gethostname().expect("hostname");
    assert_eq!(Some(hostname.trim()), own.to_str());
    assert!(
        hostname.ends_with('\n') && hostname.trim().len() > 1 && hostname.lines().count() == 1,
        "{hostname:?}"
    );
    let hosts = fs::read_to_string(root.join("etc/hosts")).expect("hosts");
    let has = |address: &str, name: &str| {
        hosts
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .any(|words| words.first() == Some(&address) && words[1..].contains(&name))
    };
    assert!(has("127.0.0.1", "localhost"), "{hosts}");
    assert!(has("::1", "localhost"), "{hosts}");
    assert!(
        hosts.contains(hostname.trim()),
        "the container's own name does not resolve: {hosts}"
    );
    for name in ["etc/hostname", "etc/hosts"] {
        assert_eq!(
            fs::metadata(root.join(name)).expect("stat").mode() & 0o7777,
            0o644,
            "{name}"
        );
    }
}

#[test]
fn owners_and_modes_of_the_image_are_kept() {
    let Some(world) = World::new() else { return };
    let image = world.base.join("images/img");
    fs::set_permissions(
        image.join("bin/busybox"),
        fs::Permissions::from_mode(0o4755),
    )
    .expect("mode");
    let root = world.create();
    for name in ["home/app", "tmp", "bin/busybox", "etc/passwd", ""] {
        let (a, b) = (
            fs::metadata(image.join(name)).expect("stat"),
            fs::metadata(root.join(name)).expect("stat"),
        );
        assert_eq!(
            (a.mode(), a.uid(), a.gid()),
            (b.mode(), b.uid(), b.gid()),
            "/{name}"
        );
    }
}

#[test]
fn destroy_fs_is_idempotent() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let root = world.create();
    for _ in 0..3 {
        assert_eq!(world.verb("destroy-fs").cmd([&root.guid]).text(), "");
    }
    before.assert_same(&world);
}

#[test]
fn destroy_fs_of_one_leaves_the_others() {
    let Some(world) = World::new() else { return };
    let (one, two) = (world.create(), world.create());
    let _leader = world.launch(&two);
    world.destroy(&one);
    assert!(!one.path.exists());
    assert_eq!(world.exec(&two).cmd(["echo", "there"]).text(), "there");
}

#[test]
fn destroy_fs_clears_what_was_unmounted_or_removed_by_hand() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let root = world.create();
    nix::mount::umount2(&root.path, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    world.destroy(&root);
    let root = world.create();
    nix::mount::umount2(&root.path, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
    fs::remove_dir(&root.path).expect("remove");
    world.destroy(&root);
    before.assert_same(&world);
}

#[test]
fn a_squashfs_image_is_mounted() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    squashfs(&images.join("img"), &images.join("packed.squashfs"));
    is_shared_and_not_changed(&world);
}

#[test]
fn an_erofs_image_is_mounted() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    erofs(&images.join("img"), &images.join("packed.erofs"));
    is_shared_and_not_changed(&world);
}

/// Where StartOS mounts `ID.squashfs` itself, at the place of the directory.
#[test]
fn a_squashfs_that_is_mounted_at_the_place_of_an_image_is_that_image() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    let file = world.dir.join("elsewhere.squashfs");
    squashfs(&images.join("img"), &file);
    fs::create_dir(images.join("packed")).expect("directory");
    let mounted = Run::new(tool("mount"))
        .cmd(["-t", "squashfs", "-o", "ro,loop"])
        .cmd([&file, &images.join("packed")])
        .done();
    assert_eq!(mounted.code(), Some(0), "{mounted:?}");
    is_shared_and_not_changed(&world);
    for userns in ["host", "auto"] {
        let root = rootfs(&create(&world, userns, "packed").done());
        let leader = world.launch(&root);
        assert_eq!(world.exec(&root).sh("stat -c %u /home/app").text(), "1000");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

/// Two containers of the image `packed`: what one writes is not the other's, and nothing is left of either.
fn is_shared_and_not_changed(world: &World) {
    let before = Snapshot::of(world);
    let (one, two) = (world.create_of("packed"), world.create_of("packed"));
    let leader = world.launch(&one);
    assert_eq!(
        world.exec(&one).opt("--user=app").sh("id -u").text(),
        "1000"
    );
    let _ = world.exec(&one).sh("echo changed > /etc/mark").text();
    assert!(!two.join("etc/mark").exists());
    leader.stop().expect_code(0);
    world.destroy(&one);
    assert!(
        two.join("bin/busybox").exists(),
        "the other one lost its image"
    );
    world.destroy(&two);
    before.assert_same(world);
}

#[test]
fn a_corrupt_image_file_is_refused_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    write_file(images.join("broken.squashfs"), vec![0x68; 5000]);
    write_file(images.join("empty.squashfs"), "");
    write_file(images.join("bad.erofs"), vec![0x68; 5000]);
    write_file(images.join("none.erofs"), "");
    let before = Snapshot::of(&world);
    for image in ["broken", "empty", "bad", "none"] {
        world
            .verb("create-fs")
            .cmd([image])
            .done()
            .expect_refused(&[125]);
    }
    before.assert_same(&world);
}

#[test]
fn state_and_data_are_for_root_only() {
    let Some(world) = World::new() else { return };
    // The launch of a plain directory is the first that needs a state.
    let first = World::new().expect("another world");
    let _leader = first.launch(&first.plain("root"));
    let (_root, _leader) = world.idle();
    for dir in [&first.state, &world.state, &world.data] {
        assert_eq!(
            fs::metadata(dir).expect("stat").mode() & 0o7777,
            0o700,
            "{}",
            dir.display()
        );
    }
    let setpriv = tool("setpriv");
    let nobody = [
        setpriv.to_str().expect("path"),
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let done = Run::new("/bin/ls")
        .wrap(nobody)
        .cmd([&world.state, &world.data])
        .done();
    assert_ne!(done.code(), Some(0));
}

#[test]
fn everything_is_kept_where_the_options_say() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    assert!(root.path.starts_with(&world.base));
    assert!(
        world.state.join("subcontainers").join(&root.guid).exists(),
        "no journal"
    );
    assert_eq!(
        fs::read_dir(world.state.join("leaders"))
            .expect("leaders")
            .count(),
        1
    );
    let upper = world.data.join("containers").join(&root.guid).join("upper");
    write_file(root.join("mark"), "");
    assert!(
        upper.join("mark").exists(),
        "the upper directory is not below --data"
    );
}

/// A shell in a private mount namespace; `setup` arranges the host's directories there.
fn elsewhere(world: &World, script: &str) -> Run {
    let script = format!(
        "set -e; SC={}; W={}; {script}",
        binary().display(),
        world.dir.display()
    );
    let run = Run::new(tool("unshare")).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    run.cmd([
        "-m",
        "--propagation",
        "private",
        tool("sh").to_str().expect("path"),
        "-c",
        &script,
    ])
}

#[test]
fn the_configuration_file_sets_base_state_and_data() {
    let Some(world) = World::new() else { return };
    let text = format!(
        "base = \"{}\"\nstate = \"{}\"\ndata = \"{}\"\n",
        world.base.display(),
        world.state.display(),
        world.data.display()
    );
    write_file(world.dir.join("etc/start-container/config.toml"), text);
    let script = r#"
        mount --bind $W/etc /etc
        R=$($SC subcontainer create-fs img)
        $SC subcontainer launch $R & L=$!
        $SC subcontainer exec $R /bin/echo configured
        ls $W/state/leaders | wc -l
        kill $L; wait $L
        $SC subcontainer destroy-fs ${R##*/}
        # An option wins over the file.
        $SC subcontainer create-fs --base=$W/nowhere img || echo $?
    "#;
    let done = elsewhere(&world, script).done();
    assert_eq!(done.expect_ok(), "configured\n1\n125");
}

#[test]
fn a_broken_configuration_file_is_refused() {
    let Some(world) = World::new() else { return };
    for text in ["base = 7\n", "base = [\n", "bse = \"/x\"\n"] {
        write_file(world.dir.join("etc/start-container/config.toml"), text);
        let script = format!(
            "mount --bind $W/etc /etc; exec $SC subcontainer create-fs {} img",
            world.places().join(" ")
        );
        elsewhere(&world, &script).done().expect_refused(&[125]);
    }
}

#[test]
fn the_defaults_are_the_documented_directories() {
    let Some(world) = World::new() else { return };
    let script = r#"
        for dir in /media /run /var/lib /etc; do mount -t tmpfs tmpfs $dir; done
        mkdir -p /media/startos/images; cp -a $W/base/images/img /media/startos/images/
        R=$($SC subcontainer create-fs img)
        echo ${R%/*}
        $SC subcontainer launch $R & L=$!
        $SC subcontainer exec $R /bin/echo in
        stat -c '%a %n' /run/start-container /var/lib/start-container
        ls /run/start-container/leaders | wc -l
        kill $L; wait $L
        $SC subcontainer destroy-fs ${R##*/}
        find /run/start-container /var/lib/start-container /media/startos/subcontainers -mindepth 2
    "#;
    let done = elsewhere(&world, script).done();
    let expected = "/media/startos/subcontainers\nin\n700 /run/start-container\n700 /var/lib/start-container\n1";
    assert_eq!(done.expect_ok(), expected, "{}", done.err_text());
}

#[test]
fn the_upper_directory_on_an_overlay_has_a_fallback() {
    let Some(world) = World::new() else { return };
    let script = format!(
        r#"
        mkdir -p $W/o/lower $W/o/upper $W/o/work $W/data
        mount -t overlay overlay -o lowerdir=$W/o/lower,upperdir=$W/o/upper,workdir=$W/o/work $W/data
        P="{}"
        R=$($SC subcontainer create-fs $P img)
        echo written > $R/etc/mark
        $SC subcontainer launch $P $R & L=$!
        $SC subcontainer exec $P $R /bin/cat /etc/mark
        kill $L; wait $L
        $SC subcontainer destroy-fs $P ${{R##*/}}
        [ ! -e $R ] && find $W/data -mindepth 2
        "#,
        world.places().join(" ")
    );
    let done = elsewhere(&world, &script).done();
    assert_eq!(done.out_text(), "written", "{}", done.err_text());
}

#[test]
fn no_space_is_refused_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let script = format!(
        r#"
        mkdir -p $W/state $W/data
        mount -t tmpfs -o size=16k,nr_inodes=3 tmpfs $W/data
        set +e
        $SC subcontainer create-fs {} img; echo $?
        ls $W/base/subcontainers $W/state/subcontainers 2>/dev/null | grep -v ':$' | grep .
        grep -c $W/base/subcontainers /proc/self/mountinfo
        "#,
        world.places().join(" ")
    );
    let done = elsewhere(&world, &script).done();
    assert_eq!(done.out_text(), "125\n0", "{}", done.err_text());
    assert!(done.err_text().contains("ENOSPC"), "{}", done.err_text());
}

#[test]
fn images_without_env_and_json_files_work() {
    let Some(world) = World::new() else { return };
    for name in ["img.env", "img.json"] {
        fs::remove_file(world.base.join("images").join(name)).expect("remove");
    }
    let root = world.create();
    assert!(root.join("bin").exists());
    assert!(Path::new(&root.path).is_absolute());
}
