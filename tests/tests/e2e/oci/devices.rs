//! linux.devices and process.oomScoreAdj.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World};

fn devices(config: &mut Value) {
    config["linux"]["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o20640, "uid": 7, "gid": 8 },
        { "path": "/dev/deep/disk", "type": "b", "major": 8, "minor": 1 },
        { "path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 0o600 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 9 },
    ]);
}

#[test]
fn nodes_are_made_and_what_is_there_stays_as_it_is() {
    let Some(world) = World::new() else { return };
    let script = "umask 077; cd /dev; for n in fuse deep/disk pipe null; do stat -c '%n %F %t:%T %a %u %g' $n; done";
    let bundle = Bundle::new(&world, script, devices);
    let null = || {
        fs::metadata("/dev/null")
            .map(|about| (about.mode(), about.uid()))
            .unwrap()
    };
    let before = null();
    let text = bundle.ok(&["run", "one"]);
    let expected = "fuse character special file a:e5 640 7 8\ndeep/disk block special file 8:1 666 0 0\n\
                    pipe fifo 0:0 600 0 0\nnull character special file 1:3 666 0 0";
    assert_eq!(text, expected);
    assert_eq!(null(), before);
}

#[test]
fn no_node_is_made_outside() {
    let Some(world) = World::new() else { return };
    let outside = world.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    for (target, told) in [
        (outside.to_str().unwrap(), "dev"),
        ("/nonexistent", "dev"),
        ("../../outside", "dev"),
    ] {
        let bundle = Bundle::new(&world, "", |config| {
            devices(config);
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        });
        fs::create_dir_all(bundle.root()).unwrap();
        let before = Snapshot::of(&world);
        let _ = fs::remove_dir_all(bundle.file("dev"));
        symlink(target, bundle.file("dev")).unwrap();
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        before.assert_same(&world);
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn a_node_in_the_place_of_something_else_is_refused() {
    let Some(world) = World::new() else { return };
    for (device, told) in [
        (
            json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 5 }),
            "make device \"/dev/null\"",
        ),
        (
            json!({ "path": "/etc/passwd", "type": "c", "major": 1, "minor": 5 }),
            "something else",
        ),
        (
            json!({ "path": "/proc/x", "type": "p" }),
            "linux.devices[0].path",
        ),
        (
            json!({ "path": "/dev/x", "type": "a" }),
            "linux.devices[0].type",
        ),
        (
            json!({ "path": "/dev/x", "type": "c", "major": -5, "minor": 5 }),
            "linux.devices[0].major",
        ),
    ] {
        let bundle = Bundle::new(&world, "", |config| {
            config["linux"]["devices"] = json!([device])
        });
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
        assert_eq!(bundle.ok(&["list", "-q"]), "");
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
}

#[test]
fn the_host_gets_no_node_through_its_own_dev() {
    let Some(world) = World::new() else { return };
    let dev = world.dir.join("dev");
    fs::create_dir(&dev).unwrap();
    let bundle = Bundle::new(&world, "", |config| {
        devices(config);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(
            json!({ "destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"] }),
        );
    });
    bundle.ok(&["run", "one"]);
    assert_eq!(fs::read_dir(&dev).unwrap().count(), 0);
}

#[test]
fn the_score_for_the_want_of_memory_is_set() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /proc/self/oom_score_adj", |config| {
        config["process"]["oomScoreAdj"] = 321.into();
    });
    assert_eq!(bundle.ok(&["run", "one"]), "321");
    let mut config = bundle.config();
    config["process"]["args"][2] = "exec sleep 1000".into();
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    let mut process = config["process"].clone();
    process["args"] = json!(["cat", "/proc/self/oom_score_adj"]);
    process["oomScoreAdj"] = 654.into();
    let path = bundle.dir.join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    assert_eq!(
        bundle.ok(&["exec", "-p", path.to_str().unwrap(), "one"]),
        "654"
    );
    bundle.ok(&["delete", "--force", "one"]);
    config["process"]["oomScoreAdj"] = 1001.into();
    bundle.write(&config);
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("process.oomScoreAdj"),
        "{}",
        done.err_text()
    );
}
