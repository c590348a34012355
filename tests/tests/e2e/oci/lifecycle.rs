//! create, start, state, kill, delete, run, list: what becomes of a container.

use std::fs;

use serde_json::Value;
use tests::{Bundle, Seeded, Snapshot, World, mounts_below, processes_of, spin, until};

const MARK_AND_SLEEP: &str = "echo started > /tmp/mark; exec sleep 1000";

fn writable(config: &mut Value) {
    config["root"]["readonly"] = false.into();
}

#[test]
fn a_container_goes_through_its_states_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, MARK_AND_SLEEP, writable);
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    bundle.ok(&["create", "--pid-file", "pid", "one"]);

    let state = bundle.state("one");
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], "one");
    assert_eq!(state["bundle"], bundle.dir.to_str().unwrap());
    assert_eq!(state["ociVersion"], "1.3.0");
    let pid = fs::read_to_string(bundle.dir.join("pid")).unwrap();
    assert_eq!(
        state["pid"].to_string(),
        pid,
        "no number and nothing else in the pid file"
    );
    assert!(mounts_below(&world.dir).is_empty());
    assert!(
        !bundle.file("tmp/mark").exists(),
        "it runs before it is started"
    );
    assert_eq!(bundle.ok(&["list", "-q"]), "one");

    bundle.ok(&["start", "one"]);
    until("the program", || {
        bundle.file("tmp/mark").exists().then_some(())
    });
    assert_eq!(bundle.state("one")["status"], "running");
    assert!(mounts_below(&world.dir).is_empty());
    bundle.call(&["start", "one"]).done().expect_code(1);
    bundle.call(&["delete", "one"]).done().expect_code(1);
    assert_eq!(bundle.state("one")["status"], "running");

    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    assert_eq!(bundle.state("one")["pid"], 0);
    let late = bundle.call(&["kill", "one", "KILL"]).done();
    late.expect_code(1);
    assert!(late.err_text().contains("container not running"));
    bundle.ok(&["delete", "one"]);
    let gone = bundle.call(&["state", "one"]).done();
    gone.expect_code(1);
    assert!(gone.err_text().contains("container does not exist"));
    fs::remove_file(bundle.file("tmp/mark")).unwrap();
    before.assert_same(&world);
}

#[test]
fn a_signal_arrives_as_it_was_sent() {
    let Some(world) = World::new() else { return };
    let script = "trap 'echo caught > /tmp/mark; exit 0' USR1; echo > /tmp/ready; while :; do sleep 0.01; done";
    let bundle = Bundle::new(&world, script, writable);
    bundle.ok(&["run", "-d", "one"]);
    until("the trap", || {
        bundle.file("tmp/ready").exists().then_some(())
    });
    bundle.ok(&["kill", "one", "SIGUSR1"]);
    bundle.await_status("one", "stopped");
    assert_eq!(
        fs::read_to_string(bundle.file("tmp/mark")).unwrap(),
        "caught\n"
    );
}

#[test]
fn run_ends_as_the_program_and_deletes() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat; exit 7", |_| {});
    let done = bundle.call(&["run", "one"]).input("words").done();
    done.expect_code(7);
    assert_eq!(done.out_text(), "words");
    assert_eq!(bundle.ok(&["list", "-q"]), "");
    let kept = bundle.call(&["run", "--keep", "two"]).input("words");
    kept.done().expect_code(7);
    assert_eq!(bundle.state("two")["status"], "stopped");
}

#[test]
fn the_configuration_may_have_another_name() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exit 7", |_| {});
    let (usual, other) = (bundle.dir.join("config.json"), "configs/one.json");
    fs::create_dir(bundle.dir.join("configs")).unwrap();
    fs::rename(usual, bundle.dir.join(other)).unwrap();
    let run = bundle.call(&["run", "--config", other, "one"]);
    run.done().expect_code(7);
    let missing = bundle.call(&["run", "one"]).done();
    missing.expect_refused(&[1]);
    assert!(missing.err_text().contains("config.json"));
}

#[test]
fn delete_force_ends_what_there_is() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["delete", "--force", "nobody"]);
    bundle.call(&["delete", "nobody"]).done().expect_code(1);
    bundle.ok(&["create", "one"]);
    bundle.call(&["delete", "one"]).done().expect_code(1);
    let mut config = bundle.config();
    config["linux"]["cgroupsPath"] = format!("/{}/two", world.name()).into();
    bundle.write(&config);
    bundle.ok(&["run", "-d", "two"]);
    for id in ["one", "two"] {
        bundle.ok(&["delete", "--force", id]);
    }
    assert_eq!(bundle.ok(&["list", "-q"]), "");
    until("the end", || {
        processes_of(&world.dir).is_empty().then_some(())
    });
}

