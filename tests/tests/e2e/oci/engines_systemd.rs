//! Engines that have systemd make cgroups, with start-container as their runtime: what is called `native.cgroupdriver=systemd`,
//! `SystemdCgroup` or `--cgroup-manager=systemd`. For podman of root see [`super::podman`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::engine::{Daemon, PATH, has};
use tests::{Bundle, Run, World, binary, lacking, tool, until};

use super::cgroups_second::hold;
use super::engines::post;
use super::rootless::give;
use super::systemd::{systemctl, user_with_systemd, with_systemd};

/// What systemd says of a unit.
fn shown(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

fn gone(unit: &str) {
    until("the end of the unit", || {
        (shown(unit, "LoadState") == "not-found").then_some(())
    });
}

#[test]
fn containerds_containers_are_units() {
    let Some(world) = with_systemd() else { return };
    if !has(&["containerd", "ctr"]) {
        return;
    }
    let bundle = Bundle::new(&world, "", |_| {});
    let daemon = Daemon::containerd(&world);
    let socket = daemon.socket.to_str().unwrap();
    let ctr = |words: &[&str]| {
        let address = ["--address", socket, "--namespace", world.name()];
        Run::new(tool("ctr"))
            .verb(address)
            .verb(words)
            .env("PATH", PATH)
    };
    let rootfs = bundle.dir.join("rootfs");
    let path = format!("system.slice:{}:one", world.name());
    let unit = format!("{}-one.scope", world.name());
    let run = |options: &[&str], command: &[&str]| {
        let how = [
            "--runc-binary",
            binary().to_str().unwrap(),
            "--runc-systemd-cgroup",
            "--cgroup",
            &path,
            "--rootfs",
            rootfs.to_str().unwrap(),
            "one",
        ];
        ctr(&[&["run"], options, &how, command].concat())
    };
    let done = run(&["--rm"], &["sh", "-c", "echo inside; exit 3"]).done();
    done.expect_code(3);
    assert_eq!(done.out_text(), "inside");
    gone(&unit);
    let _ = run(&["-d", "--memory-limit=67108864"], &["sleep", "1000"]).text();
    assert_eq!(shown(&unit, "MemoryMax"), "67108864");
    let script = "cat /proc/self/cgroup; exit 9";
    let exec = ["tasks", "exec", "--exec-id=two", "one", "sh", "-c", script];
    let done = ctr(&exec).done();
    done.expect_code(9);
    assert_eq!(done.out_text(), format!("0::/system.slice/{unit}"));
    let metrics = ctr(&["tasks", "metrics", "one"]).text();
    assert!(metrics.contains("memory.usage"), "{metrics}");
    let _ = ctr(&["tasks", "pause", "one"]).text();
    let _ = ctr(&["tasks", "resume", "one"]).text();
    let _ = ctr(&["tasks", "kill", "--signal", "KILL", "one"]).text();
    until("its end", || {
        let list = ctr(&["tasks", "list"]).text();
        list.contains("STOPPED").then_some(())
    });
    let _ = ctr(&["tasks", "delete", "one"]).done();
    let _ = ctr(&["containers", "delete", "one"]).text();
    gone(&unit);
    // containerd keeps one for each namespace for ever.
    let _ = fs::remove_dir(Path::new("/run/containerd/runc").join(world.name()));
}

#[test]
fn dockers_containers_are_units() {
    let Some(world) = with_systemd() else { return };
    if !has(&["containerd", "dockerd", "docker"]) {
        return;
    }
    let bundle = Bundle::new(&world, "", |_| {});
    let containerd = Daemon::containerd(&world);
    let daemon = Daemon::docker(&world, &containerd, binary(), "systemd");
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
        "HostConfig": {
            "Memory": 64 << 20, "MemorySwap": 64 << 20, "PidsLimit": 33, "NanoCpus": 500_000_000,
            "SecurityOpt": ["apparmor=unconfined"],
        },
    });
    post(&daemon.socket, "/containers/create?name=one", &create);
    let _ = docker(&["start", "one"]).text();
    let id = docker(&["inspect", "--format", "{{.Id}}", "one"]).text();
    let unit = format!("docker-{id}.scope");
    for (property, value) in [
        ("Slice", "system.slice"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "33"),
        ("CPUQuotaPerSecUSec", "500ms"),
    ] {
        assert_eq!(shown(&unit, property), value, "{property}");
    }
    let done = docker(&[
        "exec",
        "one",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/pids.max; exit 9",
    ])
    .done();
    done.expect_code(9);
    assert_eq!(done.out_text(), "33");
    let stats = docker(&["stats", "--no-stream", "--format", "{{.PIDs}}", "one"]);
    assert_eq!(stats.text(), "1");
    let _ = docker(&["update", "--pids-limit=44", "one"]).text();
    assert_eq!(shown(&unit, "TasksMax"), "44");
    let _ = docker(&["pause", "one"]).text();
    let _ = docker(&["unpause", "one"]).text();
    let _ = docker(&["stop", "-t", "0", "one"]).text();
    let code = ["inspect", "--format", "{{.State.ExitCode}}", "one"];
    assert_eq!(docker(&code).text(), "137");
    gone(&unit);
    let _ = docker(&["start", "one"]).text();
    assert_eq!(shown(&unit, "TasksMax"), "44");
    let _ = docker(&["rm", "-f", "one"]).text();
    assert_eq!(docker(&["ps", "-aq"]).text(), "");
    gone(&unit);
}

