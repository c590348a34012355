//! `linux.intelRdt` where there is no resctrl filesystem. Where there is one, nothing is tried: it is the whole machine's.

use std::fs;

use serde_json::json;
use tests::{Bundle, Snapshot, World};

#[test]
fn without_a_resctrl_filesystem_it_is_refused() {
    let Some(world) = World::new() else { return };
    if fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .contains(" - resctrl ")
    {
        return tests::lacking("needs a host without a resctrl filesystem");
    }
    let bundle = Bundle::new(&world, "", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    for (given, told) in [
        (json!({}), "no resctrl filesystem is mounted"),
        (
            json!({ "closID": "one", "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=20" }),
            "no resctrl filesystem is mounted",
        ),
        (
            json!({ "schemata": ["L3:0=ff"], "enableMonitoring": true }),
            "no resctrl filesystem is mounted",
        ),
        (json!({ "enableCMT": true }), "enableMonitoring instead"),
        (json!({ "closID": 5 }), "invalid type"),
    ] {
        let mut config = good.clone();
        config["linux"]["intelRdt"] = given;
        bundle.refuses(&config, told);
        assert!(
            bundle.last_log()["msg"]
                .to_string()
                .contains("linux.intelRdt")
        );
    }
    bundle.write(&good);
    before.assert_same(&world);
}
