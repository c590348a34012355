//! Whom is believed, and what goes inside with a command besides its words: records of another user lead nobody
//! anywhere, and the caller's keys stay outside.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tests::{Done, World, lacking};

/// Nobody on the machine.
const STRANGER: u32 = 2_100_000_001;

fn refused(done: &Done, word: &str) {
    done.expect_refused(&[125]);
    assert!(done.err_text().contains(word), "{}", done.err_text());
}

/// A root who is shown to somebody's records would join the namespaces that they name, with root's rights over the
/// machine, and end the processes that they name.
#[test]
fn roots_calls_do_not_believe_records_of_another_user() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let own = |path: &Path, uid| chown(path, Some(uid), Some(uid)).expect("chown");
    own(&world.state, STRANGER);
    for verb in ["exec", "launch"] {
        let done = world.verb(verb).rootfs(&root).cmd(["true"]).done();
        refused(&done, "it belongs to uid 2100000001");
    }
    for verb in ["inspect", "destroy-fs"] {
        refused(&world.verb(verb).cmd([&root.guid]).done(), "it belongs to");
    }
    own(&world.state, 0);
    fs::set_permissions(&world.state, Permissions::from_mode(0o777)).expect("mode");
    let done = world.exec(&root).cmd(["true"]).done();
    refused(&done, "everybody may write to it");
    fs::set_permissions(&world.state, Permissions::from_mode(0o755)).expect("mode");
    world.exec(&root).cmd(["true"]).done().expect_code(0);
    leader.stop().expect_code(0);
}

/// A session keyring is inherited through every namespace, and who has it reads the keys in it.
#[test]
fn the_callers_session_keyring_stays_outside() {
    let Some(world) = World::new() else { return };
    if !Path::new("/proc/keys").exists() {
        return lacking("a kernel with keyrings");
    }
    let world = world.launching_with(["--profile=none"]);
    let (root, leader) = world.idle();
    // A user sees the keys of another only in a keyring that it has itself: the number stands first.
    let keyrings = |text: String| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.contains("keyring"));
        lines.map(|line| line[..8].to_owned()).collect()
    };
    let seen = || {
        let run = world.exec(&root).opt("--user=app");
        keyrings(run.cmd(["cat", "/proc/keys"]).text())
    };
    let (one, two) = (seen(), seen());
    assert!(!one.is_empty() && one.is_disjoint(&two), "{one:?} {two:?}");
    leader.stop().expect_code(0);
    let launched = world.launch_run(&root).opt("--user=app");
    let three = keyrings(launched.cmd(["cat", "/proc/keys"]).text());
    assert!(!three.is_empty() && three.is_disjoint(&one), "{three:?}");
}
