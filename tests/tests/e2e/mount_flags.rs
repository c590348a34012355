//! FIELD S27: which attributes a mount has inside, for every kind of mount and every option, with and without root; and
//! that what is read-only is so below too, by trying to write. statmount(2) tells it (Linux 6.8), and mountinfo.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::signal::Signal;
use tests::{Client, Run, World, tool};

use crate::rootless::User;

/// The options of an entry, and the attributes that they add.
const OPTIONS: [(&str, &[&str]); 6] = [
    ("", &[]),
    (",ro", &["ro"]),
    (",nosuid", &["nosuid"]),
    (",nodev", &["nodev"]),
    (",noexec", &["noexec"]),
    (
        ",ro,nosuid,nodev,noexec",
        &["ro", "nosuid", "nodev", "noexec"],
    ),
];

/// What the kernel has of a mount, without the times of access and with `rw` left out.
fn attributes(options: &str) -> BTreeSet<String> {
    let counted = |one: &&str| ["ro", "nosuid", "nodev", "noexec"].contains(one);
    options
        .split(',')
        .filter(counted)
        .map(str::to_owned)
        .collect()
}

/// The attributes of the mount that is seen at `target`, in a text of /proc/PID/mountinfo: no other one is mounted on it.
fn of(table: &str, target: &str) -> BTreeSet<String> {
    let lines = table.lines().map(|line| line.split(' ').collect());
    let there: Vec<Vec<&str>> = lines.filter(|line: &Vec<&str>| line[4] == target).collect();
    let covered = |id: &str| there.iter().any(|line| line[1] == id && line[0] != id);
    let seen = there.iter().find(|line| !covered(line[0]));
    let seen = seen.unwrap_or_else(|| panic!("no mount on {target}: {table}"));
    attributes(seen[5])
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// MOUNT_ATTR_* of `linux/mount.h`.
const ATTRIBUTES: [(u64, &str); 4] = [(1, "ro"), (2, "nosuid"), (4, "nodev"), (8, "noexec")];

/// A launch with mounts, ready to be joined.
struct Inside<'a> {
    /// A place of the host's for what the test needs inside.
    place: &'a Path,
    /// A program where the caller of launch is, as root.
    outside: &'a dyn Fn(&str) -> Run,
    launch: &'a dyn Fn() -> Run,
    exec: &'a dyn Fn() -> Run,
}

