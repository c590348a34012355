//! What is refused: said on stderr and in the log's last line, before anything is changed.

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World};

#[test]
fn bad_words_are_the_logs_last_line_too() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    for (words, told) in [
        (&[][..], "a verb is missing"),
        (&["nosuch"], "no such verb"),
        (&["create"], "ID is missing"),
        (&["create", "../one"], "invalid"),
        (&["create", "a/b"], "invalid"),
        (&["create", "one", "two"], "unexpected operand"),
        (&["create", "--nosuch", "one"], "no such option"),
        (
            &["create", "--bundle", "/nonexistent", "one"],
            "find bundle",
        ),
        (&["--nosuch", "list"], "no such option"),
        (&["--systemd-cgroup=x", "list"], ""),
        (&["state", "one"], "container does not exist"),
        (&["start", "one"], "container does not exist"),
        (&["kill", "one", "NOSUCH"], "no such signal"),
        (
            &["kill", "--all", "one", "TERM"],
            "container does not exist",
        ),
        (&["update", "--memory", "much", "one"], "is no number"),
        (&["events", "--interval", "5", "one"], "no length of time"),
        (&["exec", "one"], "--process is missing"),
        (&["checkpoint", "one"], "no such verb"),
    ] {
        let done = bundle.call(words).done();
        done.expect_refused(&[1]);
        let last = bundle.last_log();
        assert_eq!(last["level"], "error", "{words:?}");
        let message = last["msg"].as_str().unwrap();
        assert!(message.contains(told), "{words:?}: {message}");
        let first = done.err_text().lines().next().unwrap().to_owned();
        assert!(
            first.contains(message.split("; ").next().unwrap()),
            "{first}"
        );
    }
    assert!(!bundle.root().exists(), "something has been made");
}

#[test]
fn a_text_log_is_as_logrus_writes_it() {
    let Some(world) = World::new() else { return };
    let log = world.dir.join("log");
    let option = format!("--log={}", log.display());
    world
        .bare([option.as_str(), "nosuch"])
        .done()
        .expect_code(1);
    let text = fs::read_to_string(log).unwrap();
    assert!(text.starts_with("time=\"20"), "{text}");
    assert!(
        text.contains("Z\" level=error msg=\"read command line"),
        "{text}"
    );
}

#[test]
fn a_bad_configuration_is_refused_by_the_name_of_the_field() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    let good = bundle.config();
    let before = Snapshot::of(&world);
    // The host's own value, so that nothing is changed should one of them be written.
    let panic = fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    let onto = |place: &str| json!([{ "destination": place, "type": "tmpfs", "source": "tmpfs" }]);
    let bound = |option: &str| json!([{ "destination": "/mnt", "type": "bind", "source": "/tmp", "options": ["bind", option] }]);
    for (place, value, told) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/process/args", json!([]), "process.args"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/terminal", json!(true), "process.terminal"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]),
            "rlimits[0]",
        ),
        ("/root/path", json!("nosuch"), "root.path"),
        (
            "/hooks",
            json!({ "prestart": [{ "path": "bin/true" }] }),
            "hooks.prestart[0].path",
        ),
        (
            "/hooks",
            json!({ "poststop": [{ "path": "/bin/true", "timeout": 0 }] }),
            "hooks.poststop[0].timeout",
        ),
        ("/mounts", onto("/proc/sys"), "mounts[0].destination"),
        ("/mounts", onto("/proc"), "mounts[0].destination"),
        ("/mounts", onto("/a/../b"), "mounts[0].destination"),
        ("/mounts", bound("nosuch"), "mounts[0].options: nosuch"),
        (
            "/linux/namespaces",
            json!([{ "type": "pid" }, { "type": "pid" }]),
            "linux.namespaces[1]",
        ),
        ("/linux/namespaces/1/type", json!("nosuch"), "nosuch"),
        (
            "/linux/sysctl",
            json!({ "kernel.panic": panic }),
            "linux.sysctl.kernel.panic",
        ),
        (
            "/linux/sysctl",
            json!({ "net/../kernel/panic": panic }),
            "sysctl",
        ),
        ("/linux/cgroupsPath", json!("/a/../b"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/"), "linux.cgroupsPath"),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_NOSUCH" }),
            "SCMP_ACT_NOSUCH",
        ),
        ("/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths"),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
            "uidMappings",
        ),
    ] {
        let mut config = good.clone();
        set(&mut config, place, value);
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        assert_ne!(done.code(), Some(0), "{place}");
        done.expect_refused(&[1]);
        let message = bundle.last_log()["msg"].to_string();
        assert!(message.contains(told), "{place}: {message}");
        assert_eq!(bundle.ok(&["list", "-q"]), "", "{place}");
    }
    fs::write(bundle.dir.join("config.json"), &good.to_string()[..200]).unwrap();
    bundle.call(&["create", "one"]).done().expect_refused(&[1]);
    bundle.write(&good);
    let _ = fs::remove_dir(bundle.root());
    before.assert_same(&world);
}

/// Puts a value at a JSON pointer, whose last part may be new.
fn set(config: &mut Value, place: &str, value: Value) {
    let (parent, name) = place.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[name] = value;
}

#[test]
fn what_fails_inside_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        config["process"]["cwd"] = "/proc/nosuch".into();
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("\"/proc/nosuch\""),
        "{}",
        done.err_text()
    );
    before.assert_same(&world);
}
