//! Hooks: who is run when, where, with what, and what follows when one fails.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World, processes_of, until};

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that runs a script with the host's shell, or for `startContainer` the container's.
fn script(text: &str) -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/usr/bin:/bin", "A=b"] }])
}

/// A bundle in which every hook writes a line with its name, the state's status and pid, and its PID namespace.
fn noting(world: &World) -> (Bundle<'_>, PathBuf) {
    let log = world.dir.join("noted");
    let bundle = Bundle::new(world, "exec sleep 1000", |config| {
        config["root"]["readonly"] = false.into();
        for kind in KINDS {
            let to = match kind {
                "startContainer" => "/tmp/noted",
                _ => log.to_str().unwrap(),
            };
            let text = format!(
                "state=$(cat); echo {kind} $A $(pwd) $(readlink /proc/self/ns/mnt) $state | tr -d '\\n' >> {to}; echo >> {to}"
            );
            config["hooks"][kind] = script(&text);
        }
    });
    (bundle, log)
}

/// The words of a line before the state, and the state.
fn parts(line: &str) -> (Vec<&str>, Value) {
    let (words, state) = line.split_at(line.find('{').unwrap());
    (
        words.split_whitespace().collect(),
        serde_json::from_str(state).unwrap(),
    )
}

#[test]
fn each_hook_is_run_in_its_place_with_the_state() {
    let Some(world) = World::new() else { return };
    let (bundle, log) = noting(&world);
    let noted = || fs::read_to_string(&log).unwrap();
    let names = |text: &str| -> Vec<String> {
        let words = text.lines().map(|line| line.split(' ').next().unwrap());
        words.map(str::to_owned).collect()
    };
    bundle.ok(&["create", "one"]);
    assert_eq!(names(&noted()), KINDS[..3]);
    let pid = bundle.state("one")["pid"].clone();
    bundle.ok(&["start", "one"]);
    assert_eq!(names(&noted()), [&KINDS[..3], &KINDS[4..5]].concat());
    let of_container = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    let of_host = fs::read_link("/proc/self/ns/mnt").unwrap();
    bundle.ok(&["delete", "--force", "one"]);
    let text = noted() + &fs::read_to_string(bundle.file("tmp/noted")).unwrap();
    let bundle_dir = fs::canonicalize(&bundle.dir).unwrap();
    for line in text.lines() {
        let (words, state) = parts(line);
        let (status, inside) = match words[0] {
            "prestart" | "createRuntime" => ("creating", false),
            "createContainer" => ("creating", true),
            "startContainer" => ("created", true),
            "poststart" => ("running", false),
            _ => ("stopped", false),
        };
        assert_eq!(state["status"], status, "{line}");
        assert_eq!(state["id"], "one");
        assert_eq!(state["bundle"], bundle_dir.to_str().unwrap());
        let lives = if status == "stopped" {
            json!(0)
        } else {
            pid.clone()
        };
        assert_eq!(state["pid"], lives, "{line}");
        assert_eq!(words[1], "b");
        let place = match words[0] {
            "startContainer" => "/".into(),
            "createContainer" => bundle_dir.join("rootfs"),
            _ => bundle_dir.clone(),
        };
        assert_eq!(words[2], place.to_str().unwrap(), "{line}");
        let own = if inside { &of_container } else { &of_host };
        assert_eq!(words[3], own.to_str().unwrap(), "{line}");
    }
    assert_eq!(text.lines().count(), 6);
}

#[test]
fn what_a_hook_of_create_mounts_is_there_inside() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /mnt/mark; cat /dev/shm/mark", |_| {});
    let rootfs = bundle.file("").to_str().unwrap().to_owned();
    let text = format!(
        "mount -t tmpfs none {rootfs}/mnt && echo first > {rootfs}/mnt/mark && echo second > {rootfs}/dev/shm/mark"
    );
    let mut config = bundle.config();
    config["hooks"]["createContainer"] = script(&text);
    bundle.write(&config);
    let before = Snapshot::of(&world);
    assert_eq!(bundle.ok(&["run", "one"]), "first\nsecond");
    let _ = fs::remove_dir(bundle.root());
    before.assert_same(&world);
}

