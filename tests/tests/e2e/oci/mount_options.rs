//! Options of mounts that are about a filesystem: what covers a directory takes over (`tmpcopyup`), what is mounted
//! already (`remount`), filesystems of every kind, and the words of the specification.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::tree::Tree;
use tests::{Bundle, Snapshot, World};

/// Adds a mount.
fn mount(config: &mut Value, destination: &str, entry: Value) {
    let mut entry = entry;
    entry["destination"] = destination.into();
    config["mounts"].as_array_mut().unwrap().push(entry);
}

/// Where the host sees a path of a container.
fn inside(bundle: &Bundle<'_>, path: &str) -> PathBuf {
    let pid = bundle.state("one")["pid"].as_i64().unwrap();
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

fn own(path: &Path, uid: u32, mode: u32) {
    chown(path, Some(uid), Some(uid + 1)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory of an image with one of each kind, and a symlink that leads to a directory of the host if it is followed.
fn fill(bundle: &Bundle<'_>, sentinel: &Path) -> PathBuf {
    let data = bundle.file("data");
    fs::create_dir_all(data.join("deep/deeper")).unwrap();
    fs::write(data.join("deep/deeper/file"), "content").unwrap();
    own(&data.join("deep/deeper/file"), 5, 0o4751);
    own(&data.join("deep"), 7, 0o1705);
    own(&data, 9, 0o750);
    fs::write(data.join("large"), vec![7; 300_000]).unwrap();
    xattr::set(data.join("large"), "user.mark", b"kept").unwrap();
    xattr::set(data.join("large"), "trusted.mark", b"kept too").unwrap();
    symlink(sentinel, data.join("away")).unwrap();
    lchown(data.join("away"), Some(11), Some(12)).unwrap();
    let pipe = data.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    own(&pipe, 13, 0o622);
    // More than one call lists.
    for number in 0..300 {
        fs::write(
            data.join(format!("deep/a-name-that-takes-some-room-{number}")),
            "",
        )
        .unwrap();
    }
    data
}

#[test]
fn a_tmpfs_begins_with_what_is_in_the_directory_that_it_covers() {
    let Some(world) = World::new() else { return };
    let sentinel = world.dir.join("sentinel");
    fs::create_dir(&sentinel).unwrap();
    fs::write(sentinel.join("secret"), "").unwrap();
    let bundle = Bundle::new(&world, "sleep 1000", |_| {});
    let data = fill(&bundle, &sentinel);
    let entry =
        json!({ "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro", "nosuid"] });
    let mut config = bundle.config();
    // Mounted below it, so no part of it.
    mount(
        &mut config,
        "/data/deep/deeper/bound",
        json!({ "source": sentinel, "options": ["bind"] }),
    );
    mount(&mut config, "/data", entry);
    bundle.write(&config);
    fs::create_dir(data.join("deep/deeper/bound")).unwrap();
    let image = Tree::of(&data).without_xattrs(&["user."]);
    bundle.ok(&["run", "-d", "one"]);
    let copy = inside(&bundle, "/data");
    let copied = Tree::of(&copy).without_xattrs(&["user."]);
    assert!(!copied.has("deep/deeper/bound"));
    let top = fs::metadata(&copy).unwrap();
    assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (9, 10, 0o750));
    let wanted = image.clone().without(&[".", "deep/deeper/bound"]);
    assert_eq!(wanted.len(), 306);
    wanted.assert_same("image", &copied.without(&["."]), "tmpfs");
    // A tmpfs has attributes of users since Linux 6.6.
    let mark = match xattr::get(copy.join("large"), "user.mark") {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => None,
        mark => mark.unwrap(),
    };
    assert!(matches!(mark.as_deref(), None | Some(b"kept")));
    // It is the tmpfs that is read-only.
    let flags = "grep -o '/data [a-z,]*' /proc/self/mountinfo";
    let flags = bundle.ok(&["exec", "one", "sh", "-c", flags]);
    assert_eq!(flags, "/data ro,nosuid,relatime");
    bundle.ok(&["delete", "--force", "one"]);
    let after = Tree::of(&data).without_xattrs(&["user."]);
    image.assert_same("before", &after, "after");
}

#[test]
fn the_copy_counts_as_what_the_container_writes() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "stat -c '%a %u' /data /data/deep /made", |_| {});
    let data = fill(&bundle, &world.dir);
    let good = bundle.config();
    let entry = |option: &str| json!({ "type": "tmpfs", "options": ["tmpcopyup", option] });
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    // The tmpfs is too small.
    let mut config = good.clone();
    mount(&mut config, "/data", entry("size=64k"));
    bundle.write(&config);
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(done.err_text().contains("ENOSPC"), "{}", done.err_text());
    // Only a tmpfs is filled.
    for (kind, options) in [
        ("bind", json!(["tmpcopyup"])),
        ("ramfs", json!(["tmpcopyup"])),
    ] {
        let mut config = good.clone();
        mount(
            &mut config,
            "/data",
            json!({ "type": kind, "source": "/", "options": options }),
        );
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains("tmpcopyup"), "{}", done.err_text());
    }
    before.assert_same(&world);
    // What the options say wins; what was not there before has nothing to take over.
    let mut config = good;
    mount(
        &mut config,
        "/data",
        json!({ "type": "tmpfs", "options": ["tmpcopyup", "mode=711", "uid=3"] }),
    );
    mount(&mut config, "/made", json!({ "type": "tmpfs" }));
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "711 3\n1705 7\n1777 0");
    // A tmpfs that is not filled looks like the directory all the same.
    let mut config = bundle.config();
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|entry| entry["destination"] != "/data");
    mount(&mut config, "/data", json!({ "type": "tmpfs" }));
    mount(
        &mut config,
        "/data/deep",
        json!({ "type": "tmpfs", "options": ["mode=700"] }),
    );
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "750 0\n700 0\n755 0");
    assert!(data.join("large").exists());
}

