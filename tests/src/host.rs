//! The host as the runtime could change it, seen from one test's world: before and after have to be the same.
//!
//! Only what names the world's directory is counted, because other tests run at the same time. A process belongs to
//! the world when its command line names it, or when it lives in another mount namespace whose root is of the world.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;

use crate::world::World;
use crate::{DEADLINE, pause};

/// A process that belongs to a world.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id on the host.
    pub pid: Pid,
    /// Its command line, with spaces between the words.
    pub cmdline: String,
}

/// Mount points below (or at) `dir` in our mount namespace, outermost first.
#[must_use]
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|target| {
            PathBuf::from(
                target
                    .replace("\\040", " ")
                    .replace("\\011", "\t")
                    .replace("\\012", "\n"),
            )
        })
        .filter(|target| target.starts_with(dir))
        .collect()
}

/// Live processes, other than our own threads, that belong to the world at `dir`.
#[must_use]
pub fn processes_of(dir: &Path) -> Vec<Process> {
    let name = dir.to_str().expect("world directory");
    let own = fs::read_link("/proc/self/ns/mnt").expect("own mount namespace");
    let me = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|text| text.parse::<i32>().ok())
        else {
            continue;
        };
        if u32::try_from(pid) == Ok(me) {
            continue;
        }
        let path = entry.path();
        let cmdline = fs::read(path.join("cmdline")).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline)
            .replace('\0', " ")
            .trim_end()
            .to_owned();
        let elsewhere = || fs::read_link(path.join("ns/mnt")).is_ok_and(|ns| ns != own);
        let shows = || {
            fs::read_to_string(path.join("mountinfo")).is_ok_and(|table| is_rooted_in(&table, name))
        };
        if mentions(&cmdline, name) || (elsewhere() && shows()) {
            found.push(Process {
                pid: Pid::from_raw(pid),
                cmdline,
            });
        }
    }
    found
}

/// The cgroups that are named after a world, with those in them.
#[must_use]
pub fn cgroups_of(world: &World) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let places = hierarchies.flatten().map(|entry| entry.path());
    for place in places.chain([PathBuf::from("/sys/fs/cgroup")]) {
        directories(&place.join(world.name()), &mut found);
    }
    found
}

fn directories(place: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(place) else {
        return;
    };
    found.push(place.to_owned());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            directories(&entry.path(), found);
        }
    }
}

/// Whether the root mount of a mount table is of the world. A child that is just being set up, of any test, still has a
/// copy of the whole host's table, which names every world; its root is the host's.
fn is_rooted_in(table: &str, name: &str) -> bool {
    let mut roots = table
        .lines()
        .filter(|line| line.split(' ').nth(4) == Some("/"));
    roots.any(|line| mentions(line, name))
}

/// Whether `text` has `name` as a whole directory name: `/tmp/sce2e-7-1` is not named by `/tmp/sce2e-7-12`.
fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name)
        .any(|(at, _)| !text[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// A world on a host that is nobody's container; nothing, which is said, inside another user namespace: there the default
/// profile is another one.
///
/// # Panics
/// When that is so and `REQUIRE=all` is set.
#[must_use]
pub fn bare_host() -> Option<World> {
    let world = World::new()?;
    let map = fs::read_to_string("/proc/self/uid_map").expect("uid_map");
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return Some(world);
    }
    lacking("needs the initial user namespace");
    None
}

/// Says that the test which runs cannot, and why.
///
/// # Panics
/// When `REQUIRE=all` is set.
pub fn lacking(what: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test");
    assert!(
        std::env::var_os("REQUIRE").is_none_or(|value| value != "all"),
        "{name}: {what}, and REQUIRE=all is set"
    );
    println!("skipped {name}: {what}");
}

/// Whether the kernel is older than this release.
///
/// # Panics
/// When it does not tell its release.
#[must_use]
pub fn linux_is_before(major: u32, minor: u32) -> bool {
    let about = nix::sys::utsname::uname().expect("uname");
    let release = about.release().to_str().expect("release");
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

/// What the runtime may change on the host, as sorted lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// The host as this world sees it now.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let name = world.dir.to_str().expect("world directory");
        let mut lines = BTreeSet::new();
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        for line in table.lines().filter(|line| mentions(line, name)) {
            lines.insert(format!("mount {line}"));
        }
        for process in processes_of(&world.dir) {
            lines.insert(format!("process {} {}", process.pid, process.cmdline));
        }
        for place in [&world.state, &world.data, &world.base] {
            list(place, place, &mut lines);
        }
        for cgroup in cgroups_of(world) {
            lines.insert(format!("cgroup {}", cgroup.display()));
        }
        for entry in fs::read_dir("/dev").expect("/dev").flatten() {
            if let Ok(meta) = entry.metadata() {
                let path = entry.path();
                lines.insert(format!(
                    "dev {} {:o} {}:{}",
                    path.display(),
                    meta.mode(),
                    meta.uid(),
                    meta.gid()
                ));
            }
        }
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = entry.path().join("loop/backing_file");
            if let Ok(backing) = fs::read_to_string(file).map(|text| text.trim().to_owned())
                && mentions(&backing, name)
            {
                lines.insert(format!("loop {} {backing}", entry.path().display()));
            }
        }
        Self(lines)
    }

    /// Waits until the host is as it was; what the kernel takes down after a kill may take a moment.
    ///
    /// # Panics
    /// With the differences when the deadline passes.
    pub fn assert_same(&self, world: &World) {
        let end = std::time::Instant::now() + DEADLINE / 2;
        loop {
            let now = Self::of(world);
            if now == *self {
                return;
            }
            if std::time::Instant::now() > end {
                let more: Vec<_> = now.0.difference(&self.0).collect();
                let less: Vec<_> = self.0.difference(&now.0).collect();
                panic!("the host has changed\n  more: {more:#?}\n  less: {less:#?}");
            }
            pause();
        }
    }
}

/// Files and directories below a place. The fixed directories that a first use makes are not a change: they are the
/// place itself.
fn list(place: &Path, dir: &Path, lines: &mut BTreeSet<String>) {
    const FIXED: [&str; 6] = [
        "blobs",
        "leaders",
        "filters",
        "subcontainers",
        "containers",
        "ranges",
    ];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let relative = path.strip_prefix(place).expect("below place");
        // Image trees are large and the runtime only reads them; the test that writes through says so itself.
        let image = relative.components().count() > 2 && relative.starts_with("images");
        // What procfs lists are processes, which are counted above, and how far PID 1 has got with closing its files; and
        // in a sysfs are the mounts of others.
        let kernels = relative.starts_with("subcontainers")
            && ["proc", "sys"]
                .map(|name| Some(Component::Normal(name.as_ref())))
                .contains(&relative.components().nth(2));
        if image || kernels {
            continue;
        }
        if !FIXED.iter().any(|fixed| relative == Path::new(fixed)) {
            lines.insert(format!("file {}", path.display()));
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(place, &path, lines);
        }
    }
}
