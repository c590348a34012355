//! podman with start-container as its runtime.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use tests::engine::{PATH, has, remove_cgroups};
use tests::{Bundle, DEADLINE, Pty, Run, Wire, World, binary, cgroups_of, tool};

use super::systemd::with_systemd;

/// podman with a storage of its own, and a root filesystem for its containers.
struct Podman<'w> {
    world: &'w World,
    runtime: PathBuf,
    config: PathBuf,
    rootfs: String,
    /// Who makes cgroups: it, or systemd.
    manager: &'static str,
}

impl<'w> Podman<'w> {
    fn new(world: &'w World) -> Option<Self> {
        if !has(&["podman", "conmon"]) {
            return None;
        }
        let bundle = Bundle::new(world, "", |_| {});
        // podman takes only a runtime of this name for one that can do without cgroups.
        let runtime = world.dir.join("crun");
        symlink(binary(), &runtime).unwrap();
        // Its own are more than a machine may allow.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=512:512\", \"nproc=1000:1000\"]\n";
        let config = world.dir.join("containers.conf");
        fs::write(&config, limits).unwrap();
        Some(Self {
            world,
            runtime,
            config,
            rootfs: bundle.dir.join("rootfs").to_str().unwrap().to_owned(),
            manager: "cgroupfs",
        })
    }

    fn call(&self, words: &[&str]) -> Run {
        let place = |name: &str| self.world.dir.join(name).to_str().unwrap().to_owned();
        Run::new(tool("podman"))
            .verb(["--storage-driver=vfs", "--cgroup-manager", self.manager])
            .verb(["--root", &place("storage"), "--runroot", &place("runroot")])
            .verb(["--runtime", self.runtime.to_str().unwrap()])
            .verb(words)
            .env("PATH", PATH)
            .env("CONTAINERS_CONF", &self.config)
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Run {
        let parent = format!("--cgroup-parent=/{}", self.world.name());
        let parent: &[&str] = match self.manager {
            "systemd" => &[],
            _ => &[&parent],
        };
        let rootfs = ["--rootfs", &self.rootfs];
        self.call(&[&["run"], parent, options, &rootfs, command].concat())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "-fa", "-t", "0"]).done();
        remove_cgroups(self.world);
        let _ = fs::remove_file(&self.runtime);
    }
}

fn at(run: Run, pty: &Pty) -> Run {
    run.stdin(pty.wire()).stdout(pty.wire()).stderr(pty.wire())
}

#[test]
fn podman_runs_execs_pauses_and_removes() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world) else {
        return;
    };
    let run = |options: &[&str], command: &[&str]| {
        let how = ["--name=one", "--network=none"];
        podman.run(&[options, &how].concat(), command)
    };
    let done = run(&["--rm"], &["sh", "-c", "echo inside; exit 3"]).done();
    done.expect_code(3);
    assert_eq!(done.out_text(), "inside");
    run(&["--rm"], &["nosuch"]).done().expect_code(127);
    let without = [
        "run",
        "--rm",
        "--cgroups=disabled",
        "--network=none",
        "--rootfs",
        &podman.rootfs,
        "true",
    ];
    podman.call(&without).done().expect_code(0);
    let options = [
        "-d",
        "--memory=64m",
        "--pids-limit=33",
        "--device=/dev/fuse",
    ];
    let id = run(&options, &["sleep", "1000"]).text();
    let limit = podman.call(&["exec", "one", "cat", "/sys/fs/cgroup/pids/pids.max"]);
    if Path::new("/sys/fs/cgroup/pids/notify_on_release").exists() {
        assert_eq!(limit.text(), "33");
    }
    let exec = podman.call(&["exec", "one", "sh", "-c", "exit 9"]);
    exec.done().expect_code(9);
    assert_eq!(podman.call(&["exec", "one", "id", "-u"]).text(), "0");
    let _ = podman.call(&["pause", "one"]).text();
    let status = podman.call(&["inspect", "--format", "{{.State.Status}}", "one"]);
    assert_eq!(status.text(), "paused");
    let _ = podman.call(&["unpause", "one"]).text();
    let _ = podman.call(&["rm", "-f", "-t", "0", "one"]).text();
    assert!(!Path::new("/run/start-container/oci").join(&id).exists());
    assert_eq!(podman.call(&["ps", "-aq"]).text(), "");
    let mut left = cgroups_of(&world);
    left.retain(|path| path.ends_with(&id));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn podman_has_terminals() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world) else {
        return;
    };
    let mut pty = Pty::new(31, 91);
    let script = "tty; stty size; read line; echo got $line; exit 3";
    let run = podman.run(&["--rm", "-it", "--network=none"], &["sh", "-c", script]);
    let client = at(run, &pty).spawn();
    pty.expect("/dev/pts/0");
    pty.expect("31 91");
    pty.write(b"word\r");
    pty.expect("got word");
    client.finish().expect_code(3);
    let _ = podman
        .run(&["-d", "--name=one", "--network=none"], &["sleep", "1000"])
        .text();
    let client = at(
        podman.call(&["exec", "-it", "one", "sh", "-c", script]),
        &pty,
    )
    .spawn();
    pty.expect("/dev/pts/0");
    pty.write(b"more\r");
    pty.expect("got more");
    client.finish().expect_code(3);
}