#[test]
fn ids_of_a_user_namespace_are_kept_in_the_copy() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "stat -c '%a %u' /data /data/file", |config| {
        let line = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 }]);
        config["linux"]["uidMappings"] = line.clone();
        config["linux"]["gidMappings"] = line;
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "type": "user" }));
        mount(
            config,
            "/data",
            json!({ "type": "tmpfs", "options": ["tmpcopyup"] }),
        );
    });
    let done = Command::new("chown")
        .args(["-R", "200000:200000"])
        .arg(bundle.file(""))
        .status();
    assert!(done.unwrap().success());
    fs::create_dir(bundle.file("data")).unwrap();
    fs::write(bundle.file("data/file"), "").unwrap();
    own(&bundle.file("data"), 200_004, 0o751);
    own(&bundle.file("data/file"), 200_005, 0o640);
    assert_eq!(bundle.ok(&["run", "one"]), "751 4\n640 5");
}

const FLAGS: &str = "while read -r _ _ _ _ place flags _; do case $place in /mnt*) echo $place $flags;; esac; done < /proc/self/mountinfo; df -k /mnt | tail -n 1 | { read -r _ size _; echo $size; }";

#[test]
fn remount_changes_what_an_entry_before_has_mounted() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, FLAGS, |_| {});
    let good = bundle.config();
    let size = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (first, options, flags, kib) in [
        (
            json!(["size=64k"]),
            json!(["remount", "ro"]),
            "ro,relatime",
            "64",
        ),
        (
            json!(["size=64k", "nosuid"]),
            json!(["remount", "bind", "noexec"]),
            "rw,nosuid,noexec,relatime",
            "64",
        ),
        (
            json!(["size=64k", "ro", "nosuid"]),
            json!(["remount", "rw", "suid", "nodev"]),
            "rw,nodev,relatime",
            "64",
        ),
        (
            json!(["size=64k"]),
            json!(["remount", "size=128k", "ro"]),
            "ro,relatime",
            "128",
        ),
    ] {
        let mut config = good.clone();
        mount(
            &mut config,
            "/mnt",
            json!({ "type": "tmpfs", "options": first }),
        );
        mount(
            &mut config,
            "/mnt",
            json!({ "type": "tmpfs", "options": options }),
        );
        bundle.write(&config);
        let lines = size(bundle.ok(&["run", "one"]));
        assert_eq!(
            lines,
            [format!("/mnt {flags}"), kib.to_owned()],
            "{options}"
        );
    }
    // Of the host's filesystems a mount can be changed and nothing else, and that only inside.
    let source = world.dir.join("source");
    fs::create_dir(&source).unwrap();
    let before = Snapshot::of(&world);
    let bind = json!({ "source": source, "options": ["bind"] });
    let mut config = good.clone();
    mount(&mut config, "/mnt", bind.clone());
    mount(
        &mut config,
        "/mnt",
        json!({ "source": source, "options": ["bind", "remount", "ro", "nosuid"] }),
    );
    bundle.write(&config);
    let text = bundle.ok(&["run", "one"]);
    assert!(text.starts_with("/mnt ro,nosuid"), "{text}");
    for (entries, told) in [
        (
            vec![
                bind,
                json!({ "type": "tmpfs", "options": ["remount", "size=1k"] }),
            ],
            "options: size",
        ),
        (vec![json!({ "options": ["remount", "ro"] })], "EINVAL"),
        (
            vec![
                json!({ "type": "tmpfs" }),
                json!({ "options": ["remount", "tmpcopyup"] }),
            ],
            "tmpcopyup",
        ),
    ] {
        let mut config = good.clone();
        for entry in entries {
            mount(&mut config, "/mnt", entry);
        }
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
    before.assert_same(&world);
}

