//! `--userns=auto` and maps: a root filesystem with ids of its own, from create-fs to destroy-fs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{
    Launch, Rootfs, Run, Seeded, Snapshot, World, erofs, processes_of, spin, squashfs, until,
    write_file,
};

use crate::bad_input::{case, refuse_all};

/// How many ids a container gets.
const SIZE: u32 = 65_536;

pub(crate) fn create(world: &World, userns: &str, image: &str) -> Run {
    world
        .verb("create-fs")
        .opt(format!("--userns={userns}"))
        .cmd([image])
}

pub(crate) fn rootfs(done: &tests::Done) -> Rootfs {
    let path = PathBuf::from(done.expect_ok());
    let guid = path.file_name().and_then(OsStr::to_str).expect("guid");
    Rootfs {
        guid: guid.to_owned(),
        path,
    }
}

pub(crate) fn auto(world: &World) -> Rootfs {
    rootfs(&create(world, "auto", "img").done())
}

/// A container with ids of its own, and the first of them.
fn running(world: &World) -> (Rootfs, Launch, u32) {
    let root = auto(world);
    let leader = world.launch(&root);
    let start = start_of(world, &root);
    (root, leader, start)
}

/// The first id, as the container's own maps have it.
pub(crate) fn start_of(world: &World, root: &Rootfs) -> u32 {
    let text = world
        .exec(root)
        .sh("cat /proc/self/uid_map /proc/self/gid_map")
        .text();
    let maps: Vec<Vec<u32>> = text
        .lines()
        .map(|line| {
            let numbers = line.split_whitespace();
            numbers.map(|n| n.parse().expect("number")).collect()
        })
        .collect();
    assert_eq!(maps.len(), 2, "{text}");
    assert_eq!(maps[0], maps[1], "users and groups");
    assert_eq!((maps[0][0], maps[0][2]), (0, SIZE), "{text}");
    maps[0][1]
}

pub(crate) fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let path = path.as_ref();
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid())
}

fn upper(world: &World, root: &Rootfs) -> PathBuf {
    world.data.join("containers").join(&root.guid).join("upper")
}

/// The names of the ranges that somebody has.
fn ranges(world: &World) -> Vec<String> {
    fs::read_dir(world.state.join("ranges"))
        .into_iter()
        .flatten()
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .into_string()
                .expect("utf8")
        })
        .collect()
}

pub(crate) fn bind(world: &World, source: &Path, target: &Path) -> Run {
    world.bare(["bind-mount"]).verb(world.places()).opts([
        OsStr::new("--source"),
        source.as_os_str(),
        OsStr::new("--target"),
        target.as_os_str(),
    ])
}

#[test]
fn two_containers_share_no_id() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let (one, first, a) = running(&world);
    let (two, second, b) = running(&world);
    assert!(a.abs_diff(b) >= SIZE, "{a} and {b}");
    assert!(a >= SIZE && b >= SIZE, "ids of the host: {a} and {b}");
    for (root, start) in [(&one, a), (&two, b)] {
        assert_eq!(owner(root), (start, start));
    }
    first.stop().expect_code(0);
    second.stop().expect_code(0);
    world.destroy(&one);
    assert_eq!(ranges(&world), [b.to_string()]);
    world.destroy(&two);
    assert_eq!(ranges(&world), [""; 0]);
    before.assert_same(&world);
}

#[test]
fn files_of_the_image_have_their_owners_inside() {
    let Some(world) = World::new() else { return };
    let image = world.base.join("images/img");
    chown(image.join("var/log"), Some(65_535), Some(29)).expect("chown");
    let (root, _leader, start) = running(&world);
    for (name, uid, gid) in [
        ("", 0, 0),
        ("bin/busybox", 0, 0),
        ("etc/hostname", 0, 0),
        ("etc/hosts", 0, 0),
        ("home/app", 1000, 1000),
        ("var/log", 65_535, 29),
    ] {
        let inside = world
            .exec(&root)
            .cmd(["stat", "-c", "%u %g", &format!("/{name}")])
            .text();
        assert_eq!(inside, format!("{uid} {gid}"), "/{name}");
        assert_eq!(
            owner(root.join(name)),
            (start + uid, start + gid),
            "/{name}"
        );
    }
    assert_eq!(owner(image.join("home/app")), (1000, 1000), "chowned");
}

#[test]
fn what_is_written_keeps_its_ids_on_disk() {
    let Some(world) = World::new() else { return };
    let (root, _leader, start) = running(&world);
    let script = "touch /root/mine /tmp/given && chown 1000:29 /tmp/given && \
                  echo more >> /etc/passwd && chmod 700 /home/app && mv /tmp/given /home/app/given && \
                  rm /etc/group && stat -c %u:%g /home/app/given";
    assert_eq!(world.exec(&root).sh(script).text(), "1000:29");
    let upper = upper(&world, &root);
    for (name, uid, gid) in [
        ("", 0, 0),
        ("root/mine", 0, 0),
        ("home/app/given", 1000, 29),
        ("home/app", 1000, 1000),
        ("etc/passwd", 0, 0),
    ] {
        assert_eq!(owner(upper.join(name)), (uid, gid), "/{name} on disk");
        assert_eq!(
            owner(root.join(name)),
            (start + uid, start + gid),
            "/{name}"
        );
    }
    assert!(!root.join("etc/group").exists());
}