impl Inside<'_> {
    fn mount_tmpfs(&self, target: &Path, options: &str) {
        let made = (self.outside)("mkdir").cmd(["-p"]).cmd([target]);
        let _ = made.text();
        let options = format!("mode=1777,{options}");
        let mount = (self.outside)("mount").cmd(["-t", "tmpfs", "-o", &options, "t"]);
        let _ = mount.cmd([target]).text();
    }

    /// The mounts that the caller sees.
    fn table_outside(&self) -> String {
        (self.outside)("cat").cmd(["/proc/self/mountinfo"]).text()
    }

    fn start(&self, options: &[String]) -> (Client, String) {
        let asking = self.place.join("statmount");
        tests::probe::write_statmount(&asking);
        let asking = format!("--mount=type=bind,src={},dst=/statmount", asking.display());
        let mut leader = (self.launch)().opts(options).opt(asking).spawn();
        let seen = (self.exec)().cmd(["cat", "/proc/self/mountinfo"]).done();
        let failure = leader.error_so_far();
        assert_eq!(seen.code(), Some(0), "{}{failure}", seen.err_text());
        (leader, seen.out_text())
    }

    /// The attributes of the mounts that are seen at these places, as statmount(2) has them inside.
    fn stated(&self, targets: &[&str]) -> Option<Vec<BTreeSet<String>>> {
        if cfg!(not(target_arch = "x86_64")) {
            return None;
        }
        let asked = (self.exec)().cmd(["/statmount", "/"]).done();
        if asked.code() == Some(nix::libc::ENOSYS) {
            println!("statmount(2) needs Linux 6.8: the attributes are those of mountinfo alone");
            return None;
        }
        asked.expect_code(0);
        let shown = |target: &&str| format!("/statmount {target} | od -An -v -t x8 -j 64 -N 8; ");
        let script: String = targets.iter().map(shown).collect();
        let text = (self.exec)().sh(&script).text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), targets.len(), "{text}");
        let set = |line: &&str| {
            let bits = u64::from_str_radix(line.trim(), 16).expect("number");
            let held = ATTRIBUTES.iter().filter(|(bit, _)| bits & bit != 0);
            held.map(|(_, name)| (*name).to_owned()).collect()
        };
        Some(lines.iter().map(set).collect())
    }

    /// Both of the kernel's words for each place.
    fn has(&self, table: &str, wanted: &[(String, BTreeSet<String>)]) {
        let targets: Vec<_> = wanted.iter().map(|(target, _)| target.as_str()).collect();
        let stated = self.stated(&targets).unwrap_or_default();
        for (target, wanted) in wanted {
            assert_eq!(of(table, target), *wanted, "{target}");
        }
        for ((target, wanted), stated) in wanted.iter().zip(&stated) {
            assert_eq!(stated, wanted, "{target}, by statmount");
        }
    }

    fn stop(leader: Client) {
        leader.signal(Signal::SIGTERM);
        leader.finish().expect_code(0);
    }

    /// bind, rbind and tmpfs with every option; in `dir` are mounts with different attributes.
    fn entries(&self, dir: &Path) {
        let mut words = Vec::new();
        let mut wanted = Vec::new();
        for (number, (options, adds)) in OPTIONS.into_iter().enumerate() {
            words.push(format!("--mount=type=tmpfs,dst=/tmpfs/{number}{options}"));
            // As docs/mounts.md has it, a tmpfs is nosuid and nodev in any case.
            let own = set(&["nosuid", "nodev"]);
            wanted.push((format!("/tmpfs/{number}"), &set(adds) | &own));
        }
        for (kind, recursive) in [("bind", ",recursive=false"), ("rbind", "")] {
            for (name, options) in [("plain", "suid"), ("strict", "nosuid,nodev,noexec")] {
                let source = dir.join(kind).join(name);
                self.mount_tmpfs(&source, options);
                if kind == "rbind" {
                    self.mount_tmpfs(&source.join("below"), "nodev");
                }
                let own = of(&self.table_outside(), source.to_str().expect("path"));
                for (number, (options, adds)) in OPTIONS.into_iter().enumerate() {
                    let target = format!("/{kind}/{name}/{number}");
                    let source = source.display();
                    words.push(format!(
                        "--mount=type=bind,src={source},dst={target}{recursive}{options}"
                    ));
                    if kind == "rbind" {
                        let own = set(&["nodev"]);
                        wanted.push((format!("{target}/below"), &own | &set(adds)));
                    }
                    wanted.push((target, &own | &set(adds)));
                }
            }
        }
        let (leader, table) = self.start(&words);
        self.has(&table, &wanted);
        self.tries_to_write(&wanted);
        Self::stop(leader);
    }

    /// Where a mount is read-only writing says so, and elsewhere it works.
    fn tries_to_write(&self, wanted: &[(String, BTreeSet<String>)]) {
        let tries: String = wanted
            .iter()
            .map(|(target, _)| format!("echo x > {target}/x && echo {target}; "))
            .collect();
        let tried = (self.exec)().sh(&format!("{tries} true")).done();
        let written: Vec<_> = tried.out_text().lines().map(str::to_owned).collect();
        let (closed, open): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|(_, set)| set.contains("ro"));
        let open: Vec<_> = open.into_iter().map(|(target, _)| target.clone()).collect();
        assert_eq!(written, open, "{}", tried.err_text());
        let refusals = tried.err_text().matches("Read-only file system").count();
        assert_eq!(refusals, closed.len(), "{}", tried.err_text());
    }

    /// procfs, sysfs and the cgroup filesystems below it.
    fn of_the_kernel(&self, confined: bool) {
        let (leader, table) = self.start(&["--share=sys".to_owned()]);
        let usual = set(&["nosuid", "nodev", "noexec"]);
        let locked = if confined { set(&["ro"]) } else { set(&[]) };
        let mut all = vec![("/proc".to_owned(), usual.clone())];
        let host = self.table_outside();
        let places: Vec<_> = tests::mounts_below(Path::new("/sys"));
        assert!(places.len() > 1, "the host has nothing mounted in /sys");
        for place in &places {
            let place = place.to_str().expect("path");
            all.push((place.to_owned(), &of(&host, place) | &locked));
        }
        if confined {
            all.push(("/proc/sys".to_owned(), &usual | &locked));
        }
        self.has(&table, &all);
        if confined {
            let script: String = places
                .iter()
                .map(|place| format!("mkdir {}/sce2e-new && echo made; ", place.display()))
                .collect();
            let done = (self.exec)().sh(&format!("{script} true")).done();
            let refusals = |why: &str| done.err_text().matches(why).count();
            // The host may have some that only its own root can enter, tracefs for one.
            let (read_only, closed) = (
                refusals("Read-only file system"),
                refusals("Permission denied"),
            );
            assert!(done.out.is_empty() && read_only > 0, "{}", done.err_text());
            assert_eq!(read_only + closed, places.len(), "{}", done.err_text());
        }
        Self::stop(leader);
    }
}

