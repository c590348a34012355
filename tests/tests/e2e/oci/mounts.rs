//! Options of mounts: for all that is mounted below, id maps, symlinks on the way, propagation.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::process::Command;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World};

/// Adds a mount.
pub(super) fn mount(config: &mut Value, destination: &str, entry: Value) {
    let mut entry = entry;
    entry["destination"] = destination.into();
    config["mounts"].as_array_mut().unwrap().push(entry);
}

/// A directory with a tmpfs mounted in it, which is taken away again.
struct Nested(std::path::PathBuf);

impl Nested {
    fn new(world: &World) -> Self {
        let dir = world.dir.join("source");
        fs::create_dir_all(dir.join("inner")).unwrap();
        let inner = dir.join("inner");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "none"])
            .arg(&inner)
            .status();
        assert!(done.unwrap().success());
        fs::write(inner.join("file"), "").unwrap();
        Self(dir)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.join("inner")).status();
    }
}

const FLAGS: &str = "while read -r _ _ _ _ place flags _; do case $place in /mnt*) echo $place $flags;; esac; done < /proc/self/mountinfo";

#[test]
fn attributes_are_for_all_mounts_below_when_they_say_so() {
    let Some(world) = World::new() else { return };
    let nested = Nested::new(&world);
    let bundle = Bundle::new(&world, FLAGS, |_| {});
    let good = bundle.config();
    for (options, top, inner) in [
        (&["rbind", "ro"][..], "ro,relatime", "rw,relatime"),
        (&["rbind", "rro"], "ro,relatime", "ro,relatime"),
        (
            &["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime"],
            "rw,nosuid,nodev,noexec,noatime",
            "rw,nosuid,nodev,noexec,noatime",
        ),
        (
            &["rbind", "rnosuid", "rsuid", "nosuid"],
            "rw,nosuid,relatime",
            "rw,relatime",
        ),
        (&["rbind", "rro", "rrw"], "rw,relatime", "rw,relatime"),
        (
            &["rbind", "noatime", "relatime"],
            "rw,relatime",
            "rw,relatime",
        ),
        (
            &["rbind", "rnosymfollow"],
            "rw,relatime,nosymfollow",
            "rw,relatime,nosymfollow",
        ),
    ] {
        let mut config = good.clone();
        mount(
            &mut config,
            "/mnt",
            json!({ "source": nested.0, "options": options }),
        );
        bundle.write(&config);
        let text = bundle.ok(&["run", "one"]);
        assert_eq!(
            text,
            format!("/mnt {top}\n/mnt/inner {inner}"),
            "{options:?}"
        );
    }
}

#[test]
fn a_bind_may_have_an_id_map() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "stat -c %u:%g /mnt/file; echo > /mnt/new", |_| {});
    let source = world.dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    chown(source.join("file"), Some(0), Some(0)).unwrap();
    let good = bundle.config();
    let line = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1000 }]);
    let mut config = good.clone();
    mount(
        &mut config,
        "/mnt",
        json!({
            "source": source, "options": ["bind", "idmap"],
            "uidMappings": line(5000), "gidMappings": line(5000),
        }),
    );
    config["process"]["user"] = json!({ "uid": 5000, "gid": 5000 });
    chown(&source, Some(0), Some(0)).unwrap();
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "5000:5000");
    assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 0);
    // The same in the words of crun and podman.
    let mut config = good.clone();
    let inline = "idmap=uids=0-5000-1000;gids=0-5000-1000";
    mount(
        &mut config,
        "/mnt",
        json!({ "source": source, "options": ["bind", inline] }),
    );
    bundle.write(&config);
    assert_eq!(bundle.call(&["run", "one"]).done().out_text(), "5000:5000");
    for (entry, told) in [
        (
            json!({ "source": source, "options": ["bind", "idmap=uids=0-5"] }),
            "no map of ids",
        ),
        (
            json!({ "source": source, "options": ["bind", "idmap=uids=0-5-9"] }),
            "gidMappings",
        ),
        (
            json!({ "source": source, "options": ["bind"], "uidMappings": line(5), "gidMappings": line(6) }),
            "uidMappings",
        ),
        (
            json!({ "source": source, "options": ["rbind", "idmap"], "uidMappings": line(5), "gidMappings": line(5) }),
            "ridmap",
        ),
        (
            json!({ "source": source, "options": ["bind", "idmap"] }),
            "uidMappings",
        ),
        (
            json!({ "type": "tmpfs", "source": "tmpfs", "uidMappings": line(5) }),
            "uidMappings",
        ),
    ] {
        let mut config = good.clone();
        mount(&mut config, "/mnt", entry);
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
}