#[test]
fn a_user_has_its_files_and_its_streams() {
    let Some(world) = World::new() else { return };
    let (root, leader, _) = running(&world);
    let as_app = || world.exec(&root).opt("--user=app");
    let done = as_app()
        .sh("id -u; touch /home/app/x; touch /root/x; echo again > /dev/stdout; echo e > /proc/self/fd/2")
        .done();
    assert_eq!(done.expect_ok(), "1000\nagain");
    assert!(
        done.err_text().contains("Permission denied"),
        "{}",
        done.err_text()
    );
    assert!(done.err_text().ends_with("\ne"), "{}", done.err_text());
    let terminal = as_app()
        .opt("--force-tty")
        .sh("stat -L -c %u /proc/self/fd/0");
    assert_eq!(terminal.text().trim_end(), "1000");
    leader.stop().expect_code(0);
    // PID 1 itself.
    let run = world.launch_run(&root).opt("--user=app");
    let done = run.sh("id -u; echo again > /dev/stdout").done();
    assert_eq!(done.expect_ok(), "1000\nagain");
    // An id that the container does not have.
    let run = world.launch_run(&root).opt("--user=65536");
    run.sh("id -u").done().expect_refused(&[125]);
}

#[test]
fn root_of_the_host_writes_below_the_root_filesystem() {
    let Some(world) = World::new() else { return };
    let (root, _leader, _) = running(&world);
    write_file(root.join("new/file"), "from the host\n");
    write_file(root.join("etc/passwd"), "root:x:0:0::/:\n");
    fs::rename(root.join("etc/group"), root.join("new/group")).expect("rename");
    fs::remove_dir(root.join("mnt")).expect("rmdir");
    // Seen as nobody's: the host's root is not in the container.
    assert_eq!(
        world
            .exec(&root)
            .sh("cat /new/file /etc/passwd; stat -c %u /new/file; touch /new/x; ls /mnt")
            .done()
            .out_text(),
        "from the host\nroot:x:0:0::/:\n65534"
    );
    assert_eq!(owner(root.join("new/file")), (0, 0));
    assert_eq!(owner(upper(&world, &root).join("new/file")), (SIZE, SIZE));
}

/// The writable layer has an id for the host's root; files of an image must not get it, set-user-ID ones least of all.
#[test]
fn no_file_of_an_image_becomes_one_of_the_hosts_root() {
    let Some(world) = World::new() else { return };
    let file = world.base.join("images/img/bin/trap");
    fs::copy("/bin/busybox", &file).expect("copy");
    for id in [SIZE, SIZE + 1, u32::MAX - 1] {
        chown(&file, Some(id), Some(id)).expect("chown");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).expect("mode");
        let (root, leader, _) = running(&world);
        assert_eq!(owner(root.join("bin/trap")), (65_534, 65_534), "{id}");
        let done = world.exec(&root).sh("echo >> /bin/trap").done();
        assert_ne!(done.code(), Some(0), "{id}");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn concurrent_creates_get_different_ranges() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let clients: Vec<_> = (0..16)
        .map(|_| create(&world, "auto", "img").spawn())
        .collect();
    let roots: Vec<_> = clients
        .into_iter()
        .map(|client| rootfs(&client.finish()))
        .collect();
    let starts: BTreeSet<u32> = roots.iter().map(|root| owner(root).0).collect();
    assert_eq!(starts.len(), 16);
    let gaps = starts.iter().zip(starts.iter().skip(1));
    assert!(gaps.clone().all(|(a, b)| b - a >= SIZE), "{starts:?}");
    let clients: Vec<_> = roots
        .iter()
        .map(|root| world.verb("destroy-fs").cmd([&root.guid]).spawn())
        .collect();
    for client in clients {
        let _ = client.finish().expect_ok();
    }
    before.assert_same(&world);
}

#[test]
fn the_range_of_a_killed_create_is_given_back() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let mut seeded = Seeded::new(7);
    for _ in 0..40 {
        let client = create(&world, "auto", "img").spawn();
        spin(Duration::from_micros(seeded.below(20_000)));
        client.signal(Signal::SIGKILL);
        drop(client);
        // A child of it that makes an id map hears of its end a moment later.
        until("its end", || {
            processes_of(&world.dir).is_empty().then_some(())
        });
        // What the killed one left is taken away by the next; one that was killed too late is complete.
        world.destroy(&auto(&world));
        for entry in fs::read_dir(world.state.join("subcontainers")).expect("records") {
            let guid = entry.expect("entry").file_name();
            let _ = world.verb("destroy-fs").cmd([guid]).text();
        }
        before.assert_same(&world);
    }
}

