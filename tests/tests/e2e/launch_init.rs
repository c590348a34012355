//! `launch --init`: PID 1 of a launched command is our init, in every profile, with every kind of ids and with the
//! host's directories shown inside; it reaps, forwards signals and ends as the command ended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tests::{Client, Rootfs, Run, Snapshot, World, mounts_below};

use crate::auto_ids::auto;
use crate::rootless::User;

const PROFILES: [&str; 4] = ["confined", "hardened", "outer", "none"];

const SHARES: [&str; 3] = ["/dev", "/sys", "/run"];

/// Says who PID 1 and its parent are, has an orphan reaped, and waits for the signal.
const COMMAND: &str = "trap 'echo caught; exit 9' TERM; \
     echo $PPID $(tr '\\0' ' ' < /proc/1/cmdline); \
     orphan=$( (true & echo $!) ); while [ -e /proc/$orphan ]; do sleep 0.01; done; \
     echo x > /dev/null && echo up; while :; do sleep 0.01; done";

/// The host's mounts that a share brings.
fn shared() -> BTreeSet<PathBuf> {
    let below = |place: &&str| mounts_below(Path::new(place));
    SHARES.iter().flat_map(below).collect()
}

/// Launches, joins, and ends the container by a signal that the command catches.
fn lives(case: &str, launch: Run, exec: impl Fn() -> Run) {
    let mut leader: Client = launch
        .opts(["--init", "--share=dev,sys,run"])
        .sh(COMMAND)
        .spawn();
    leader.expect("1 init");
    leader.expect("up");
    let text = exec()
        .sh("test -c /dev/null && test -d /sys/kernel && cut -d' ' -f5 /proc/self/mountinfo")
        .text();
    let inside: BTreeSet<PathBuf> = text.lines().map(PathBuf::from).collect();
    let missing: Vec<_> = shared().difference(&inside).cloned().collect();
    assert!(missing.is_empty(), "{case}: not shown inside: {missing:?}");
    leader.signal(Signal::SIGTERM);
    let done = leader.finish();
    assert!(done.out_text().contains("caught"), "{case}");
    done.expect_code(9);
}

#[test]
fn it_is_pid_1_in_every_profile_and_with_every_kind_of_ids() {
    let Some(world) = World::new() else { return };
    for userns in ["identity", "host", "auto"] {
        for profile in PROFILES {
            let case = format!("--userns={userns} --profile={profile}");
            println!("{case}");
            let root: Rootfs = match userns {
                "auto" => auto(&world),
                _ => world.create(),
            };
            let before = Snapshot::of(&world);
            let launch = world.launch_run(&root).opts(case.split(' '));
            lives(&case, launch, || world.exec(&root));
            before.assert_same(&world);
            world.destroy(&root);
        }
    }
}

#[test]
fn it_is_pid_1_of_an_ordinary_users_containers() {
    for (ids, user) in [("granted", User::granted()), ("one", User::single())] {
        let Some(user) = user else { return };
        let _ = user.import();
        for profile in PROFILES {
            let case = format!("{ids} ids, --profile={profile}");
            println!("{case}");
            let root = user.create();
            let launch = user.launch(&root).opt(format!("--profile={profile}"));
            lives(&case, launch, || user.exec(&root));
            user.destroy(&root);
        }
        user.assert_nothing_left();
    }
}
