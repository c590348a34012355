//! podman of an ordinary user, with start-container as its runtime: called in the user namespace that podman makes, in
//! which the user is root.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tests::engine::{PATH, has};
use tests::{Image, Pty, Run, binary, processes_of, tool, until};

use super::rootless::give;
use crate::rootless::User;

/// The user's podman, with all that it needs of the user.
struct Podman {
    user: User,
    runtime: PathBuf,
    rootfs: String,
}

impl Podman {
    fn new() -> Option<Self> {
        if !has(&["podman", "conmon", "newuidmap"]) {
            return None;
        }
        let line = "ann:700000:65536\n";
        // The machine may keep /dev/net/tun for root.
        let tun =
            "mkdir -p /dev/net; mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200";
        let user = User::new(line, tun)?;
        // podman takes only a runtime of this name for one that can do without cgroups.
        let runtime = user.world.dir.join("crun");
        symlink(binary(), &runtime).unwrap();
        Image::at(&user.home, "rootfs").build();
        fs::create_dir(user.world.dir.join("run")).unwrap();
        give(&user.home, user.uid);
        give(&user.world.dir.join("run"), user.uid);
        Some(Self {
            rootfs: user.home.join("rootfs").to_str().unwrap().to_owned(),
            user,
            runtime,
        })
    }

    fn call(&self, words: &[&str]) -> Run {
        Run::new(tool("podman"))
            .verb([
                "--storage-driver=vfs",
                "--cgroup-manager=cgroupfs",
                "--log-level=error",
            ])
            .verb(["--runtime", self.runtime.to_str().unwrap()])
            .verb(words)
            .wrap(self.user.wrap(self.user.uid))
            .env("PATH", PATH)
            .env("HOME", &self.user.home)
            .env("XDG_RUNTIME_DIR", self.user.world.dir.join("run"))
    }

    fn run(&self, options: &[&str], command: &[&str]) -> Run {
        let rootfs = ["--rootfs", &self.rootfs];
        self.call(&[&["run"], options, &rootfs, command].concat())
    }

    /// The directories of our containers.
    fn states(&self) -> Vec<String> {
        let root = self.user.world.dir.join("run/start-container/oci");
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "-fa", "-t", "0"]).done();
        // It ends the process that keeps the user namespace.
        let _ = self.call(&["system", "migrate"]).done();
    }
}

#[test]
fn a_users_podman_runs_execs_stops_and_removes() {
    let Some(podman) = Podman::new() else { return };
    let done = podman
        .run(
            &["--rm", "--network=none"],
            &["sh", "-c", "echo inside; exit 3"],
        )
        .done();
    done.expect_code(3);
    assert_eq!(done.out_text(), "inside");
    podman
        .run(&["--rm", "--network=none"], &["nosuch"])
        .done()
        .expect_code(127);
    let options = ["--rm", "--network=none", "--cgroups=disabled"];
    podman.run(&options, &["true"]).done().expect_code(0);
    // With the host's network there is a bind of the host's /sys.
    let net = podman.run(&["--rm", "--network=host"], &["ls", "/sys/class/net"]);
    assert!(net.text().contains("lo"));
    let map = ["cat", "/proc/self/uid_map"];
    let keep = podman.run(&["--rm", "--network=none", "--userns=keep-id"], &map);
    assert!(keep.text().contains(&podman.user.uid.to_string()));

    let options = [
        "-d",
        "--name=one",
        "--network=none",
        "--device=/dev/null:/dev/extra",
    ];
    let id = podman.run(
        &options,
        &[
            "sh",
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 0.1; done",
        ],
    );
    let id = id.text();
    assert_eq!(podman.states(), [id.as_str()]);
    let exec = |words: &[&str]| podman.call(&[&["exec", "one"], words].concat());
    assert_eq!(exec(&["id", "-u"]).text(), "0");
    assert_eq!(exec(&["stat", "-c", "%t:%T", "/dev/extra"]).text(), "1:3");
    exec(&["sh", "-c", "exit 9"]).done().expect_code(9);
    assert_eq!(podman.call(&["ps", "-q", "--no-trunc"]).text(), id);
    let _ = podman.call(&["stop", "-t", "10", "one"]).text();
    let code = podman.call(&["inspect", "--format", "{{.State.ExitCode}}", "one"]);
    assert_eq!(code.text(), "0");
    let _ = podman.call(&["start", "one"]).text();
    let _ = podman.call(&["rm", "-f", "-t", "0", "one"]).text();
    assert!(podman.states().is_empty(), "{:?}", podman.states());
    assert_eq!(podman.call(&["ps", "-aq"]).text(), "");
    until("the end of what was in it", || {
        let left = processes_of(&podman.user.world.dir);
        (!left.iter().any(|process| process.cmdline.contains("sleep"))).then_some(())
    });
}

#[test]
fn a_users_podman_has_terminals() {
    let Some(podman) = Podman::new() else { return };
    let mut pty = Pty::new(31, 91);
    // podman tells the size when it has attached itself, which may be later.
    let script = "tty; until stty size 2>/dev/null | grep -q '31 91'; do sleep 0.1; done; echo sized; \
                  read line; echo got $line; exit 3";
    let run = podman.run(&["--rm", "-it", "--network=none"], &["sh", "-c", script]);
    let client = run
        .stdin(pty.wire())
        .stdout(pty.wire())
        .stderr(pty.wire())
        .spawn();
    pty.expect("/dev/pts/0");
    pty.expect("sized");
    pty.write(b"word\r");
    pty.expect("got word");
    client.finish().expect_code(3);
}

#[test]
fn a_users_podman_publishes_ports() {
    if !has(&["slirp4netns"]) {
        return;
    }
    let Some(podman) = Podman::new() else { return };
    // One that is free now, and nobody else's in the next moment.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let publish = format!("--publish=127.0.0.1:{port}:80");
    let serve = ["sh", "-c", "while :; do echo hello | nc -l -p 80; done"];
    let _ = podman.run(&["-d", "--name=web", &publish], &serve).text();
    until("an answer", || {
        let mut text = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .ok()?;
        let _ = stream.read_to_string(&mut text);
        (text == "hello\n").then_some(())
    });
    let _ = podman.call(&["rm", "-f", "-t", "0", "web"]).text();
    assert!(podman.states().is_empty());
}