#[test]
fn delete_takes_a_regular_expression() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]
            .as_object_mut()
            .unwrap()
            .remove("cgroupsPath");
    });
    for id in ["one-1", "one-2", "two-1"] {
        bundle.ok(&["create", id]);
    }
    let done = bundle.call(&["delete", "--regex", "-f", "one-["]).done();
    done.expect_refused(&[1]);
    assert!(done.err_text().contains("one-["), "{}", done.err_text());
    // One that cannot be deleted keeps none of the others.
    bundle.ok(&["kill", "one-2", "KILL"]);
    until("its end", || {
        (bundle.state("one-2")["status"] == "stopped").then_some(())
    });
    let done = bundle.call(&["delete", "--regex", "^one"]).done();
    done.expect_code(1);
    assert!(done.err_text().contains("one-1"), "{}", done.err_text());
    assert_eq!(bundle.ok(&["list", "-q"]), "one-1\ntwo-1");
    bundle.ok(&["delete", "--regex", "--force", "nobody"]);
    bundle.ok(&["delete", "-r", "-f", "wo-*"]);
    assert_eq!(bundle.ok(&["list", "-q"]), "one-1");
    bundle.ok(&["delete", "one-1", "-f"]);
}

#[test]
fn of_two_creates_of_one_id_one_succeeds() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let clients: Vec<_> = (0..4)
        .map(|_| bundle.call(&["create", "same"]).spawn())
        .collect();
    let ends: Vec<_> = clients.into_iter().map(|client| client.finish()).collect();
    assert_eq!(ends.iter().filter(|done| done.code() == Some(0)).count(), 1);
    for done in ends.iter().filter(|done| done.code() != Some(0)) {
        assert!(
            done.err_text().contains("already exists"),
            "{}",
            done.err_text()
        );
    }
    assert_eq!(bundle.state("same")["status"], "created");
    assert_eq!(processes_of(&world.dir).len(), 1);
}

#[test]
fn of_several_deletes_of_one_container_one_does_it() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    for round in 0..10 {
        let forced = round % 2 == 0;
        bundle.ok(&["run", "-d", "one"]);
        if !forced {
            bundle.ok(&["kill", "one", "KILL"]);
            bundle.await_status("one", "stopped");
        }
        let words: &[&str] = match forced {
            true => &["delete", "--force", "one"],
            false => &["delete", "one"],
        };
        let clients: Vec<_> = (0..4).map(|_| bundle.call(words).spawn()).collect();
        let mut deleted = 0;
        for client in clients {
            let done = client.finish();
            match done.code() {
                Some(0) => deleted += 1,
                _ => assert!(
                    done.err_text().contains("container does not exist"),
                    "{}",
                    done.err_text()
                ),
            }
        }
        assert_eq!(deleted, if forced { 4 } else { 1 });
        before.assert_same(&world);
    }
}

#[test]
fn a_killed_create_leaves_only_what_delete_force_removes() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let mut moments = Seeded::new(5);
    for _ in 0..25 {
        let client = bundle.call(&["create", "one"]).spawn();
        spin(std::time::Duration::from_micros(moments.below(25_000)));
        // Dropping it kills it.
        drop(client);
        bundle.ok(&["delete", "--force", "one"]);
        before.assert_same(&world);
    }
}

#[test]
fn a_program_that_is_not_there_is_refused_by_create() {
    let Some(world) = World::new() else { return };
    for (program, code, word) in [
        ("nosuch", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let bundle = Bundle::new(&world, "", |config| {
            config["process"]["args"] = [program].into_iter().collect();
        });
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[code]);
        assert!(done.err_text().contains(word), "{}", done.err_text());
        assert_eq!(bundle.ok(&["list", "-q"]), "");
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn start_tells_what_execve_has_answered() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        config["process"]["args"] = ["/bin/broken"].into_iter().collect();
    });
    tests::write_file(bundle.file("bin/broken"), "no program\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bundle.file("bin/broken"), mode).unwrap();
    bundle.ok(&["create", "one"]);
    let done = bundle.call(&["start", "one"]).done();
    done.expect_refused(&[126]);
    assert!(done.err_text().contains("ENOEXEC"), "{}", done.err_text());
    bundle.await_status("one", "stopped");
    bundle.ok(&["delete", "one"]);
}