#[test]
fn podmans_containers_share_namespaces_have_users_and_ids_of_their_own() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world) else {
        return;
    };
    let _ = podman
        .run(&["-d", "--name=one", "--network=none"], &["sleep", "1000"])
        .text();
    let links = [
        "sh",
        "-c",
        "for n in net ipc uts; do readlink /proc/self/ns/$n; done",
    ];
    let own = podman.call(&[&["exec", "one"], &links[..]].concat()).text();
    let shared = [
        "--rm",
        "--network=container:one",
        "--ipc=container:one",
        "--uts=container:one",
    ];
    assert_eq!(podman.run(&shared, &links).text(), own);
    let options = ["--rm", "--network=none", "--user=1000", "--cap-add=NET_RAW"];
    let text = podman
        .run(&options, &["grep", "CapAmb", "/proc/self/status"])
        .text();
    assert_eq!(text, "CapAmb:\t0000000000002000");
    let ids = [
        "--rm",
        "--network=none",
        "--uidmap=0:100000:65536",
        "--gidmap=0:100000:65536",
    ];
    let text = podman.run(&ids, &["cat", "/proc/self/uid_map"]).text();
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
}

#[test]
fn podmans_containers_have_systemds_sockets() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world) else {
        return;
    };
    let guest = Path::new(&podman.rootfs).join("bin/guest");
    fs::copy(env!("CARGO_BIN_EXE_guest"), guest).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let path = world.dir.join("systemd");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let (sender, said) = channel();
    // As long as somebody says something: conmon waits until it was heard.
    std::thread::spawn(move || {
        let mut bytes = [0; 100];
        while let Ok(length) = systemd.recv(&mut bytes) {
            let _ = sender.send(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    });
    let client = std::thread::spawn(move || {
        let mut text = String::new();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_to_string(&mut text).map(|_| text)
    });
    let options = ["--rm", "--network=none", "--sdnotify=container"];
    let script = "guest say $NOTIFY_SOCKET READY=1; guest greet 3 \"$LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES\"";
    let run = podman.run(&options, &["sh", "-c", script]);
    // As systemd calls it.
    let activated = "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null";
    let run = run
        .wrap(["sh", "-c", activated])
        .stdin(Wire::Given(listener.into()))
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .env("NOTIFY_SOCKET", &path);
    run.done().expect_code(0);
    assert_eq!(client.join().unwrap().unwrap(), "1 1 web");
    // podman says who the main process is, conmon that it is ready.
    while !said.recv_timeout(DEADLINE).unwrap().contains("READY=1") {}
}

#[test]
fn podmans_containers_are_units_where_systemd_makes_cgroups() {
    let Some(world) = with_systemd() else { return };
    let Some(mut podman) = Podman::new(&world) else {
        return;
    };
    podman.manager = "systemd";
    let done = podman
        .run(
            &["--rm", "--network=none"],
            &["sh", "-c", "echo inside; exit 3"],
        )
        .done();
    done.expect_code(3);
    assert_eq!(done.out_text(), "inside");
    let options = [
        "-d",
        "--name=one",
        "--network=none",
        "--memory=64m",
        "--memory-swap=64m",
        "--pids-limit=33",
        "--cpus=0.5",
    ];
    let id = podman.run(&options, &["sleep", "1000"]).text();
    let unit = format!("libpod-{id}.scope");
    let shown = |property: &str| {
        let words = ["show", "--value", "--property", property, &unit];
        Run::new(tool("systemctl")).cmd(words).text()
    };
    for (property, value) in [
        ("ActiveState", "active"),
        ("Slice", "machine.slice"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "33"),
        ("CPUQuotaPerSecUSec", "500ms"),
    ] {
        assert_eq!(shown(property), value, "{property}");
    }
    let inside = podman.call(&["exec", "one", "cat", "/sys/fs/cgroup/pids.max"]);
    assert_eq!(inside.text(), "33");
    let stats = podman.call(&["stats", "--no-stream", "--format", "{{.PIDs}}", "one"]);
    assert_eq!(stats.text(), "1");
    let update = podman.call(&["update", "--cpus=0.25", "--memory=80m", "one"]);
    let _ = update.text();
    assert_eq!(shown("TasksMax"), "33");
    assert_eq!(shown("MemoryMax"), "83886080");
    assert_eq!(shown("CPUQuotaPerSecUSec"), "250ms");
    let _ = podman.call(&["pause", "one"]).text();
    let status = podman.call(&["inspect", "--format", "{{.State.Status}}", "one"]);
    assert_eq!(status.text(), "paused");
    let _ = podman.call(&["unpause", "one"]).text();
    let _ = podman.call(&["stop", "-t", "0", "one"]).text();
    assert_eq!(shown("LoadState"), "not-found");
    let _ = podman.call(&["start", "one"]).text();
    assert_eq!(shown("ActiveState"), "active");
    let pod = podman.call(&["pod", "create", "--infra=false", "--name=pod"]);
    let _ = pod.text();
    let options = ["-d", "--pod=pod", "--network=none"];
    let two = podman.run(&options, &["sleep", "1000"]).text();
    let scope = format!("libpod-{two}.scope");
    let words = ["show", "--value", "--property", "ActiveState", &scope];
    assert_eq!(Run::new(tool("systemctl")).cmd(words).text(), "active");
    let _ = podman.call(&["pod", "rm", "-f", "-t", "0", "pod"]).text();
    let _ = podman.call(&["rm", "-f", "-t", "0", "one"]).text();
    for id in [&id, &two] {
        assert!(!Path::new("/run/start-container/oci").join(id).exists());
        let units = ["list-units", "--all", "--plain", "--no-legend"];
        let units = Run::new(tool("systemctl"))
            .cmd(units)
            .cmd([format!("libpod-{id}*")]);
        assert_eq!(units.text(), "");
    }
    assert_eq!(podman.call(&["ps", "-aq"]).text(), "");
}