/// podman of a user with a systemd of their own.
struct Podman<'w> {
    world: &'w World,
    user: u32,
    runtime: PathBuf,
    rootfs: String,
}

impl<'w> Podman<'w> {
    fn new(world: &'w World) -> Option<Self> {
        if !has(&["podman", "conmon", "newuidmap"]) {
            return None;
        }
        let Some(user) = user_with_systemd() else {
            lacking("needs a user whose systemd runs (loginctl enable-linger)");
            return None;
        };
        let bundle = Bundle::new(world, "", |_| {});
        let home = world.dir.join("home");
        fs::create_dir(&home).unwrap();
        for place in [&bundle.dir, &home] {
            give(place, user);
        }
        // podman takes only a runtime of this name for one that can do without cgroups.
        let runtime = world.dir.join("crun");
        symlink(binary(), &runtime).unwrap();
        let rootfs = bundle.dir.join("rootfs").to_str().unwrap().to_owned();
        Some(Self {
            world,
            user,
            runtime,
            rootfs,
        })
    }

    /// A program in a unit of the user's systemd, as of a login: podman may move itself to other units from there.
    fn user(&self, program: &str, words: &[&str]) -> Run {
        let ids = [
            format!("--reuid={}", self.user),
            format!("--regid={}", self.user),
        ];
        let home = format!("--setenv=HOME={}", self.world.dir.join("home").display());
        Run::new(tool("setpriv"))
            .verb(ids)
            .verb(["--init-groups", "--"])
            .verb([tool("systemd-run")])
            .verb(["--user", "--pipe", "--wait", "--collect", "--quiet"])
            .verb(["--property=KillMode=process", &home])
            .verb([format!("--setenv=PATH={PATH}")])
            .verb([tool(program)])
            .verb(words)
            .env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.user))
            .env("PATH", PATH)
            .cwd(&self.world.dir)
    }

    fn call(&self, words: &[&str]) -> Run {
        let runtime = self.runtime.to_str().unwrap();
        let how = [
            "--storage-driver=vfs",
            "--cgroup-manager=systemd",
            "--log-level=error",
            "--runtime",
            runtime,
        ];
        self.user("podman", &[&how, words].concat())
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Run {
        let rootfs = ["--network=none", "--rootfs", &self.rootfs];
        self.call(&[&["run"], options, &rootfs, command].concat())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "-fa", "-t", "0"]).done();
        // It ends the process that keeps the user namespace.
        let _ = self.call(&["system", "migrate"]).done();
    }
}

#[test]
fn containers_of_a_users_podman_are_units_of_the_users_systemd() {
    let Some(world) = with_systemd() else { return };
    let Some(podman) = Podman::new(&world) else {
        return;
    };
    let done = podman
        .run(&["--rm"], &["sh", "-c", "echo inside; exit 3"])
        .done();
    assert_eq!(done.out_text(), "inside", "{}", done.err_text());
    done.expect_code(3);
    let options = [
        "-d",
        "--name=one",
        "--memory=64m",
        "--memory-swap=64m",
        "--pids-limit=33",
    ];
    let id = podman.run(&options, &["sleep", "1000"]).text();
    let unit = format!("libpod-{id}.scope");
    let shown = |property: &str| {
        let words = ["--user", "show", "--value", "--property", property, &unit];
        podman.user("systemctl", &words).text()
    };
    assert_eq!(shown("MemoryMax"), "67108864");
    assert_eq!(shown("TasksMax"), "33");
    let place = shown("ControlGroup");
    let place = Path::new("/sys/fs/cgroup").join(place.trim_start_matches('/'));
    hold(&place, &[("memory.max", "67108864"), ("pids.max", "33")]);
    let exec = podman.call(&[
        "exec",
        "one",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/pids.max; exit 9",
    ]);
    let done = exec.done();
    done.expect_code(9);
    assert_eq!(done.out_text(), "33");
    let stats = podman.call(&["stats", "--no-stream", "--format", "{{.PIDs}}", "one"]);
    assert_eq!(stats.text(), "1");
    let _ = podman.call(&["stop", "-t", "0", "one"]).text();
    let _ = podman.call(&["start", "one"]).text();
    hold(&place, &[("memory.max", "67108864"), ("pids.max", "33")]);
    let _ = podman.call(&["rm", "-f", "-t", "0", "one"]).text();
    assert_eq!(shown("LoadState"), "not-found");
    assert!(!place.exists());
    assert_eq!(podman.call(&["ps", "-aq"]).text(), "");
}
