//! Options of mounts that are about a filesystem: what is mounted already (`remount`), filesystems of every kind, and the
//! words of the specification.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::json;
use tests::{Bundle, Snapshot, World};

use super::mounts::mount;

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
