//! What is believed, and whose it has to be: records of another user lead nobody anywhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tests::{Done, World};

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
    own(&world.data, STRANGER);
    for verb in ["launch", "destroy-fs"] {
        let done = world.verb(verb).cmd([&root.guid]).done();
        refused(&done, "use data directory");
    }
    own(&world.data, 0);
    fs::set_permissions(&world.state, Permissions::from_mode(0o777)).expect("mode");
    let done = world.exec(&root).cmd(["true"]).done();
    refused(&done, "everybody may write to it");
    fs::set_permissions(&world.state, Permissions::from_mode(0o755)).expect("mode");
    world.exec(&root).cmd(["true"]).done().expect_code(0);
    leader.stop().expect_code(0);
}
