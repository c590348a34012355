//! What of the caller's the container has as it is: streams, and groups where that is asked for.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;
use tests::{Bundle, Wire, World};

/// Opens its streams anew, as programs do that log to a file.
const SCRIPT: &str = "echo out > /proc/self/fd/1; stat -L -c %u:%g /proc/self/fd/1 /proc/self/fd/2; echo err > /proc/self/fd/2";

#[test]
fn pipes_become_the_users_and_nothing_else_does() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SCRIPT, |config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1001 });
    });
    let owned = |words: &[&str]| {
        let done = bundle.call(words).pipes().done();
        done.expect_code(0);
        assert_eq!(done.out_text(), "out\n1000:1001\n1000:1001", "{words:?}");
        assert_eq!(done.err_text(), "err");
    };
    owned(&["run", "one"]);
    // What it is to the host is another matter.
    let plain = bundle.config();
    let mut config = plain.clone();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "user" }));
    for field in ["uidMappings", "gidMappings"] {
        config["linux"][field] = json!([{ "containerID": 0, "hostID": 700_000, "size": 2000 }]);
    }
    bundle.write(&config);
    owned(&["run", "one"]);
    config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write(&config);
    bundle.ok(&["run", "-d", "one"]);
    owned(&["exec", "one", "sh", "-c", SCRIPT]);
    bundle.ok(&["delete", "--force", "one"]);
    // A file is somebody's.
    bundle.write(&plain);
    let path = world.dir.join("file");
    let file = File::create(&path).unwrap();
    let run = bundle
        .call(&["run", "one"])
        .stdout(Wire::Given(file.into()));
    let done = run.done();
    assert!(
        done.err_text().contains("Permission denied"),
        "{}",
        done.err_text()
    );
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (0, 0));
}

#[test]
fn groups_of_the_caller_are_kept_when_asked_for() {
    let Some(world) = World::new() else { return };
    let script = "grep Groups /proc/self/status";
    let bundle = Bundle::new(&world, script, |config| {
        config["process"]["user"]["additionalGids"] = json!([7]);
    });
    let run = || {
        bundle
            .call(&["run", "one"])
            .wrap(["setpriv", "--groups=4242,4243"])
            .text()
    };
    assert_eq!(run(), "Groups:\t7 ");
    let mut config = bundle.config();
    config["annotations"] = json!({ "run.oci.keep_original_groups": "1" });
    config["process"]["user"]["additionalGids"] = json!([]);
    bundle.write(&config);
    assert_eq!(run(), "Groups:\t4242 4243 ");
}