#[test]
fn a_hook_inside_is_confined_as_the_container_is() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /tmp/noted", |config| {
        config["root"]["readonly"] = false.into();
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        config["hooks"]["startContainer"] = script(
            "(id -u; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; ls /proc/self/fd) > /tmp/noted",
        );
    });
    let text = bundle.ok(&["run", "one"]);
    assert_eq!(
        text,
        "1000\nCapBnd:\t0000000020000420\nNoNewPrivs:\t1\n0\n1\n2\n3"
    );
}

#[test]
fn a_hook_that_fails_ends_the_container() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let marked = world.dir.join("marked");
    for kind in &KINDS[..5] {
        let mut config = good.clone();
        config["hooks"][kind] = script("echo the reason >&2; exit 3");
        config["hooks"]["poststop"] = script(&format!("echo > {}", marked.display()));
        bundle.write(&config);
        let done = bundle.call(&["run", "-d", "one"]).done();
        done.expect_refused(&[1]);
        let message = bundle.last_log()["msg"].to_string();
        assert!(message.contains(&format!("hooks.{kind}[0]")), "{message}");
        assert!(
            message.contains("it exited with 3: the reason"),
            "{message}"
        );
        assert_eq!(bundle.ok(&["list", "-q"]), "", "{kind}");
        fs::remove_file(&marked).expect("poststop has been run");
        before.assert_same(&world);
    }
    // One after the other, an engine finds a container that has stopped; or none, once it has run.
    bundle.ok(&["create", "one"]);
    bundle.call(&["start", "one"]).done().expect_refused(&[1]);
    assert_eq!(bundle.ok(&["list", "-q"]), "");
    fs::remove_file(&marked).expect("poststop has been run");
    let mut config = good;
    config["hooks"]["startContainer"] = script("exit 3");
    bundle.write(&config);
    bundle.ok(&["create", "one"]);
    bundle.call(&["start", "one"]).done().expect_refused(&[1]);
    bundle.await_status("one", "stopped");
    bundle.ok(&["delete", "one"]);
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "true", |config| {
        let mut hooks = script("exit 4");
        let mark = script("echo > mark");
        hooks.as_array_mut().unwrap().push(mark[0].clone());
        config["hooks"]["poststop"] = hooks;
    });
    bundle.ok(&["run", "one"]);
    assert!(
        bundle.dir.join("mark").exists(),
        "the second has not been run"
    );
    let last = bundle.last_log();
    assert_eq!(last["level"], "warning");
    assert!(
        last["msg"].to_string().contains("hooks.poststop[0]"),
        "{last}"
    );
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn what_takes_too_long_is_ended_with_what_it_has_started() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let good = bundle.config();
    let mark = format!("{}/sleeps", world.dir.display());
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let mut config = good.clone();
        let mut hooks = script(&format!("sleep 1000 {mark} & sleep 1001 {mark}"));
        // The host's sleep takes several numbers only.
        hooks[0]["args"][2] =
            format!("sh -c 'sleep 1000; :' {mark} & sh -c 'sleep 1001; :' {mark}").into();
        hooks[0]["timeout"] = 1.into();
        config["hooks"][kind] = hooks;
        bundle.write(&config);
        let done = bundle.call(&["run", "-d", "one"]).done();
        done.expect_refused(&[1]);
        assert!(
            done.err_text().contains("longer than 1 s"),
            "{}",
            done.err_text()
        );
        until("nobody", || {
            processes_of(mark.as_ref()).is_empty().then_some(())
        });
        assert_eq!(bundle.ok(&["list", "-q"]), "");
    }
}

#[test]
fn a_hook_that_is_not_there_is_told_by_name() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "true", |_| {});
    let good = bundle.config();
    for kind in &KINDS[..5] {
        let mut config = good.clone();
        config["hooks"][kind] = json!([{ "path": "/nonexistent/hook" }]);
        bundle.write(&config);
        let done = bundle.call(&["run", "-d", "one"]).done();
        done.expect_refused(&[1]);
        let message = bundle.last_log()["msg"].to_string();
        assert!(message.contains(&format!("hooks.{kind}[0]")), "{message}");
        assert!(message.contains("ENOENT"), "{message}");
    }
}