#[test]
fn where_a_symlink_leads_to_nothing_that_is_made() {
    let Some(world) = World::new() else { return };
    let script = "cat /one/more/file /two; ls -d /a/b/more/file /c/d";
    let bundle = Bundle::new(&world, script, |_| {});
    let source = world.dir.join("source");
    fs::write(&source, "mounted\n").unwrap();
    fs::create_dir_all(bundle.file("deep")).unwrap();
    for (text, link) in [
        ("/../a/b", "one"),
        ("deep/up", "two"),
        ("../c/d", "deep/up"),
    ] {
        symlink(text, bundle.file(link)).unwrap();
    }
    let mut config = bundle.config();
    for target in ["/one/more/file", "/two"] {
        let entry = json!({ "source": source, "options": ["bind"] });
        mount(&mut config, target, entry);
    }
    bundle.write(&config);
    let expected = "mounted\nmounted\n/a/b/more/file\n/c/d";
    assert_eq!(bundle.ok(&["run", "one"]), expected);
    assert!(bundle.file("c/d").is_file());
    assert!(!world.dir.join("c").exists() && !bundle.dir.join("c").exists());
}

/// Who joins a namespace is forked by a process with a small stack.
#[test]
fn as_many_symlinks_as_may_lead_to_each_other_are_followed_from_there_too() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(
        &world,
        "test -e /first && exec sleep 1000; cat /link1",
        |_| {},
    );
    fs::write(bundle.file("first"), "").unwrap();
    bundle.ok(&["run", "-d", "other"]);
    let other = format!("/proc/{}/ns/uts", bundle.state("other")["pid"]);
    fs::remove_file(bundle.file("first")).unwrap();
    let mut good = bundle.config();
    let namespaces = good["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "uts");
    namespaces.push(json!({ "type": "uts", "path": other }));
    good["linux"]["cgroupsPath"] = bundle.cgroup("one-more").into();
    for name in ["hostname", "domainname"] {
        good.as_object_mut().unwrap().remove(name);
    }
    let source = world.dir.join("source");
    fs::write(&source, "mounted\n").unwrap();
    for index in 0..9 {
        symlink(
            format!("link{}", index + 1),
            bundle.file(&format!("link{index}")),
        )
        .unwrap();
    }
    for (target, expected) in [("/link1", Some("mounted")), ("/link0", None)] {
        let mut config = good.clone();
        mount(
            &mut config,
            target,
            json!({ "source": source, "options": ["bind"] }),
        );
        bundle.write(&config);
        let done = bundle.call(&["run", "one"]).done();
        match expected {
            Some(text) => {
                assert_eq!(done.expect_ok(), text);
                fs::remove_file(bundle.file("link9")).unwrap();
            }
            None => {
                done.expect_refused(&[1]);
                assert!(done.err_text().contains("ELOOP"), "{}", done.err_text());
            }
        }
    }
}

#[test]
fn symlinks_on_the_way_to_a_target_stay_inside() {
    let Some(world) = World::new() else { return };
    let sentinel = world.dir.join("sentinel");
    fs::create_dir(&sentinel).unwrap();
    let bundle = Bundle::new(&world, "cat /run/secrets/made/mark", |_| {});
    let source = world.dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("mark"), "inside").unwrap();
    // As many images have it; and one that leads to a place of the host's, if it is followed there.
    symlink("/run", bundle.file("var/run")).unwrap();
    let away = format!("/../../..{}", sentinel.display());
    symlink(&away, bundle.file("away")).unwrap();
    let there = bundle.file(sentinel.strip_prefix("/").unwrap().to_str().unwrap());
    fs::create_dir_all(&there).unwrap();
    symlink("/proc", bundle.file("kernel")).unwrap();
    symlink("dangling", bundle.file("dangling")).unwrap();
    let good = bundle.config();
    let entry = || json!({ "source": source, "options": ["bind"] });
    let mut config = good.clone();
    mount(&mut config, "/var/run/secrets/made", entry());
    mount(&mut config, "/away/made", entry());
    bundle.write(&config);
    let before = Snapshot::of(&world);
    assert_eq!(bundle.ok(&["run", "one"]), "inside");
    assert!(there.join("made").is_dir());
    assert_eq!(fs::read_dir(&sentinel).unwrap().count(), 0);
    for (target, told) in [("/kernel/sys", "ELOOP"), ("/dangling", "ELOOP")] {
        let mut config = good.clone();
        mount(&mut config, target, entry());
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
    let _ = fs::remove_dir(bundle.root());
    before.assert_same(&world);
}

