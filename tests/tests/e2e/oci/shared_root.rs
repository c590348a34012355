//! Containers without a mount namespace of their own: what they mount is seen by others, and goes with them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command};

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World, mounts_below, tool, until};

/// The configuration without a mount namespace, or with the one at a path.
fn in_mounts_of(config: &mut Value, path: Option<&str>) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|one| one["type"] != "mount");
    list.extend(path.map(|path| json!({ "type": "mount", "path": path })));
}

fn bundle(world: &World) -> Bundle<'_> {
    let bundle = Bundle::new(world, "exec sleep 1000", |config| {
        in_mounts_of(config, None)
    });
    fs::create_dir_all(bundle.root()).unwrap();
    bundle
}

fn mount_namespace(pid: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/mnt")).unwrap().ino()
}

/// A process in a copy of our mount namespace, which gets events of none and sends none.
struct Holder(Child);

impl Holder {
    fn new() -> Self {
        let mut command = Command::new(tool("unshare"));
        command.args(["--mount", "--propagation", "private", "sleep", "1000"]);
        let holder = Self(command.spawn().unwrap());
        let pid = holder.pid();
        until("a mount namespace", || {
            let own = mount_namespace(&pid) != mount_namespace("self");
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            (own && comm == "sleep\n").then_some(())
        });
        holder
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn mounts(&self) -> String {
        fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_it_mounts_is_seen_by_the_host_and_goes_with_it() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world);
    let mut config = bundle.config();
    let note = "echo hook > /tmp/hook; cat > /dev/null";
    config["root"]["readonly"] = false.into();
    config["hooks"]["startContainer"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", note] }]);
    bundle.write(&config);
    let rootfs = bundle.file("");
    // What the host has mounted in there is the host's.
    let own = bundle.file("mnt");
    fs::create_dir_all(&own).unwrap();
    nix::mount::mount(
        Some("own"),
        &own,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    fs::write(own.join("mark"), "own").unwrap();
    let host = Snapshot::of(&world);
    bundle.ok(&["run", "-d", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    assert_eq!(mount_namespace(&pid), mount_namespace("self"));
    let seen = mounts_below(&rootfs);
    for place in ["proc", "dev", "dev/pts", "sys"] {
        assert!(seen.contains(&rootfs.join(place)), "{place}: {seen:?}");
    }
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/root")).unwrap(),
        rootfs.components().as_path()
    );
    // A command, and a hook, are in the same root and among the same processes.
    let script =
        "cat /tmp/hook /mnt/mark /proc/1/comm; ls -d /etc/debian_version; echo made > /tmp/made";
    let done = bundle.call(&["exec", "one", "sh", "-c", script]).done();
    assert_eq!(
        String::from_utf8_lossy(&done.out),
        "hook\nownsleep\n",
        "{}",
        done.err_text()
    );
    assert_eq!(
        fs::read_to_string(bundle.file("tmp/made")).unwrap(),
        "made\n"
    );
    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    bundle.ok(&["delete", "one"]);
    host.assert_same(&world);
    assert_eq!(fs::read_to_string(own.join("mark")).unwrap(), "own");
    nix::mount::umount(&own).unwrap();
}

#[test]
fn below_a_shared_mount_nothing_of_it_travels() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world);
    let rootfs = bundle.file("");
    let inner = rootfs.join("mnt/inner");
    // A peer of the root filesystem's mount, which would see and lose what that sees and loses.
    let script = r#"
        set -e
        dir=$1 run=$2
        mount --bind "$dir" "$dir"; mount --make-shared "$dir"
        mkdir -p "$dir/rootfs/mnt/inner" "$dir.peer"; mount --bind "$dir" "$dir.peer"
        mount -t tmpfs own "$dir/rootfs/mnt/inner"
        before=$(grep -c "$dir" /proc/self/mountinfo)
        shift 2; "$run" "$@" run -d one
        grep -q "$dir.peer/rootfs/proc " /proc/self/mountinfo && echo travels
        "$run" "$@" delete --force one
        test "$before" = "$(grep -c "$dir" /proc/self/mountinfo)" || cat /proc/self/mountinfo
    "#;
    let unshare = tool("unshare");
    let unshare = unshare.to_str().unwrap();
    let wrap = [
        unshare,
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let dir = bundle.dir.to_str().unwrap();
    let done = bundle.call(&[]).wrap(wrap).wrap([dir]).done();
    done.expect_code(0);
    assert_eq!(String::from_utf8_lossy(&done.out), "");
    assert!(inner.is_dir());
}

#[test]
fn in_the_mounts_of_another_it_leaves_nothing_there() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world);
    let holder = Holder::new();
    let before = holder.mounts();
    let mut config = bundle.config();
    in_mounts_of(&mut config, Some(&format!("/proc/{}/ns/mnt", holder.pid())));
    bundle.write(&config);
    let host = Snapshot::of(&world);
    bundle.ok(&["run", "-d", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    assert_eq!(mount_namespace(&pid), mount_namespace(&holder.pid()));
    let there = format!("{} ", bundle.file("proc").display());
    assert!(holder.mounts().contains(&there));
    assert_eq!(mounts_below(&bundle.dir), Vec::<std::path::PathBuf>::new());
    assert_eq!(bundle.ok(&["exec", "one", "cat", "/proc/1/comm"]), "sleep");
    bundle.ok(&["delete", "--force", "one"]);
    assert_eq!(holder.mounts(), before);
    host.assert_same(&world);
    // And where that has ended meanwhile, nothing was left.
    bundle.ok(&["run", "-d", "one"]);
    drop(holder);
    bundle.ok(&["delete", "--force", "one"]);
    host.assert_same(&world);
}

#[test]
fn what_is_mounted_over_it_goes_first() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world);
    let host = Snapshot::of(&world);
    bundle.ok(&["run", "-d", "one"]);
    let mut config = bundle.config();
    config["linux"]["cgroupsPath"] = bundle.cgroup("two").into();
    // The caller's own by its name is no other.
    in_mounts_of(&mut config, Some("/proc/self/ns/mnt"));
    bundle.write(&config);
    bundle.ok(&["run", "-d", "two"]);
    let done = bundle.call(&["delete", "--force", "one"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("something else is mounted there"),
        "{}",
        done.err_text()
    );
    assert_eq!(bundle.ok(&["exec", "two", "cat", "/proc/1/comm"]), "sleep");
    bundle.ok(&["delete", "--force", "two"]);
    bundle.ok(&["delete", "--force", "one"]);
    host.assert_same(&world);
}

#[test]
fn one_with_ids_of_its_own_is_refused() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world);
    let mut config = bundle.config();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "user" }));
    for field in ["uidMappings", "gidMappings"] {
        config["linux"][field] = json!([{ "containerID": 0, "hostID": 300_000, "size": 65536 }]);
    }
    bundle.refuses(&config, "has a mount namespace of its own");
}

#[test]
fn a_root_that_pid_1_has_left_is_not_entered() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world);
    let mut config = bundle.config();
    for set in ["bounding", "effective", "permitted"] {
        let list = config["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap();
        list.push("CAP_SYS_CHROOT".into());
    }
    config["process"]["args"] = json!(["chroot", "/tmp", "/sleep", "1000"]);
    bundle.write(&config);
    fs::create_dir_all(bundle.file("tmp")).unwrap();
    fs::copy(bundle.file("bin/busybox"), bundle.file("tmp/sleep")).unwrap();
    bundle.ok(&["run", "-d", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    let root = format!("/proc/{pid}/root");
    until("another root", || {
        (fs::metadata(&root).ok()?.ino() == fs::metadata(bundle.file("tmp")).unwrap().ino())
            .then_some(())
    });
    let done = bundle.call(&["exec", "one", "true"]).done();
    done.expect_refused(&[1, 126, 127, 255]);
    assert!(
        done.err_text().contains("not the container's root"),
        "{}",
        done.err_text()
    );
}
