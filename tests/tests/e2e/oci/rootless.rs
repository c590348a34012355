//! The OCI front-end as an ordinary user calls it, in no user namespace: with the own id alone, and with granted ones.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Image, Run, Snapshot, binary, processes_of, until, without_hosts};

use crate::rootless::{GRANTED, User};

/// A bundle of a user's, with the configuration of `spec --rootless`.
pub(super) struct Bundle {
    pub(super) user: User,
    pub(super) dir: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    run: PathBuf,
}

impl Bundle {
    pub(super) fn new(user: User, script: &str) -> Self {
        let run = user.world.dir.join("run");
        fs::create_dir(&run).unwrap();
        let dir = user.home.join("bundle");
        fs::create_dir(&dir).unwrap();
        Image::at(&dir, "rootfs").build();
        give(&run, user.uid);
        give(&dir, user.uid);
        let bundle = Self { user, dir, run };
        bundle.ok(&[
            "spec",
            "--rootless",
            "--bundle",
            bundle.dir.to_str().unwrap(),
        ]);
        bundle.change(|config| {
            without_hosts(config);
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = json!(["sh", "-c", script]);
        });
        bundle
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir.join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(&path, config.to_string()).unwrap();
    }

    /// The binary as the user calls it.
    pub(super) fn call(&self, words: &[&str]) -> Run {
        let log = format!("--log={}/log", self.run.display());
        Run::new(binary())
            .verb([&log])
            .verb(words)
            .wrap(self.user.wrap(self.user.uid))
            .env("XDG_RUNTIME_DIR", &self.run)
    }

    /// `create` or `run` of the bundle.
    pub(super) fn make(&self, words: &[&str]) -> Run {
        let place = ["--bundle", self.dir.to_str().unwrap()];
        self.call(&[words, &place, &["one"]].concat())
    }

    pub(super) fn ok(&self, words: &[&str]) -> String {
        self.call(words).text()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", "one"])).unwrap()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.run.join("log")).unwrap()
    }

    /// The containers' directory is where the user's login has made room, and empty; no process is left.
    fn assert_nothing_left(&self) {
        let root = self.run.join("start-container/oci");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        until("the end of every process", || {
            let holder = self.user.holder.pid();
            let left = processes_of(&self.user.world.dir);
            left.iter()
                .all(|process| process.pid == holder)
                .then_some(())
        });
    }
}

/// Gives a tree to somebody.
pub(super) fn give(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), id);
        }
    }
}

#[test]
fn a_user_with_one_id_has_the_whole_life_of_a_container() {
    let Some(user) = User::single() else { return };
    let script = "id -u; touch /tmp/mark; mkdir -p /dev/shm/x && cat /sys/class/net/lo/flags; exec sleep 1000";
    let bundle = Bundle::new(user, script);
    let uid = bundle.user.uid;
    bundle.change(|config| config["root"]["readonly"] = false.into());
    let before = Snapshot::of(&bundle.user.world);
    bundle.make(&["create"]).done().expect_code(0);
    assert_eq!(bundle.state()["status"], "created");
    assert_eq!(bundle.state()["owner"], "ann");
    bundle.ok(&["start", "one"]);
    let list = bundle.ok(&["list"]);
    assert!(
        list.contains("one ") && list.contains("running") && list.ends_with(" ann"),
        "{list}"
    );
    let pid = bundle.state()["pid"].to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(
        status.contains(&format!("Uid:\t{uid}\t{uid}\t")),
        "{status}"
    );
    until("the script", || {
        bundle.dir.join("rootfs/tmp/mark").exists().then_some(())
    });
    assert_eq!(
        fs::metadata(bundle.dir.join("rootfs/tmp/mark"))
            .unwrap()
            .uid(),
        uid
    );
    assert_eq!(
        bundle.ok(&["exec", "one", "sh", "-c", "id -u; id -g"]),
        "0\n0"
    );
    bundle
        .call(&["exec", "one", "sh", "-c", "exit 7"])
        .done()
        .expect_code(7);
    assert!(bundle.ok(&["ps", "one"]).contains(&pid));
    // There are no cgroups for it, and nobody has asked for any.
    for words in [&["pause", "one"][..], &["update", "--pids-limit=5", "one"]] {
        let done = bundle.call(words).done();
        done.expect_refused(&[1]);
        assert!(
            done.err_text().contains("no cgroups"),
            "{}",
            done.err_text()
        );
    }
    bundle.ok(&["kill", "one", "KILL"]);
    until("its end", || {
        (bundle.state()["status"] == "stopped").then_some(())
    });
    bundle.ok(&["delete", "one"]);
    bundle.make(&["run", "--detach"]).done().expect_code(0);
    bundle.ok(&["delete", "--force", "one"]);
    bundle.change(|config| config["process"]["args"] = json!(["sh", "-c", "exit 3"]));
    bundle.make(&["run"]).done().expect_code(3);
    bundle.assert_nothing_left();
    before.assert_same(&bundle.user.world);
}

