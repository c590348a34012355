//! Races at the names that mounts are attached to and files are written at (CVE-2021-30465, CVE-2024-45310): somebody
//! exchanges a directory with a symlink that leads out, as fast as it can, while containers are made.
//!
//! The racer is a process inside a container wherever a container can reach the name. What the symlink leads to can be
//! reached inside too, by the same path, and belongs to the caller: whoever follows it leaves a trace there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Client, Rootfs, Run, Sentinel, Wire, World, mounts_below};

use crate::cases::started;
use crate::rootless::User;

/// How long and how often each race is run, at least.
const TIME: Duration = Duration::from_secs(10);
const OPERATIONS: usize = 500;

/// Who calls, in which profile, and what openat2(2) answers to the caller, if that is a filter's answer.
#[derive(Debug, Clone, Copy)]
struct Case {
    profile: &'static str,
    root: bool,
    openat2: Option<&'static str>,
}

const fn case(profile: &'static str, root: bool, openat2: Option<&'static str>) -> Case {
    Case {
        profile,
        root,
        openat2,
    }
}

const CALLERS: [Case; 4] = [
    case("confined", true, None),
    case("outer", true, None),
    case("confined", false, None),
    case("outer", false, None),
];

/// The same where openat2(2) is hidden. Such a filter is installed with no_new_privs, so an ordinary user has one id.
const WITHOUT_OPENAT2: [Case; 2] = [
    case("confined", true, Some("ENOSYS")),
    case("outer", false, Some("EPERM")),
];

/// A world in which the caller's binary, the racer and the trap are.
struct Ground {
    world: World,
    sentinel: Sentinel,
    case: Case,
    uid: u32,
    /// The user exists as long as this does.
    _user: Option<User>,
}

impl Ground {
    fn new(case: Case) -> Option<Self> {
        let user = match case.root {
            true => None,
            false => Some(User::granted()?),
        };
        let uid = user.as_ref().map_or(0, |user| user.uid);
        let world = World::new()?;
        let guest = world.dir.join("guest");
        let image = world.base.join("images/img");
        for place in [&guest, &image.join("bin/guest")] {
            fs::copy(env!("CARGO_BIN_EXE_guest"), place).expect("copy");
            fs::set_permissions(place, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        for place in ["volumes", "volumes/main"] {
            chown(world.base.join(place), Some(uid), Some(uid)).expect("chown");
        }
        let mut words = user.as_ref().map_or(Vec::new(), |user| user.wrap(uid));
        if let Some(errno) = case.openat2 {
            let guest = guest.to_str().expect("path");
            words.extend([guest, "without-openat2", errno].map(str::to_owned));
        }
        let world = match words.is_empty() {
            true => world,
            false => world.called_by(uid, words),
        };
        let sentinel = Sentinel::new(world.dir.join("sentinel")).owned_by(uid);
        Some(Self {
            world: world.launching_with([format!("--profile={}", case.profile)]),
            sentinel,
            case,
            uid,
            _user: user,
        })
    }

    /// The trap, as a mount at its own path.
    fn trap(&self) -> String {
        let path = self.sentinel.dir.display();
        format!("--mount=type=bind,src={path},dst={path}")
    }

    /// A container that has the volume at /v, in which `script` was run.
    fn container(&self, script: &str) -> (Rootfs, Client) {
        let root = self.world.create();
        let run = self.world.launch_run(&root);
        let run = run.opts([self.trap().as_str(), "--mount=type=volume,src=main,dst=/v"]);
        let leader = started(&self.world, &root, run);
        let script = script.replace("SENTINEL", self.sentinel.dir.to_str().expect("path"));
        let _ = self.world.exec(&root).sh(&script).text();
        (root, leader)
    }

    /// The host is as before.
    fn end(&self) {
        self.sentinel.assert_same();
        assert!(mounts_below(&self.sentinel.dir).is_empty());
    }
}

/// Each case on a ground of its own, all at the same time.
fn in_each(cases: &[Case], test: impl Fn(&Ground) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| {
                let Some(ground) = Ground::new(*case) else {
                    return;
                };
                test(&ground);
                ground.end();
            });
        }
    });
}

/// Does `operation` with 0, 1, 2, … while `racer` exchanges names. It must succeed sometimes and fail sometimes.
fn race(case: Case, racer: Run, mut operation: impl FnMut(usize) -> bool) {
    let racer = racer.stdin(Wire::Pipe).stdout(Wire::Pipe);
    let mut racer = racer.spawn();
    racer.expect("racing");
    let begun = Instant::now();
    let (mut fine, mut refused) = (0, 0);
    while begun.elapsed() < TIME || fine + refused < OPERATIONS {
        match operation(fine + refused) {
            true => fine += 1,
            false => refused += 1,
        }
    }
    racer.end_input();
    let swaps = racer.finish().expect_ok();
    let swaps: usize = swaps
        .lines()
        .last()
        .and_then(|line| line.parse().ok())
        .expect("swaps");
    println!(
        "{case:?}: {fine} found a directory, {refused} a symlink, {swaps} swaps, {:?}",
        begun.elapsed()
    );
    assert!(
        fine > 0 && refused > 0 && swaps > OPERATIONS,
        "{case:?}: the race was not run"
    );
}