#[test]
fn the_roots_propagation_is_that_of_the_configuration() {
    let Some(world) = World::new() else { return };
    let script = "while read -r _ _ _ _ place _ rest; do case $place in /|/dev) echo $place ${rest%% - *};; esac; done < /proc/self/mountinfo";
    let bundle = Bundle::new(&world, script, |_| {});
    let good = bundle.config();
    for (kind, root, below) in [
        ("private", "", ""),
        ("rprivate", "", ""),
        ("shared", "shared", ""),
        ("rshared", "shared", "shared"),
        ("unbindable", "unbindable", ""),
    ] {
        let mut config = good.clone();
        config["linux"]["rootfsPropagation"] = kind.into();
        bundle.write(&config);
        let text = bundle.ok(&["run", "one"]);
        let lines: Vec<_> = text.lines().collect();
        let is = |line: &str, word: &str| {
            line.contains(word) && (!word.is_empty() || !line.contains("shared"))
        };
        assert!(is(lines[0], root) && is(lines[1], below), "{kind}: {text}");
        assert!(
            !lines[0].contains("master") || kind.contains("shared"),
            "{kind}: {text}"
        );
    }
    let mut config = good;
    config["linux"]["rootfsPropagation"] = "nosuch".into();
    bundle.write(&config);
    bundle.call(&["create", "one"]).done().expect_refused(&[1]);
}

#[test]
fn the_mount_table_shows_sources_and_propagation_of_the_configuration() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /proc/self/mountinfo", |config| {
        let named = json!({ "type": "tmpfs", "source": "a name", "options": ["size=64k"] });
        mount(config, "/mnt", named);
        mount(config, "/tmp", json!({ "type": "tmpfs" }));
        let shared = json!({ "type": "tmpfs", "source": "own", "options": ["shared"] });
        mount(config, "/srv", shared);
        let alone = json!({ "type": "tmpfs", "options": ["unbindable"] });
        mount(config, "/home", alone);
    });
    let table = bundle.ok(&["run", "one"]);
    for line in [
        " /proc rw,relatime - proc proc ",
        " - devpts devpts ",
        " /mnt rw,relatime - tmpfs a\\040name ",
        " /tmp rw,relatime - tmpfs none ",
        " /home rw,relatime unbindable - tmpfs none ",
    ] {
        assert!(table.contains(line), "{line:?} in {table}");
    }
    let mut lines = table.lines();
    let shared = lines.find(|line| line.contains(" /srv ")).expect("mount");
    assert!(
        shared.contains(" shared:") && shared.contains(" - tmpfs own "),
        "{shared}"
    );
    // Nobody else has it.
    let group = shared
        .split(" shared:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let own = format!(" shared:{} ", group.expect("group"));
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&own)
    );
}

#[test]
fn a_container_with_ids_and_the_hosts_network_sees_the_hosts_sys() {
    let Some(world) = World::new() else { return };
    let script = "ls /sys/class/net | sort; ls /sys/fs/cgroup; echo > /sys/kernel/mm/transparent_hugepage/enabled; \
                  awk '$5 ~ \"^/sys\" { print $6 }' /proc/self/mountinfo | grep -v '^ro' | grep -c .";
    let bundle = Bundle::new(&world, script, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
        for field in ["uidMappings", "gidMappings"] {
            config["linux"][field] = json!([{ "containerID": 0, "hostID": 0, "size": 1000 }]);
        }
        // As the specification's example has it, but for those of a container's own.
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts
            .retain(|mount| mount["destination"] != "/sys/fs/cgroup" && mount["type"] != "devpts");
    });
    let done = bundle.call(&["run", "one"]).done();
    let mut devices: Vec<_> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    devices.sort();
    assert_eq!(
        done.out_text(),
        format!("{}\n0", devices.join("\n")),
        "{}",
        done.err_text()
    );
    assert!(done.err_text().contains("Read-only"), "{}", done.err_text());
    let told = bundle.last_log();
    assert!(
        told["msg"].as_str().unwrap().contains("the host's /sys"),
        "{told}"
    );
}
