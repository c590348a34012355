//! The same test for every profile, and for root and an ordinary user.

use std::fmt;

use nix::sys::signal::Signal;
use tests::{Client, Rootfs, Run, World};

use crate::rootless::User;

/// Who launches, and in which profile.
pub(crate) struct Case {
    pub(crate) profile: &'static str,
    pub(crate) root: bool,
    /// The uid of who calls, where that is not root.
    pub(crate) user: Option<u32>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.root { "root" } else { "a user" };
        write!(f, "{} by {who}", self.profile)
    }
}

/// Does the same in a world of each profile, and in that of an ordinary user.
pub(crate) fn in_each(test: impl Fn(&World, &Case)) {
    for profile in ["confined", "hardened", "outer", "none"] {
        let Some(world) = World::new() else { return };
        let world = world.launching_with([format!("--profile={profile}")]);
        let case = Case {
            profile,
            root: true,
            user: None,
        };
        println!("{case}");
        test(&world, &case);
    }
    for profile in ["confined", "outer"] {
        let (Some(user), Some(world)) = (User::granted(), World::new()) else {
            return;
        };
        let world = world
            .called_by(user.uid, user.wrap(user.uid))
            .launching_with([format!("--profile={profile}")]);
        let case = Case {
            profile,
            root: false,
            user: Some(user.uid),
        };
        println!("{case}");
        test(&world, &case);
    }
}

/// A root filesystem with an idle leader that can be joined.
pub(crate) fn running(world: &World) -> (Rootfs, Client) {
    let root = world.create();
    let leader = started(world, &root, world.launch_run(&root));
    (root, leader)
}

/// A launch that can be joined. Without root it does not show on the host, but exec waits for it.
pub(crate) fn started(world: &World, root: &Rootfs, run: Run) -> Client {
    let leader = run.spawn();
    let _ = world.exec(root).cmd(["true"]).text();
    leader
}

pub(crate) fn stop(leader: Client) {
    leader.signal(Signal::SIGTERM);
    leader.finish().expect_code(0);
}