/// The racer is in another container, which has the volume too.
fn launches_race(ground: &Ground) {
    let world = &ground.world;
    let root = world.create();
    let (other, leader) = ground.container("mkdir -p /v/a/empty; ln -s SENTINEL /v/swap");
    let racer = world.exec(&other);
    race(
        ground.case,
        racer.cmd(["guest", "swap", "/v/a", "/v/swap"]),
        |round| {
            let entries = [
                "type=volume,src=main,dst=/v".to_owned(),
                format!("type=tmpfs,dst=/v/a/empty/{round}"),
                "type=tmpfs,dst=/v/a/empty".to_owned(),
            ];
            let run = world.launch_run(&root).opt(ground.trap());
            let run = run.opts(entries.map(|entry| format!("--mount={entry}")));
            run.cmd(["true"]).done().code() == Some(0)
        },
    );
    leader.signal(Signal::SIGTERM);
    leader.finish().expect_code(0);
    world.destroy(&root);
    world.destroy(&other);
}

#[test]
fn no_mount_of_a_launch_follows_a_racing_symlink() {
    in_each(&CALLERS, launches_race);
}

#[test]
fn no_mount_of_a_launch_does_where_openat2_is_hidden() {
    in_each(&WITHOUT_OPENAT2, launches_race);
}

/// The root filesystem itself, whose names the client looks at on the host before they are used inside.
#[test]
fn no_mount_in_the_root_filesystem_follows_a_racing_symlink() {
    in_each(&CALLERS[..2], |ground| {
        let world = &ground.world;
        let root = world.create();
        fs::create_dir_all(root.join("b/empty")).expect("directory");
        symlink(&ground.sentinel.dir, root.join("swap")).expect("symlink");
        race(
            ground.case,
            on_host(ground, &root.join("b"), &root.join("swap")),
            |round| {
                let entry = format!("--mount=type=tmpfs,dst=/b/empty/{round}/c");
                let run = world.launch_run(&root).opts([ground.trap(), entry]);
                run.cmd(["true"]).done().code() == Some(0)
            },
        );
        world.destroy(&root);
    });
}

/// A racer of the caller's own, where no container reaches.
fn on_host(ground: &Ground, path: &Path, other: &Path) -> Run {
    let run = Run::new(ground.world.dir.join("guest"));
    let run = match &ground._user {
        Some(user) => run.wrap(user.wrap(ground.uid)),
        None => run,
    };
    run.cmd([Path::new("swap"), path, other])
}

fn adds_race(ground: &Ground) {
    let world = &ground.world;
    let (root, leader) = ground
        .container("mkdir -p /a/empty /v/a/empty; ln -s SENTINEL /swap; ln -s SENTINEL /v/swap");
    let before = mounts_below(&world.dir);
    let mount = |verb: &str, word: &str| {
        let run = world.bare(["subcontainer", "mount", verb]);
        let run = run.verb(world.places()).rootfs(&root);
        run.cmd([word]).done().code() == Some(0)
    };
    let racer = world.exec(&root);
    let names = ["/a", "/swap", "/v/a", "/v/swap"];
    race(
        ground.case,
        racer.cmd(["guest", "swap"]).cmd(names),
        |round| {
            let directory = ["/a", "/v/a"][round / 2 % 2];
            let target = match round % 2 {
                0 => format!("{directory}/empty"),
                _ => format!("{directory}/new/{round}"),
            };
            let added = mount("add", &format!("type=tmpfs,dst={target}"));
            let _ = mount("rm", &target);
            added
        },
    );
    assert_eq!(mounts_below(&world.dir), before);
    leader.signal(Signal::SIGTERM);
    leader.finish().expect_code(0);
    world.destroy(&root);
}

#[test]
fn no_mount_that_is_added_follows_a_racing_symlink() {
    in_each(&CALLERS, adds_race);
}

#[test]
fn no_mount_that_is_added_does_where_openat2_is_hidden() {
    in_each(&WITHOUT_OPENAT2, adds_race);
}

/// Needs root: what an ordinary user mounts on the host nobody else could see.
#[test]
fn no_bind_mount_follows_a_racing_symlink() {
    in_each(&CALLERS[..2], |ground| {
        let world = &ground.world;
        let (root, leader) = ground.container("mkdir -p /data/empty; ln -s SENTINEL /swap");
        let source = world.base.join("volumes/main");
        let racer = world.exec(&root);
        race(
            ground.case,
            racer.cmd(["guest", "swap", "/data", "/swap"]),
            |round| {
                let target = match round % 2 {
                    0 => root.join("data/empty"),
                    _ => root.join(&format!("data/{round}")),
                };
                let run = world.bare(["bind-mount"]).verb(world.places());
                let run = run
                    .opt("--source")
                    .opt(&source)
                    .opt("--target")
                    .opt(&target);
                let bound = run.done().code() == Some(0);
                // In the racing directory, or in what the symlink leads to inside the root filesystem.
                for mount in mounts_below(&root.path) {
                    if mount.ends_with("empty") || mount.ends_with(round.to_string()) {
                        let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
                    }
                }
                bound && target.exists()
            },
        );
        leader.signal(Signal::SIGTERM);
        leader.finish().expect_code(0);
        world.destroy(&root);
    });
}

/// The image's own /etc, in which create-fs writes.
#[test]
fn no_file_of_create_fs_follows_a_racing_symlink() {
    let [root, _, user, _] = CALLERS;
    let [hidden, _] = WITHOUT_OPENAT2;
    in_each(&[root, user, hidden], |ground| {
        let world = &ground.world;
        let image = world.base.join("images/img");
        symlink(ground.sentinel.join("etc"), image.join("swap")).expect("symlink");
        let racer = on_host(ground, &image.join("etc"), &image.join("swap"));
        race(ground.case, racer, |_| {
            let done = world.verb("create-fs").cmd(["img"]).done();
            let made = done.code() == Some(0);
            if made {
                let path = done.out_text();
                let guid = path.rsplit('/').next().expect("guid");
                let _ = world.verb("destroy-fs").cmd([guid]).text();
            }
            made
        });
    });
}
