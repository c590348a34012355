//! An engine's daemon of a test: on private sockets and directories, ended with the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, tool};
use crate::{DEADLINE, cgroups_of, lacking, until};

/// A daemon, and where it listens.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The socket.
    pub socket: PathBuf,
}

/// The search path that engines find their parts by.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

impl Daemon {
    fn start(world: &World, name: &str, words: &[&str], socket: &Path) -> Self {
        let log = File::create(world.dir.join(format!("{name}.log"))).expect("log");
        let child = Command::new(tool(name))
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect(name);
        let daemon = Self {
            child,
            socket: socket.to_owned(),
        };
        until(name, || {
            std::os::unix::net::UnixStream::connect(socket).ok()
        });
        daemon
    }

    /// containerd.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub fn containerd(world: &World) -> Self {
        let dir = world.dir.join("containerd");
        fs::create_dir(&dir).expect("directory");
        let place = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            place("root"),
            place("state"),
            place("sock"),
            place("sock.ttrpc"),
        );
        fs::write(dir.join("config.toml"), config).expect("config.toml");
        let words = ["--config", &place("config.toml")];
        Self::start(world, "containerd", &words, &dir.join("sock"))
    }

    /// dockerd on top of a containerd, with this runtime, and this driver of cgroups: cgroupfs or systemd.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub fn docker(world: &World, containerd: &Self, runtime: &Path, driver: &str) -> Self {
        let dir = world.dir.join("docker");
        fs::create_dir(&dir).expect("directory");
        let place = |name: &str| dir.join(name).display().to_string();
        let words = [
            format!("--containerd={}", containerd.socket.display()),
            format!("--data-root={}", place("data")),
            format!("--exec-root={}", place("exec")),
            format!("--host=unix://{}", place("sock")),
            format!("--pidfile={}", place("pid")),
            format!("--add-runtime=own={}", runtime.display()),
            "--default-runtime=own".to_owned(),
            format!("--exec-opt=native.cgroupdriver={driver}"),
            match driver {
                "systemd" => "--cgroup-parent=system.slice".to_owned(),
                _ => format!("--cgroup-parent=/{}", world.name()),
            },
            "--bridge=none".to_owned(),
            "--iptables=false".to_owned(),
            "--ip6tables=false".to_owned(),
            "--storage-driver=vfs".to_owned(),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Self::start(world, "dockerd", &words, &dir.join("sock"))
    }
}

impl Drop for Daemon {
    /// Asked first: a daemon that is killed leaves its mounts.
    fn drop(&mut self) {
        let _ = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let end = std::time::Instant::now() + DEADLINE / 2;
        while std::time::Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            crate::pause();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether these programs are there; if not, it is said.
#[must_use]
pub fn has(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|name| {
        let places = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(name));
        !places.iter().any(|path| path.exists())
    });
    missing.is_none_or(|name| {
        lacking(&format!("needs {name}"));
        false
    })
}

/// Removes the cgroups that an engine has made for itself. conmon, which is in one of them, ends a moment after its container.
pub fn remove_cgroups(world: &World) {
    let end = Instant::now() + DEADLINE;
    loop {
        let left = cgroups_of(world);
        if left.is_empty() || Instant::now() > end {
            return;
        }
        for cgroup in left.iter().rev() {
            let _ = fs::remove_dir(cgroup);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
