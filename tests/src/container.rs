//! A container of a test: its root filesystem as the host sees it, and the launch that runs in it.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::run::Run;
use crate::{DEADLINE, until};

/// A root filesystem that create-fs made.
#[derive(Debug, Clone)]
pub struct Rootfs {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its last component.
    pub guid: String,
}

impl Rootfs {
    /// A path below it, as the host sees it.
    #[must_use]
    pub fn join(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    /// The process ids that its procfs lists, in order.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = fs::read_dir(self.join("proc"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids
    }

    /// The command line of a process inside, with spaces between its words.
    #[must_use]
    pub fn cmdline(&self, pid: u32) -> String {
        let bytes = fs::read(self.join(&format!("proc/{pid}/cmdline"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .replace('\0', " ")
            .trim_end()
            .to_owned()
    }

    /// Waits until only PID 1 is left inside.
    pub fn wait_alone(&self) {
        let end = std::time::Instant::now() + DEADLINE;
        loop {
            let others: Vec<u32> = self.pids().into_iter().filter(|pid| *pid != 1).collect();
            if others.is_empty() {
                return;
            }
            let state = |pid: &u32| {
                let read = |name| {
                    fs::read_to_string(self.join(&format!("proc/{pid}/{name}"))).unwrap_or_default()
                };
                format!(
                    "{} [{}] {}",
                    self.cmdline(*pid),
                    read("wchan"),
                    read("stat")
                )
            };
            let shown = || others.iter().map(state).collect::<Vec<_>>();
            assert!(
                std::time::Instant::now() < end,
                "PID 1 is not alone after {DEADLINE:?}: {:#?}",
                shown()
            );
            crate::pause();
        }
    }

    /// Waits for a file below it and gives its text, without the last line end.
    #[must_use]
    pub fn wait_file(&self, path: &str) -> String {
        let full = self.join(path);
        until(&format!("{}", full.display()), || {
            fs::read_to_string(&full)
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
        .trim_end()
        .to_owned()
    }
}

impl AsRef<Path> for Rootfs {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// A running `subcontainer launch`.
#[derive(Debug)]
pub struct Launch {
    client: Client,
}

impl Launch {
    /// Starts it and waits for its readiness: `ROOTFS/proc/1` in our own mount namespace.
    #[must_use]
    pub fn start(run: Run, rootfs: &Rootfs) -> Self {
        let launch = Self {
            client: run.spawn(),
        };
        launch.ready(rootfs)
    }

    fn ready(mut self, rootfs: &Rootfs) -> Self {
        let sign = rootfs.join("proc/1");
        until(&format!("{}", sign.display()), || {
            if let Some(status) = self.client.ended() {
                if sign.exists() {
                    return Some(());
                }
                let pid = self.client.pid();
                panic!(
                    "launch {pid} ended with {status:?} before it was ready: {}",
                    self.client.error_so_far()
                );
            }
            sign.exists().then_some(())
        });
        self
    }

    /// Ends it as the client does, with SIGTERM, and gives how it ended.
    pub fn stop(self) -> crate::Done {
        self.client.signal(Signal::SIGTERM);
        self.client.finish()
    }

    /// Kills the launch process itself and waits for it.
    pub fn kill(self) {
        self.client.signal(Signal::SIGKILL);
        drop(self.client);
    }

    /// The client itself.
    #[must_use]
    pub fn into_client(self) -> Client {
        self.client
    }
}

impl Deref for Launch {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Launch {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