#[test]
fn granted_ids_are_mapped_and_groups_are_had() {
    let Some(user) = User::granted() else { return };
    let bundle = Bundle::new(user, "touch /tmp/mark; id -G; exec sleep 1000");
    let uid = bundle.user.uid;
    bundle.change(|config| {
        for field in ["uidMappings", "gidMappings"] {
            config["linux"][field] = json!([
                { "containerID": 0, "hostID": uid, "size": 1 },
                { "containerID": 1, "hostID": GRANTED.0 + 100, "size": 1000 },
            ]);
        }
        config["root"]["readonly"] = false.into();
        config["process"]["user"] = json!({ "uid": 7, "gid": 8, "additionalGids": [9] });
    });
    // Who is nobody of the user's may write there.
    use std::os::unix::fs::PermissionsExt as _;
    let tmp = bundle.dir.join("rootfs/tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).unwrap();
    bundle.make(&["run", "--detach"]).done().expect_code(0);
    let mark = tmp.join("mark");
    until("the script", || mark.exists().then_some(()));
    let found = fs::metadata(&mark).unwrap();
    assert_eq!(
        (found.uid(), found.gid()),
        (GRANTED.0 + 106, GRANTED.0 + 107)
    );
    let words = [
        "exec",
        "--user",
        "10:11",
        "--additional-gids",
        "12",
        "one",
        "id",
    ];
    let text = bundle.ok(&words);
    assert!(
        text.starts_with("uid=10 gid=11") && text.contains("12"),
        "{text}"
    );
    bundle.ok(&["delete", "--force", "one"]);
    bundle.assert_nothing_left();
}

#[test]
fn what_cannot_be_had_without_root_is_named() {
    let Some(user) = User::granted() else { return };
    let bundle = Bundle::new(user, "true");
    let config: Value =
        serde_json::from_slice(&fs::read(bundle.dir.join("config.json")).unwrap()).unwrap();
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 5] = [
        ("\"linux.namespaces\"", |config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            let list = linux["namespaces"].as_array_mut().unwrap();
            list.retain(|one| one["type"] != "user");
        }),
        ("\"linux.uidMappings\"", |config| {
            config["linux"]["uidMappings"][0]["hostID"] = 0.into();
        }),
        ("\"linux.gidMappings\"", |config| {
            config["linux"]["gidMappings"][0]["size"] = 2.into();
        }),
        ("\"process.user.additionalGids\"", |config| {
            config["process"]["user"]["additionalGids"] = json!([5]);
        }),
        ("\"linux.resources\"", |config| {
            config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
        }),
    ];
    for (field, change) in cases {
        let mut other = config.clone();
        change(&mut other);
        bundle.change(|config| *config = other);
        let done = bundle.make(&["create"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(field), "{}", done.err_text());
        assert!(!bundle.run.join("start-container/oci/one").exists());
    }
}

#[test]
fn cgroups_that_are_not_the_users_are_done_without_where_nothing_is_limited() {
    let Some(user) = User::single() else { return };
    let bundle = Bundle::new(user, "echo ran");
    bundle.change(|config| {
        config["linux"]["cgroupsPath"] = "/somewhere/one".into();
        config["linux"]["resources"] =
            json!({ "devices": [{ "allow": false, "access": "rwm" }], "memory": {} });
    });
    for rootless in ["auto", "true"] {
        let text = bundle.make(&["--rootless", rootless, "run"]).text();
        assert_eq!(text, "ran");
        let log = bundle.log();
        for field in ["linux.cgroupsPath", "linux.resources.devices"] {
            assert!(log.contains(&format!("{field} is not applied")), "{log}");
        }
    }
    let done = bundle.make(&["--rootless=false", "run"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("cgroupsPath"),
        "{}",
        done.err_text()
    );
    bundle
        .call(&["--rootless=perhaps", "list"])
        .done()
        .expect_refused(&[1]);
}

#[test]
fn the_hosts_cgroups_can_only_be_read() {
    let Some(user) = User::single() else { return };
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x 2>&1 && rmdir $d/x && echo made; done | grep -vc 'Read-only'; \
                  ls /sys/fs/cgroup | grep -c .; grep -c ' /sys/fs/cgroup.* rw' /proc/mounts; exit 0";
    let bundle = Bundle::new(user, script);
    let count = || fs::read_dir("/sys/fs/cgroup").unwrap().count();
    for own in [true, false] {
        if !own {
            bundle.change(|config| {
                let list = config["linux"]["namespaces"].as_array_mut().unwrap();
                list.retain(|one| one["type"] != "cgroup");
            });
        }
        // Others make cgroups there meanwhile.
        let before = count();
        let printed = bundle.make(&["run"]).text();
        let shown = [before, count()].map(|count| format!("0\n{count}\n0"));
        assert!(shown.contains(&printed), "{printed}, not {shown:?}");
    }
}