#[test]
fn options_that_a_bind_cannot_have_are_passed_over_with_a_warning() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /mnt/mark", |_| {});
    let source = world.dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("mark"), "there").unwrap();
    let mode = fs::metadata(&source).unwrap().mode();
    let good = bundle.config();
    let mut config = good.clone();
    let options = json!([
        "nosuid",
        "strictatime",
        "mode=711",
        "size=1k",
        "bind",
        "sync"
    ]);
    mount(
        &mut config,
        "/mnt",
        json!({ "source": source, "options": options }),
    );
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "there");
    let log = fs::read_to_string(bundle.log()).unwrap();
    let at = config["mounts"].as_array().unwrap().len() - 1;
    for name in ["mode", "size", "sync"] {
        let said = format!("mounts[{at}].options: {name} is passed over");
        assert!(log.contains(&said), "{log}");
    }
    assert_eq!(fs::metadata(&source).unwrap().mode(), mode);
}

/// The table "Linux mount options" of the runtime specification, without those that have tests of their own.
const WORDS: [&str; 47] = [
    "async",
    "atime",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "lazytime",
    "loud",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rdev",
    "rdiratime",
    "relatime",
    "rexec",
    "rnoatime",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "silent",
    "strictatime",
    "suid",
    "sync",
    "unbindable",
];

#[test]
fn the_words_of_the_specification_are_known() {
    let Some(world) = World::new() else { return };
    let flags = "grep ' /mnt' /proc/self/mountinfo";
    let bundle = Bundle::new(&world, flags, |_| {});
    let good = bundle.config();
    let mut places = 0;
    let mut config = good.clone();
    for word in WORDS {
        for (kind, options) in [("tmpfs", json!([word])), ("bind", json!(["rbind", word]))] {
            let entry = json!({ "type": kind, "source": world.dir, "options": options });
            mount(&mut config, &format!("/mnt/{places}"), entry);
            places += 1;
        }
    }
    bundle.write(&config);
    let table = bundle.ok(&["run", "one"]);
    assert!(table.lines().count() >= places, "{table}");
    let line = |word: &str, bind: bool| {
        let at = WORDS.iter().position(|one| *one == word).unwrap() * 2 + usize::from(bind);
        let place = format!(" /mnt/{at} ");
        table
            .lines()
            .find(|line| line.contains(&place))
            .unwrap()
            .to_owned()
    };
    assert!(line("sync", false).ends_with("sync") || line("sync", false).contains(",sync"));
    assert!(line("dirsync", false).contains("dirsync"));
    assert!(line("lazytime", false).contains("lazytime"));
    assert!(line("rnosymfollow", true).contains("nosymfollow"));
    assert!(!line("rstrictatime", true).contains("relatime"));
    assert!(line("runbindable", true).contains("unbindable"));
    // Of two values of one field the last one counts.
    let mut config = good;
    mount(
        &mut config,
        "/mnt",
        json!({ "type": "tmpfs", "options": ["noatime", "strictatime"] }),
    );
    bundle.write(&config);
    assert!(!bundle.ok(&["run", "one"]).contains("atime"));
}

#[test]
fn every_filesystem_of_the_kernel_can_be_mounted() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /mnt/mark; echo new > /mnt/new", |_| {});
    let good = bundle.config();
    let dirs = ["lower", "upper", "work"].map(|name| world.dir.join(name));
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
    }
    fs::write(dirs[0].join("mark"), "below").unwrap();
    let option = |key: &str, dir: &Path| format!("{key}={}", dir.display());
    let mut config = good.clone();
    let layers = json!([
        option("lowerdir", &dirs[0]),
        option("upperdir", &dirs[1]),
        option("workdir", &dirs[2]),
        "private"
    ]);
    mount(
        &mut config,
        "/mnt",
        json!({ "type": "overlay", "source": "overlay", "options": layers }),
    );
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "below");
    assert_eq!(fs::read_to_string(dirs[1].join("new")).unwrap(), "new\n");
    let before = Snapshot::of(&world);
    for (entry, told) in [
        (json!({ "type": "nosuchfs", "source": "x" }), "ENODEV"),
        (
            json!({ "type": "ext4", "source": "/nonexistent" }),
            "ENOENT",
        ),
        (
            json!({ "type": "tmpfs", "options": ["nosuch=1"] }),
            "EINVAL",
        ),
        (
            json!({ "type": "overlay", "options": [format!("lowerdir=/{}", "x".repeat(300))] }),
            "options: lowerdir",
        ),
        (json!({ "source": "tmpfs" }), "type"),
    ] {
        let mut config = good.clone();
        mount(&mut config, "/mnt", entry);
        bundle.refuses(&config, told);
    }
    before.assert_same(&world);
}
