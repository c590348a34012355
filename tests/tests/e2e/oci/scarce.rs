//! The OCI front-end where room is scarce, and where nobody reads or everybody calls at once.

use std::fs;

use nix::mount::{MsFlags, mount};
use serde_json::json;
use tests::{Bundle, Snapshot, World, own_mounts, tool};

const SLEEP: &str = "exec sleep 1000";

/// Inodes of a tmpfs are counted, and its own directory is the first.
fn inodes(dir: &std::path::Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(dir).expect("statvfs");
    stat.files() - stat.files_free()
}

/// Each number of inodes from none to enough: what there is no room for is told, and `delete --force` needs no room.
#[test]
fn a_full_state_directory_is_told_and_emptied() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SLEEP, |_| {});
    fs::create_dir_all(bundle.root()).unwrap();
    let host = Snapshot::of(&world);
    own_mounts().expect("a mount namespace");
    let (none, flags) = (None::<&str>, MsFlags::empty());
    let mut refused = 0;
    for (room, option) in (2..12)
        .map(|count| (count, "nr_inodes"))
        .chain((1..8).map(|pages| (pages * 4096, "size")))
    {
        let options = format!("{option}={room}");
        let root = bundle.root();
        mount(none, &root, Some("tmpfs"), flags, Some(options.as_str())).expect("tmpfs");
        let empty = inodes(&root);
        let created = bundle.call(&["create", "one"]).done();
        if created.code() == Some(0) {
            bundle.ok(&["start", "one"]);
        } else {
            created.expect_refused(&[1]);
            let text = created.err_text();
            assert!(text.contains("ENOSPC"), "{options}: {text}");
            refused += 1;
        }
        bundle.ok(&["delete", "--force", "one"]);
        assert_eq!(inodes(&root), empty, "{options}");
        nix::mount::umount(&root).expect("unmount");
        host.assert_same(&world);
    }
    assert!((3..17).contains(&refused), "{refused} of 17 were refused");
}

/// fs.mount-max and the like: move_mount(2) and its kin say ENOSPC.
#[test]
fn too_many_mounts_are_told_by_the_name_of_what_is_mounted() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SLEEP, |_| {});
    fs::create_dir_all(bundle.root()).unwrap();
    let host = Snapshot::of(&world);
    let strace = tool("strace");
    let strace = strace.to_str().unwrap();
    let mut targets = Vec::new();
    for count in 1..=5 {
        let inject = format!("--inject=move_mount:error=ENOSPC:when={count}");
        let words = [strace, "-f", "-o", "/dev/null", &inject];
        let done = bundle.call(&["create", "one"]).wrap(words).done();
        done.expect_refused(&[1]);
        let text = done.err_text();
        assert!(text.contains("ENOSPC"), "{text}");
        targets.push(text);
        host.assert_same(&world);
    }
    targets.dedup();
    assert!(targets.len() > 2, "{targets:?}");
}

/// Who reads nothing holds up nobody: what runs in the container fills its pipes, and the verbs go on.
#[test]
fn a_reader_that_never_reads_holds_up_no_verb() {
    let Some(world) = World::new() else { return };
    let flood = "while :; do echo 0123456789012345678901234567890123456789; done";
    let bundle = Bundle::new(&world, flood, |_| {});
    fs::create_dir_all(bundle.root()).unwrap();
    let host = Snapshot::of(&world);
    let client = bundle.call(&["run", "one"]).spawn();
    tests::until("the container", || {
        let state = bundle.call(&["state", "one"]).done();
        state.out_text().contains("running").then_some(())
    });
    let exec = bundle.call(&["exec", "one", "sh", "-c", flood]);
    let exec = exec.spawn();
    tests::until("both processes", || {
        (bundle.ok(&["ps", "one"]).lines().count() >= 3).then_some(())
    });
    bundle.ok(&["kill", "one", "KILL"]);
    drop((client, exec));
    bundle.ok(&["delete", "--force", "one"]);
    host.assert_same(&world);
}

/// The command ends; what it has left in the background has its streams, and belongs to PID 1.
#[test]
fn a_child_in_the_background_does_not_hold_up_exec() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SLEEP, |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let done = bundle
        .call(&["exec", "one", "sh", "-c", "sleep 301 & echo hi"])
        .done();
    assert_eq!(done.expect_ok(), "hi");
    assert_eq!(bundle.ok(&["ps", "one"]).lines().count(), 3);
}

/// No one waits for another, and nobody's status is somebody else's.
#[test]
fn many_commands_at_once_each_have_their_own_status() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SLEEP, |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 500 } });
    });
    bundle.ok(&["run", "-d", "one"]);
    for round in 0..8 {
        let clients: Vec<_> = (0..64)
            .map(|number| {
                let script = format!("exit {number}");
                let call = bundle.call(&["exec", "one", "sh", "-c", &script]);
                (number, call.spawn())
            })
            .collect();
        for (number, client) in clients {
            let done = client.finish();
            assert_eq!(done.code(), Some(number), "{round}: {}", done.err_text());
        }
    }
    assert_eq!(bundle.ok(&["ps", "one"]).lines().count(), 2);
}