const PROFILES: [(&str, bool); 2] = [("confined", true), ("outer", false)];

#[test]
fn every_kind_of_mount_has_the_attributes_of_its_source_and_those_asked_for() {
    let Some(world) = World::new() else { return };
    for (profile, confined) in PROFILES {
        let root = world.create();
        let inside = Inside {
            place: &world.dir,
            outside: &|program| Run::new(tool(program)),
            launch: &|| world.launch_run(&root).opt(format!("--profile={profile}")),
            exec: &|| world.exec(&root),
        };
        inside.entries(&world.dir.join(profile));
        inside.of_the_kernel(confined);
    }
}

#[test]
fn an_ordinary_users_mounts_have_them_too() {
    for (profile, confined) in PROFILES {
        let Some(user) = User::granted() else { return };
        let _ = user.import();
        let root = user.create();
        let inside = Inside {
            place: &user.world.dir,
            // The user lives in a mount namespace of the test's.
            outside: &|program| Run::new(tool(program)).wrap(user.wrap(0)),
            launch: &|| user.launch(&root).opt(format!("--profile={profile}")),
            exec: &|| user.exec(&root),
        };
        inside.entries(&user.world.dir.join(profile));
        inside.of_the_kernel(confined);
        user.destroy(&root);
        user.assert_nothing_left();
    }
}

/// What is below a mount that an ordinary user sees is locked there: it may hide something.
#[test]
fn without_root_no_mount_is_shown_without_those_below_it() {
    let Some(user) = User::granted() else { return };
    let _ = user.import();
    let root = user.create();
    let source = user.world.dir.join("source");
    let outside = |program| Run::new(tool(program)).wrap(user.wrap(0));
    let _ = outside("mkdir")
        .cmd(["-p"])
        .cmd([source.join("below")])
        .text();
    let mount = outside("mount").cmd(["-t", "tmpfs", "t"]);
    let _ = mount.cmd([source.join("below")]).text();
    let entry = format!("type=bind,src={},dst=/d,recursive=false", source.display());
    let run = user.launch(&root).opt(format!("--mount={entry}"));
    let done = run.cmd(["true"]).done();
    done.expect_refused(&[125]);
    let text = done.err_text();
    assert!(
        text.contains("mount at \"/d\"") && text.contains("take recursive=true"),
        "{text}"
    );
    user.destroy(&root);
    user.assert_nothing_left();
}