#[test]
fn a_squashfs_image_can_have_ids_of_its_own() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    squashfs(&images.join("img"), &images.join("packed.squashfs"));
    has_ids_of_its_own(&world);
}

#[test]
fn an_erofs_image_can_have_ids_of_its_own() {
    let Some(world) = World::new() else { return };
    let images = world.base.join("images");
    erofs(&images.join("img"), &images.join("packed.erofs"));
    has_ids_of_its_own(&world);
}

/// Whoever uses the image `packed` with a range of ids.
fn has_ids_of_its_own(world: &World) {
    let before = Snapshot::of(world);
    let root = rootfs(&create(world, "auto", "packed").done());
    let leader = world.launch(&root);
    let start = start_of(world, &root);
    let script =
        "touch /home/app/f && chown app:app /home/app/f && stat -c %u /home/app /home/app/f";
    assert_eq!(world.exec(&root).sh(script).text(), "1000\n1000");
    assert_eq!(owner(root.join("home/app")), (start + 1000, start + 1000));
    assert_eq!(owner(upper(world, &root).join("home/app/f")), (1000, 1000));
    leader.stop().expect_code(0);
    world.destroy(&root);
    before.assert_same(world);
}

#[test]
fn a_volume_shows_its_ids_inside() {
    let Some(world) = World::new() else { return };
    let (root, _leader, _) = running(&world);
    let volume = world.base.join("volumes/main");
    for id in [0, 1000, 5000, 70_000] {
        write_file(volume.join(id.to_string()), "");
        chown(volume.join(id.to_string()), Some(id), Some(id)).expect("chown");
    }
    let owners = |place: &str| {
        let script = format!("cd {place} && stat -c %u:%g 0 1000 5000 70000");
        world.exec(&root).sh(&script).text()
    };
    let _ = bind(&world, &volume, &root.join("data/plain")).text();
    assert_eq!(
        owners("/data/plain"),
        "0:0\n1000:1000\n5000:5000\n65534:65534"
    );
    // What was made for the target is the container root's.
    assert_eq!(
        world.exec(&root).cmd(["stat", "-c", "%u", "/data"]).text(),
        "0"
    );
    let script = "touch /data/plain/new && chown 77:78 /data/plain/new && touch /data/more";
    let _ = world.exec(&root).sh(script).text();
    assert_eq!(owner(volume.join("new")), (77, 78));
    chown(&volume, Some(5000), Some(5000)).expect("chown");
    let _ = bind(&world, &volume, &root.join("mapped"))
        .opts(["--idmap=5000:0", "--idmap=70000:1000:10"])
        .text();
    assert_eq!(
        owners("/mapped"),
        "65534:65534\n65534:65534\n0:0\n1000:1000"
    );
    let _ = world.exec(&root).cmd(["touch", "/mapped/root"]).text();
    assert_eq!(owner(volume.join("root")), (5000, 5000));
    // Views of the kernel have no ids to map.
    let _ = bind(&world, Path::new("/sys"), &root.join("sys"))
        .opt("--recursive")
        .text();
    let _ = bind(&world, Path::new("/dev/full"), &root.join("dev/full"))
        .opt("--file")
        .text();
    let script = "ls /sys/kernel && echo x > /dev/full";
    let done = world.exec(&root).sh(script).done();
    assert!(
        done.err_text().contains("No space left"),
        "{}",
        done.err_text()
    );
    let beyond = bind(&world, &volume, &root.join("beyond")).opt("--idmap=0:65535:2");
    refuse_all(&world, vec![case(beyond, "the container has no id 65536")]);
}

#[test]
fn an_explicit_map_is_what_the_container_has() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let map = "0:300000:1000,1000:400000:1,5000:500000:60000";
    let root = rootfs(&create(&world, map, "img").done());
    let leader = world.launch(&root);
    let lines = world.exec(&root).cmd(["cat", "/proc/self/gid_map"]).text();
    let lines: Vec<String> = lines
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(":"))
        .collect();
    assert_eq!(lines.join(","), map);
    assert_eq!(owner(root.join("home/app")), (400_000, 400_000));
    write_file(root.join("mark"), "");
    assert_eq!(owner(upper(&world, &root).join("mark")), (1001, 1001));
    leader.stop().expect_code(0);
    let planned = world.launch_run(&root).opts(["--dry-run", "--format=json"]);
    let planned: serde_json::Value = serde_json::from_str(&planned.text()).expect("JSON");
    let users = &planned["id_maps"]["users"];
    assert_eq!(users[2]["outside"], 500_000, "{users}");
    // Said again, it agrees.
    let again = world.launch_run(&root).opt(format!("--userns={map}"));
    let _ = again.cmd(["true"]).text();
    world.destroy(&root);
    before.assert_same(&world);
}
