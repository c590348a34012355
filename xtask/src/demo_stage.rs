//! The place where the demo happens: one temporary directory with a base, state and data directory of its own, the
//! container that runs there, the table of steps, and the taking down of all that, whatever happened before.
//!
//! This process is the subreaper of everything that it starts, so nothing can leave the count of processes by detaching.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::{Result, children, traces};

/// No step of the demo takes a second; one that takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(20);
/// Within this time after the end of a client everything that it started must be gone.
const GRACE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(1);
/// How many of the things that were left are named.
const SHOWN: usize = 12;

/// See the top of the file.
pub(crate) struct Stage {
    binary: PathBuf,
    dir: PathBuf,
    rootfs: PathBuf,
    launched: Option<Child>,
    steps: usize,
    signals: SignalFd,
}

/// What there was at one moment.
pub(crate) struct Traces {
    mounts: BTreeSet<String>,
    host_mounts: BTreeSet<String>,
    processes: BTreeSet<u32>,
    files: BTreeSet<PathBuf>,
}

impl Stage {
    /// What is in the volume.
    pub(crate) const NOTE: &'static str = "written on the host";

    /// Makes the directory. Ctrl-C and SIGTERM from now on end the demo between two steps, so that it can clean up.
    pub(crate) fn new(binary: PathBuf) -> Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block()
            .map_err(|errno| format!("block signals: {errno}"))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&set, flags)
            .map_err(|errno| format!("open a signalfd: {errno}"))?;
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|errno| format!("become a subreaper: {errno}"))?;
        // The name ends in a word, so that no other demo's name begins with it.
        let name = format!("start-container-demo-{}-dir", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).map_err(|error| format!("make {}: {error}", dir.display()))?;
        Ok(Self {
            binary,
            dir,
            rootfs: PathBuf::new(),
            launched: None,
            steps: 0,
            signals,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.dir.join("base")
    }

    pub(crate) fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// The name of the root filesystem; it is in the path of everything that belongs to it.
    fn guid(&self) -> String {
        let name = self.rootfs.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Does one step and prints its row: number, what, milliseconds, result.
    pub(crate) fn step(
        &mut self,
        what: &str,
        action: impl FnOnce(&mut Self) -> Result<String>,
    ) -> Result<()> {
        if let Ok(Some(signal)) = self.signals.read_signal() {
            return Err(format!("interrupted by signal {}", signal.ssi_signo));
        }
        if self.steps == 0 {
            println!(" #  {:<32} {:>10}  result", "step", "ms");
        }
        self.steps += 1;
        let begun = Instant::now();
        let outcome = action(self);
        let ms = begun.elapsed().as_secs_f64() * 1000.0;
        let row = format!("{:>2}  {what:<32} {ms:>10.2}", self.steps);
        match outcome {
            Ok(result) => {
                println!("{row}  {result}");
                Ok(())
            }
            Err(why) => {
                println!("{row}  FAILED");
                Err(format!("step {} ({what}): {why}", self.steps))
            }
        }
    }

    /// Runs the binary with the demo's own directories.
    pub(crate) fn start_container(&self, words: &[&str], input: &[u8]) -> Result<Output> {
        children::run(self.command(words), input, DEADLINE)
    }

    /// Runs the binary for a verb that has no directories.
    pub(crate) fn start_container_bare(&self, words: &[&str], input: &[u8]) -> Result<Output> {
        children::run(self.bare_command(words), input, DEADLINE)
    }

    /// Runs a command in the container.
    pub(crate) fn exec(&self, options: &[&str], words: &[&str], input: &[u8]) -> Result<Output> {
        let mut command = self.command(&["subcontainer", "exec"]);
        command.args(options).arg(&self.rootfs).args(words);
        children::run(command, input, DEADLINE)
    }

    /// The binary with these words.
    pub(crate) fn bare_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        // A client gives the whole environment; nothing of this one's may matter.
        command.env_clear().env("PATH", "/usr/bin:/bin").args(words);
        command
    }

    /// The verb is two words; the options that every verb takes come right behind it.
    fn command(&self, words: &[&str]) -> Command {
        let (verb, rest) = words.split_at(2.min(words.len()));
        let mut command = self.bare_command(verb);
        for name in ["base", "state", "data"] {
            command.arg(format!("--{name}")).arg(self.dir.join(name));
        }
        command.args(rest);
        command
    }

    /// Makes a root filesystem of an image.
    pub(crate) fn create_fs(&mut self, image: &str) -> Result<String> {
        let output = self.start_container(&["subcontainer", "create-fs", image], b"")?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        self.rootfs = PathBuf::from(printed.trim_end());
        if !self.rootfs.starts_with(&self.dir) || !self.rootfs.is_dir() {
            return Err(format!(
                "printed {printed:?}, which is no directory of ours"
            ));
        }
        Ok(self.guid())
    }

    /// Starts the container; its output goes to a file, which is shown when the demo fails.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let failed = |error| format!("start the container: {error}");
        let log = File::create(self.launch_log()).map_err(failed)?;
        let mut command = self.command(&["subcontainer", "launch"]);
        command
            .arg(&self.rootfs)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        self.launched = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Polls as the clients do, every millisecond, for the readiness signal: `proc/1` in our view of the rootfs.
    pub(crate) fn wait_until_visible(&mut self) -> Result<String> {
        let ready = self.rootfs.join("proc/1");
        let begun = Instant::now();
        let mut polls = 0;
        while !ready.exists() {
            if let Some(Ok(Some(status))) = self.launched.as_mut().map(Child::try_wait) {
                return Err(format!("launch ended with {status}"));
            }
            if begun.elapsed() > DEADLINE {
                return Err(format!("no {} after {DEADLINE:?}", ready.display()));
            }
            std::thread::sleep(POLL);
            polls += 1;
        }
        Ok(format!("proc/1 is there at poll {}", polls + 1))
    }

    /// Stops the container as the clients do.
    pub(crate) fn stop(&mut self) -> Result<String> {
        let child = self.launched.as_mut().ok_or("nothing was launched")?;
        kill(children::pid(child.id()), Signal::SIGTERM)
            .map_err(|errno| format!("send SIGTERM: {errno}"))?;
        let status = children::wait(child, DEADLINE)?;
        self.launched = None;
        if status.success() {
            Ok("exit code 0".into())
        } else {
            Err(format!("launch ended with {status}"))
        }
    }

    /// Takes the root filesystem down.
    pub(crate) fn destroy_fs(&self) -> Result<String> {
        let guid = self.guid();
        let output = self.start_container(&["subcontainer", "destroy-fs", &guid], b"")?;
        if output.status.success() {
            Ok(guid)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// A directory of the host with a file in it.
    pub(crate) fn make_volume(&self) -> Result<PathBuf> {
        let volume = self.dir.join("volume");
        fs::create_dir(&volume)
            .and_then(|()| fs::write(volume.join("note"), Self::NOTE))
            .map_err(|error| format!("make {}: {error}", volume.display()))?;
        Ok(volume)
    }

    /// Taking the container down must not have reached through the bind.
    pub(crate) fn volume_is_untouched(&self) -> Result<()> {
        match fs::read_to_string(self.dir.join("volume/note")) {
            Ok(note) if note == Self::NOTE => Ok(()),
            Ok(note) => Err(format!("the volume's file now says {note:?}")),
            Err(error) => Err(format!("the volume's file is gone: {error}")),
        }
    }

    /// Everything of this demo that there is now.
    pub(crate) fn traces(&self) -> Result<Traces> {
        let guid = self.guid();
        let mut files = BTreeSet::new();
        for place in ["base/subcontainers", "state", "data"] {
            // Before create-fs there is no guid, and no directory counts.
            let word = if guid.is_empty() { "\0" } else { &guid };
            let found = traces::files(&self.dir.join(place), word)?;
            files.extend(found.iter().map(|path| Path::new(place).join(path)));
        }
        let mounts = traces::mounts_of(&self.dir)?;
        let mut host_mounts = traces::mounts()?;
        host_mounts.retain(|mount| {
            ["/dev", "/proc", "/sys"]
                .iter()
                .any(|place| mount.point.starts_with(place))
        });
        children::reap_orphans();
        Ok(Traces {
            mounts: mounts.into_iter().map(|mount| mount.line).collect(),
            host_mounts: host_mounts.into_iter().map(|mount| mount.line).collect(),
            processes: traces::descendants(std::process::id())?
                .into_keys()
                .collect(),
            files,
        })
    }

    /// Compares with what there was; processes get the time that they are allowed to take for their end.
    pub(crate) fn nothing_is_left(&self, before: &Traces) -> Result<String> {
        let begun = Instant::now();
        let mut now = self.traces()?;
        while now.processes != before.processes && begun.elapsed() < GRACE {
            std::thread::sleep(POLL);
            now = self.traces()?;
        }
        if let Some(lost) = before.host_mounts.difference(&now.host_mounts).next() {
            return Err(format!("a mount of the host is gone or changed: {lost}"));
        }
        let mounts: Vec<String> = now.mounts.difference(&before.mounts).cloned().collect();
        let processes: Vec<String> = traces::descendants(std::process::id())?
            .iter()
            .filter(|(pid, _)| !before.processes.contains(pid))
            .map(|(pid, name)| format!("process {pid} {name}"))
            .collect();
        let files: Vec<String> = now
            .files
            .symmetric_difference(&before.files)
            .map(|path| path.display().to_string())
            .collect();
        let counts = format!(
            "{} mounts, {} processes, {} files",
            mounts.len(),
            processes.len(),
            files.len()
        );
        let all: Vec<String> = [mounts, processes, files].concat();
        if all.is_empty() {
            return Ok(format!("nothing is left: {counts}"));
        }
        let shown = all.iter().take(SHOWN).map(|one| format!("\n  {one}"));
        let more = match all.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        Err(format!(
            "something is left: {counts}{}{more}",
            shown.collect::<String>()
        ))
    }

    fn launch_log(&self) -> PathBuf {
        self.dir.join("launch.log")
    }

    /// What the launched process printed.
    pub(crate) fn log_of_launch(&self) -> String {
        fs::read_to_string(self.launch_log()).unwrap_or_default()
    }

    /// Takes down whatever stands: the container, its processes, its mounts, and the directory. Does nothing twice.
    pub(crate) fn clear(&mut self) -> Result<()> {
        if let Some(mut child) = self.launched.take() {
            let _ = kill(children::pid(child.id()), Signal::SIGTERM);
            if children::wait(&mut child, Duration::from_secs(5)).is_err() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if self.rootfs.exists() {
            // Its failure shows in the mounts that are left, which are taken down next.
            let _ = self.destroy_fs();
        }
        for pid in traces::descendants(std::process::id())?.into_keys() {
            let _ = kill(children::pid(pid), Signal::SIGKILL);
        }
        children::reap_orphans();
        while let Some(mount) = traces::mounts_of(&self.dir)?.pop() {
            umount2(
                &mount.point,
                MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW,
            )
            .map_err(|errno| format!("unmount {}: {errno}", mount.point.display()))?;
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("remove {}: {error}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}
