//! `--userns=auto` and maps: a root filesystem with ids of its own, from create-fs to destroy-fs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use tests::{
    Launch, Rootfs, Run, Seeded, Snapshot, World, processes_of, spin, tool, until, write_file,
};

use crate::bad_input::{case, refuse_all};

/// How many ids a container gets.
const SIZE: u32 = 65_536;

fn create(world: &World, userns: &str, image: &str) -> Run {
    world
        .verb("create-fs")
        .opt(format!("--userns={userns}"))
        .cmd([image])
}

fn rootfs(done: &tests::Done) -> Rootfs {
    let path = PathBuf::from(done.expect_ok());
    let guid = path.file_name().and_then(OsStr::to_str).expect("guid");
    Rootfs {
        guid: guid.to_owned(),
        path,
    }
}

fn auto(world: &World) -> Rootfs {
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
fn start_of(world: &World, root: &Rootfs) -> u32 {
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

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
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

fn bind(world: &World, source: &Path, target: &Path) -> Run {
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
    let packed = images.join("packed.squashfs");
    let done = Command::new(tool("mksquashfs"))
        .args([&images.join("img"), &packed])
        .arg("-quiet")
        .output()
        .expect("mksquashfs");
    assert!(done.status.success(), "{done:?}");
    let before = Snapshot::of(&world);
    let root = rootfs(&create(&world, "auto", "packed").done());
    let leader = world.launch(&root);
    let start = start_of(&world, &root);
    let script =
        "touch /home/app/f && chown app:app /home/app/f && stat -c %u /home/app /home/app/f";
    assert_eq!(world.exec(&root).sh(script).text(), "1000\n1000");
    assert_eq!(owner(root.join("home/app")), (start + 1000, start + 1000));
    assert_eq!(owner(upper(&world, &root).join("home/app/f")), (1000, 1000));
    leader.stop().expect_code(0);
    world.destroy(&root);
    before.assert_same(&world);
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
    let _ = world.exec(&root).cmd(["ls", "/sys/kernel"]).text();
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
    // Said again, it agrees.
    let again = world.launch_run(&root).opt(format!("--userns={map}"));
    let _ = again.cmd(["true"]).text();
    world.destroy(&root);
    before.assert_same(&world);
}

#[test]
fn bad_maps_are_refused_before_anything_exists() {
    let Some(world) = World::new() else { return };
    // The fixed directories.
    world.destroy(&auto(&world));
    let line = |n: u32| format!("{n}:{}:1", 100_000 + n);
    let lines = |count: u32| (0..count).map(line).collect::<Vec<_>>().join(",");
    let mut cases = Vec::new();
    for (map, says) in [
        ("0:1", "\"0:1\" is no line of a map"),
        ("0:100000:0", "\"0:100000:0\": the range is empty"),
        ("0:100000:10,9:200000:1", "\"0:100000:10 and 9:200000:1\""),
        ("0:100000:10,10:100009:1", "\"0:100000:10 and 10:100009:1\""),
        ("0:4294967290:10", "ends beyond the largest id"),
        ("1:100000:10", "no id 0"),
        ("atuo", "did you mean auto?"),
    ] {
        cases.push(case(create(&world, map, "img"), says));
    }
    cases.push(case(create(&world, &lines(341), "img"), "341 lines"));
    cases.push(case(create(&world, &lines(340), "img"), "host's root"));
    let own = auto(&world);
    let plain = world.create();
    let with = |root: &Rootfs, userns: &str| {
        let run = world.launch_run(root).opt(format!("--userns={userns}"));
        run.cmd(["true"])
    };
    let start = owner(&own).0;
    let ids = format!("ids of its own, 0:{start}:65536");
    for userns in ["host", "identity", "0:100000:65536"] {
        cases.push(case(with(&own, userns), &ids));
        cases.push(case(with(&own, userns), format!("\"--userns={userns}\"")));
    }
    for userns in ["auto", "0:100000:65536"] {
        cases.push(case(with(&plain, userns), "made without ids of its own"));
    }
    refuse_all(&world, cases);
}

#[test]
fn ids_that_the_caller_has_not_cannot_be_given_away() {
    let Some(world) = World::new() else { return };
    let unshare = tool("unshare");
    let small = |run: Run| {
        run.wrap([
            unshare.to_str().expect("path"),
            "--user",
            "--map-root-user",
            "--mount",
        ])
    };
    let before = Snapshot::of(&world);
    for (userns, says) in [
        ("auto", "lxc.idmap"),
        ("0:0:2", "\"0:0:2\""),
        ("0:0:1,1:100000:1", "\"1:100000:1\""),
    ] {
        let done = small(create(&world, userns, "img")).done();
        done.expect_refused(&[125]);
        assert!(done.err_text().contains(says), "{}", done.err_text());
        before.assert_same(&world);
    }
}

#[test]
fn an_image_that_cannot_be_mapped_is_named_when_it_is_made() {
    let Some(world) = World::new() else { return };
    world.destroy(&auto(&world));
    let images = world.base.join("images");
    for name in ["over", "ram", "upper", "work"] {
        fs::create_dir(images.join(name)).expect("directory");
    }
    let shown = |name: &str| images.join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        shown("img"),
        shown("upper"),
        shown("work")
    );
    for (kind, name, options) in [("overlay", "over", options.as_str()), ("ramfs", "ram", "")] {
        let target = images.join(name);
        mount(
            Some(kind),
            &target,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        )
        .unwrap_or_else(|e| panic!("mount {kind}: {e}"));
    }
    refuse_all(
        &world,
        vec![
            case(
                create(&world, "auto", "over"),
                "idmap is not supported by overlay: it cannot be idmapped after merge",
            ),
            case(create(&world, "auto", "over"), shown("over")),
            case(
                create(&world, "auto", "ram"),
                "idmap is not supported by ramfs",
            ),
        ],
    );
    // The same images are fine where their ids stay as they are.
    world.destroy(&world.create_of("over"));
}

#[test]
fn the_writable_layer_may_be_on_other_filesystems() {
    let Some(world) = World::new() else { return };
    for directory in ["o/upper", "o/work", "o/lower"] {
        fs::create_dir_all(world.dir.join(directory)).expect("directory");
    }
    fs::create_dir(&world.data).expect("data");
    let shown = |name: &str| world.dir.join(name).display().to_string();
    let overlay = format!(
        "lowerdir={},upperdir={},workdir={}",
        shown("o/lower"),
        shown("o/upper"),
        shown("o/work")
    );
    for (kind, options, warning) in [
        ("tmpfs", "mode=700", ""),
        ("overlay", overlay.as_str(), "changes live in memory"),
    ] {
        mount(
            Some(kind),
            &world.data,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        )
        .unwrap_or_else(|e| panic!("mount {kind}: {e}"));
        let done = create(&world, "auto", "img").done();
        assert!(
            done.err_text().contains(warning),
            "{kind}: {}",
            done.err_text()
        );
        assert_eq!(done.err_text().is_empty(), warning.is_empty(), "{kind}");
        let root = rootfs(&done);
        let leader = world.launch(&root);
        let start = start_of(&world, &root);
        let script = "touch /f && chown 1000:1000 /f && stat -c %u /f";
        assert_eq!(world.exec(&root).sh(script).text(), "1000", "{kind}");
        assert_eq!(
            owner(root.join("f")),
            (start + 1000, start + 1000),
            "{kind}"
        );
        write_file(root.join("etc/fromhost"), "");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

/// Files on disk keep the ids that they have inside, so a set-user-ID file of the container's root is one of the host's
/// root there: nobody else may get to it.
#[test]
fn what_is_on_disk_is_out_of_reach_for_other_users() {
    let Some(world) = World::new() else { return };
    let setpriv = tool("setpriv");
    let stranger = [
        setpriv.to_str().expect("path"),
        "--reuid=4000",
        "--regid=4000",
        "--clear-groups",
    ];
    for mask in ["000", "077"] {
        let sh = tool("sh");
        let line = format!("umask {mask}; exec \"$@\"");
        let wrap = [sh.to_str().expect("path"), "-c", &line, "sh"];
        let root = rootfs(&create(&world, "auto", "img").wrap(wrap).done());
        let leader = Launch::start(world.launch_run(&root).wrap(wrap), &root);
        let script = "cp /bin/busybox /bin/become && chmod 4755 /bin/become";
        let _ = world.exec(&root).sh(script).text();
        let start = owner(&root).0;
        let range = world.state.join("ranges").join(start.to_string());
        let container = world.data.join("containers").join(&root.guid);
        let mode = |path: &Path| fs::metadata(path).expect("stat").mode() & 0o7777;
        for (path, expected) in [
            (&world.state, 0o700),
            (&world.state.join("ranges"), 0o700),
            (&world.state.join("subcontainers"), 0o700),
            (&world.state.join("subcontainers").join(&root.guid), 0o600),
            (&world.data, 0o700),
            (&world.data.join("containers"), 0o700),
            (&container, 0o700),
            (&container.join("work"), 0o700),
            (&container.join("upper"), 0o755),
            (&range, 0o700),
            (&range.join(&root.guid), 0o600),
            (&root.join("etc/hosts"), 0o644),
            (&root.join("run"), 0o755),
        ] {
            assert_eq!(mode(path), expected, "umask {mask}: {}", path.display());
        }
        let on_disk = container.join("upper/bin/become");
        assert_eq!((owner(&on_disk).0, mode(&on_disk)), (0, 0o4755));
        for path in [&on_disk, &container, &range] {
            let done = Run::new("/bin/ls").wrap(stranger).cmd([path]).done();
            assert_ne!(done.code(), Some(0), "{}", path.display());
        }
        // Below ROOTFS, where others may pass, it belongs to an id that nobody else has.
        assert_eq!(owner(root.join("bin/become")).0, start);
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}
