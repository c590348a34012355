//! `create --dry-run` of many configurations, without root, compared with `tests/golden/oci`.
//!
//! In `engines` are those that engines have written: podman, buildah, Docker, containerd's ctr and its CRI. Ids, paths and names
//! of their machine have been replaced, long lists cut short. In `cases` are JSON merge patches (RFC 7396) for `base.json`, and
//! what becomes different in its plan. `@ROOM@` is the directory of the test, `@NS@` one with namespaces of another process.
//! Mounts of cgroups are left out: what they become is up to the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::{Image, Run, assert_golden, binary, lacking, tool, until};

const FILES: [&str; 7] = [
    "hosts",
    "hostname",
    "resolv.conf",
    ".containerenv",
    "passwd",
    "group",
    "docker-init",
];
const DIRECTORIES: [&str; 2] = ["shm", "vol"];

/// A bundle that everybody may read, and a process with namespaces of its own.
struct Room {
    dir: PathBuf,
    other: Child,
}

impl Room {
    fn new() -> Option<Self> {
        let dir = PathBuf::from(format!("/tmp/sce2e-plans-{}", std::process::id()));
        fs::create_dir(&dir).expect("directory");
        Image::at(&dir, "rootfs").users_only();
        for name in DIRECTORIES {
            fs::create_dir_all(dir.join("source").join(name)).unwrap();
        }
        for name in FILES {
            fs::write(dir.join("source").join(name), "").unwrap();
        }
        let unshare = tool("unshare");
        let words = [
            "--user", "--net", "--ipc", "--uts", "--mount", "sleep", "1000",
        ];
        let mut line = unprivileged()
            .into_iter()
            .map(PathBuf::from)
            .chain([unshare]);
        let mut command = Command::new(line.next().unwrap());
        let other = command
            .args(line)
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut room = Self { dir, other };
        let name = format!("/proc/{}/comm", room.other.id());
        let stays = until("namespaces", || {
            let ended = room.other.try_wait().unwrap().is_some();
            let there = fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep");
            (ended || there).then_some(there)
        });
        if !stays {
            lacking("no user namespaces for everybody");
            return None;
        }
        Some(room)
    }

    fn namespaces(&self) -> String {
        format!("/proc/{}/ns", self.other.id())
    }

    /// What `create` says of a configuration: its plan and its warnings, or its error.
    fn plan(&self, mut config: Value) -> String {
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|one| one["type"] != "cgroup" && one["type"] != "cgroup2");
        }
        let room = self.dir.to_str().unwrap();
        let text = config.to_string();
        let text = text
            .replace("@ROOM@", room)
            .replace("@NS@", &self.namespaces());
        fs::write(self.dir.join("config.json"), text).unwrap();
        let run = Run::new(binary())
            .verb([
                "--cgroup-manager=disabled",
                "create",
                "--dry-run=json",
                "one",
            ])
            .cwd(&self.dir)
            .wrap(unprivileged());
        let done = run.done();
        let said = format!("{}\n{}", done.out_text(), done.err_text());
        said.trim()
            .replace(room, "@ROOM@")
            .replace(&self.namespaces(), "@NS@")
            + "\n"
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.other.kill();
        let _ = self.other.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A user who owns nothing; ourselves where the test has no root to give up.
fn unprivileged() -> Vec<String> {
    if !nix::unistd::geteuid().is_root() {
        return vec![tool("env").display().to_string()];
    }
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let setpriv = tool("setpriv").display().to_string();
    std::iter::once(setpriv)
        .chain(words.map(str::to_owned))
        .collect()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/oci")
}

/// The configurations in a directory, by their names.
fn configurations(directory: &str) -> Vec<(String, Value)> {
    let entries = fs::read_dir(golden().join(directory)).unwrap();
    let names: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let json = names
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    json.map(|path| {
        (
            path.file_stem().unwrap().to_str().unwrap().to_owned(),
            read(path),
        )
    })
    .collect()
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).unwrap();
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// RFC 7396.
fn patch(target: &mut Value, with: &Value) {
    let Value::Object(with) = with else {
        *target = with.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (name, value) in with {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => patch(&mut target[name], value),
        }
    }
}

/// What stands in one text and not in the other, line by line (the longest common subsequence stays).
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            text += &format!("-{}\n", old[i]);
            i += 1;
        } else {
            text += &format!("+{}\n", new[j]);
            j += 1;
        }
    }
    text
}

#[test]
fn every_configuration_has_its_plan_or_its_error() {
    let Some(room) = Room::new() else { return };
    for (name, config) in configurations("engines") {
        let text = room.plan(config);
        assert!(text.starts_with('{'), "{name}: {text}");
        assert_golden(&format!("oci/engines/{name}.txt"), &text);
    }
    let base = read(&golden().join("base.json"));
    let plain = room.plan(base.clone());
    assert_golden("oci/base.txt", &plain);
    for (name, with) in configurations("cases") {
        let mut config = base.clone();
        patch(&mut config, &with);
        let text = room.plan(config);
        let refused = name.starts_with("refused-");
        assert_eq!(refused, !text.starts_with('{'), "{name}: {text}");
        let text = if refused {
            text
        } else {
            difference(&plain, &text)
        };
        assert_golden(&format!("oci/cases/{name}.txt"), &text);
    }
    assert!(!room.dir.join("state").exists());
}
