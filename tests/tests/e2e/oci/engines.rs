//! Engines with start-container as their runtime.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use tests::engine::{Daemon, PATH, has};
use tests::{Bundle, Run, World, binary, cgroups_of, tool, until};

#[test]
fn features_and_version_are_what_engines_read() {
    let Some(world) = World::new() else { return };
    let features: Value = serde_json::from_str(&world.bare(["features"]).text()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    for part in [
        "/apparmor/enabled",
        "/selinux/enabled",
        "/intelRdt/enabled",
        "/intelRdt/schemata",
        "/intelRdt/monitoring",
        "/netDevices/enabled",
        "/mountExtensions/idmap/enabled",
    ] {
        assert_eq!(
            features["linux"].pointer(part),
            Some(&true.into()),
            "{part}"
        );
    }
    assert!(
        features["annotations"].is_null(),
        "nothing is said of checkpoint"
    );
    let version = world.bare(["--root=/x", "--version"]).text();
    let lines: Vec<_> = version.lines().collect();
    assert!(
        lines[0].starts_with("start-container version "),
        "{version}"
    );
    assert!(
        lines[1].starts_with("commit: ")
            && lines[2] == "spec: 1.3.0"
            && lines[3].contains("+SYSTEMD"),
        "{version}"
    );
}

#[test]
fn containerd_runs_execs_pauses_and_removes() {
    let Some(world) = World::new() else { return };
    if !has(&["containerd", "ctr"]) {
        return;
    }
    let bundle = Bundle::new(&world, "", |_| {});
    let daemon = Daemon::containerd(&world);
    let ctr = |words: &[&str]| {
        let address = [
            "--address",
            daemon.socket.to_str().unwrap(),
            "--namespace",
            world.name(),
        ];
        Run::new(tool("ctr"))
            .verb(address)
            .verb(words)
            .env("PATH", PATH)
    };
    let rootfs = bundle.dir.join("rootfs");
    let run = |options: &[&str], command: &[&str]| {
        let runtime = ["--runc-binary", binary().to_str().unwrap()];
        let rest = ["--rootfs", rootfs.to_str().unwrap(), "one"];
        ctr(&[&["run"], options, &runtime, &rest, command].concat())
    };
    let done = run(&["--rm"], &["sh", "-c", "echo inside; exit 3"]).done();
    done.expect_code(3);
    assert_eq!(done.out_text(), "inside");
    let done = run(&["--rm"], &["nosuch"]).done();
    assert!(
        done.err_text().contains("execute \"nosuch\": ENOENT"),
        "{}",
        done.err_text()
    );
    let _ = run(&["-d", "--memory-limit=50000000"], &["sleep", "1000"]).text();
    let exec = [
        "tasks",
        "exec",
        "--exec-id",
        "two",
        "one",
        "sh",
        "-c",
        "echo joined; exit 9",
    ];
    let done = ctr(&exec).done();
    done.expect_code(9);
    assert_eq!(done.out_text(), "joined");
    let _ = ctr(&["tasks", "pause", "one"]).text();
    let status = || ctr(&["tasks", "list"]).text();
    assert!(status().contains("PAUSED"), "{}", status());
    let _ = ctr(&["tasks", "resume", "one"]).text();
    let _ = ctr(&["tasks", "kill", "--signal", "KILL", "one"]).text();
    until("its end", || status().contains("STOPPED").then_some(()));
    let _ = ctr(&["tasks", "delete", "one"]).done();
    let _ = ctr(&["containers", "delete", "one"]).text();
    assert_eq!(ctr(&["containers", "list", "-q"]).text(), "");
    // containerd keeps one for each namespace for ever.
    let _ = fs::remove_dir(Path::new("/run/containerd/runc").join(world.name()));
    assert!(cgroups_of(&world).is_empty(), "{:?}", cgroups_of(&world));
}

#[test]
fn docker_runs_execs_stops_and_removes() {
    let Some(world) = World::new() else { return };
    if !has(&["containerd", "dockerd", "docker"]) {
        return;
    }
    let bundle = Bundle::new(&world, "", |_| {});
    let containerd = Daemon::containerd(&world);
    let daemon = Daemon::docker(&world, &containerd, binary(), "cgroupfs");
    let docker = |words: &[&str]| {
        let host = format!("unix://{}", daemon.socket.display());
        let config = world.dir.join("client");
        Run::new(tool("docker"))
            .verb(["--host", &host, "--config", config.to_str().unwrap()])
            .verb(words)
            .env("PATH", PATH)
    };
    let archive = world.dir.join("rootfs.tar");
    let rootfs = bundle.dir.join("rootfs");
    let tar = Run::new(tool("tar")).cmd(["-cf", archive.to_str().unwrap()]);
    let _ = tar.cmd(["-C", rootfs.to_str().unwrap(), "."]).text();
    let _ = docker(&["import", archive.to_str().unwrap(), "img"]).text();
    let create = json!({
        "Image": "img", "Cmd": ["sleep", "1000"], "NetworkDisabled": true,
        "HostConfig": { "Memory": 64 << 20, "PidsLimit": 33, "SecurityOpt": ["apparmor=unconfined"] },
    });
    post(&daemon.socket, "/containers/create?name=one", &create);
    let _ = docker(&["start", "one"]).text();
    let done = docker(&["exec", "one", "sh", "-c", "echo joined; exit 9"]).done();
    done.expect_code(9);
    assert_eq!(done.out_text(), "joined");
    if Path::new("/sys/fs/cgroup/pids/notify_on_release").exists() {
        let limit = docker(&["exec", "one", "cat", "/sys/fs/cgroup/pids/pids.max"]);
        assert_eq!(limit.text(), "33");
    }
    let _ = docker(&["pause", "one"]).text();
    let _ = docker(&["unpause", "one"]).text();
    let _ = docker(&["update", "--pids-limit=44", "one"]).text();
    assert!(docker(&["top", "one"]).text().contains("sleep 1000"));
    let _ = docker(&["stop", "-t", "0", "one"]).text();
    let code = ["inspect", "--format", "{{.State.ExitCode}}", "one"];
    assert_eq!(docker(&code).text(), "137");
    let _ = docker(&["rm", "one"]).text();
    assert_eq!(docker(&["ps", "-aq"]).text(), "");
    assert!(cgroups_of(&world).is_empty(), "{:?}", cgroups_of(&world));
}

/// What the command line of Docker cannot say: a container for which Docker makes no network, and has no hook.
pub(super) fn post(socket: &Path, path: &str, body: &Value) {
    let body = body.to_string();
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.lines().next().unwrap().contains(" 201 "), "{answer}");
}
