//! `--systemd-cgroup` as kubelets and pods use it, limits that systemd is not told of, and a bus that has been stopped.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::{Bundle, Snapshot, World, processes_of, tool, until};

use super::cgroups_io::{device, throttles};
use super::cgroups_second::hold;
use super::systemd::{call, systemctl, with_systemd};

/// A pod's slice, as a kubelet names it, and where it is.
fn pod(world: &World) -> (String, PathBuf) {
    let slice = format!(
        "kubepods-burstable-pod{}.slice",
        world.name().replace('-', "_")
    );
    let place = Path::new("/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice").join(&slice);
    (slice, place)
}

#[test]
fn containers_of_a_pod_are_scopes_in_its_slice() {
    let Some(world) = with_systemd() else { return };
    let (slice, place) = pod(&world);
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20 }, "pids": { "limit": 33 }, "cpu": { "shares": 2 },
        });
    });
    let config = bundle.config();
    for id in ["one", "two"] {
        let mut config = config.clone();
        config["linux"]["cgroupsPath"] = format!("{slice}:cri-containerd:{id}").into();
        bundle.write(&config);
        let _ = call(&bundle, &["run", "-d", id]).text();
    }
    let limits = [
        ("memory.max", "67108864"),
        ("pids.max", "33"),
        ("cpu.weight", "1"),
    ];
    let scope = |id: &str| place.join(format!("cri-containerd-{id}.scope"));
    for id in ["one", "two"] {
        hold(&scope(id), &limits);
    }
    let _ = systemctl(&["daemon-reload"]);
    hold(&scope("one"), &limits);
    // What a kubelet gives the pod holds for both.
    let _ = systemctl(&["set-property", "--runtime", &slice, "MemoryMax=100M"]);
    hold(&place, &[("memory.max", "104857600")]);
    bundle.ok(&["delete", "--force", "one"]);
    assert!(!scope("one").exists());
    assert_eq!(bundle.state("two")["status"], "running");
    hold(&scope("two"), &limits);
    bundle.ok(&["delete", "--force", "two"]);
    assert!(!scope("two").exists());
    assert!(processes_of(&world.dir).is_empty());
    let _ = systemctl(&["stop", &slice]);
}

#[test]
fn throttles_are_not_undone_by_a_reload() {
    let Some(world) = with_systemd() else { return };
    let device = device(&world);
    let (major, minor) = device.numbers();
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["cgroupsPath"] = format!("system.slice:{}:one", world.name()).into();
        config["linux"]["resources"] =
            json!({ "blockIO": throttles(&device), "pids": { "limit": 33 } });
    });
    let _ = call(&bundle, &["run", "-d", "one"]).text();
    let place = format!("/sys/fs/cgroup/system.slice/{}-one.scope", world.name());
    let line = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=30 wiops=40");
    let limits = [("io.max", line.as_str()), ("pids.max", "33")];
    hold(Path::new(&place), &limits);
    let _ = systemctl(&["daemon-reload"]);
    hold(Path::new(&place), &limits);
    // systemd writes all that it knows to the cgroup again.
    bundle.ok(&["update", "--pids-limit=44", "one"]);
    let _ = systemctl(&["daemon-reload"]);
    hold(Path::new(&place), &[limits[0], ("pids.max", "44")]);
    bundle.ok(&["delete", "--force", "one"]);
}

#[test]
fn a_container_without_a_cgroup_namespace_finds_its_scope_among_the_hosts_cgroups() {
    let Some(world) = with_systemd() else { return };
    let script = "own=$(cut -d: -f3 /proc/self/cgroup); echo $own; cat /sys/fs/cgroup$own/pids.max; \
                  mkdir /sys/fs/cgroup/x 2>&1";
    let bundle = Bundle::new(&world, script, |config| {
        let linux = &mut config["linux"];
        linux["cgroupsPath"] = format!("system.slice:{}:one", world.name()).into();
        linux["resources"] = json!({ "pids": { "limit": 33 } });
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "cgroup");
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        }));
    });
    let done = call(&bundle, &["run", "one"]).done();
    let printed = done.out_text();
    let lines: Vec<_> = printed.lines().collect();
    let own = format!("/system.slice/{}-one.scope", world.name());
    assert_eq!(lines[..2], [own.as_str(), "33"], "{}", done.err_text());
    assert!(lines[2].contains("Read-only"), "{printed}");
}

/// A bus of a test: the program that the machine's own bus is, without a systemd on it.
struct PrivateBus {
    daemon: Child,
    address: String,
}

impl PrivateBus {
    fn new(world: &World) -> Self {
        let socket = world.dir.join("bus");
        let address = format!("unix:path={}", socket.display());
        let config = world.dir.join("bus.conf");
        let text = format!(
            "<busconfig><listen>{address}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>"
        );
        fs::write(&config, text).unwrap();
        let daemon = Command::new(tool("dbus-daemon"))
            .args(["--nofork", "--nosyslog", "--config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        until("the bus", || UnixStream::connect(&socket).ok());
        Self { daemon, address }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.daemon.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn a_bus_that_is_stopped_or_has_no_systemd_is_an_error_and_nothing_is_left() {
    let Some(world) = with_systemd() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["cgroupsPath"] = format!("system.slice:{}:one", world.name()).into();
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let bus = PrivateBus::new(&world);
    let before = Snapshot::of(&world);
    let refused = || {
        let run = call(&bundle, &["create", "one"]);
        let done = run.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address).done();
        done.expect_refused(&[1]);
        before.assert_same(&world);
        done.err_text()
    };
    let told = refused();
    assert!(told.contains("org.freedesktop.systemd1"), "{told}");
    bus.signal(Signal::SIGSTOP);
    let told = refused();
    assert!(told.contains("no answer within ten seconds"), "{told}");
    bus.signal(Signal::SIGCONT);
    // It was the bus, and not we, that was stopped.
    assert!(refused().contains("org.freedesktop.systemd1"));
}
