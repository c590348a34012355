//! linux.resources.blockIO with cgroups of version 2, and what `events` tells of waiting.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Bundle, LoopDevice, Snapshot, World, lacking, until, write_file};

use super::cgroups::text;
use super::cgroups_second::with_controllers;

fn own(world: &World) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(world.name()).join("one")
}

/// A block device that nobody else limits.
pub(super) fn device(world: &World) -> LoopDevice {
    let file = world.dir.join("disk");
    write_file(&file, vec![0; 1 << 20]);
    LoopDevice::over(&file)
}

/// Throttles of it, in config.json's words.
pub(super) fn throttles(device: &LoopDevice) -> Value {
    let (major, minor) = device.numbers();
    let list = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    json!({
        "throttleReadBpsDevice": list(1 << 20),
        "throttleWriteBpsDevice": list(2 << 20),
        "throttleReadIOPSDevice": list(30),
        "throttleWriteIOPSDevice": list(40),
    })
}

#[test]
fn a_device_is_throttled_as_asked_and_then_as_update_says() {
    let Some(world) = with_controllers(&["io"]) else {
        return;
    };
    let device = device(&world);
    let (major, minor) = device.numbers();
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["resources"] = json!({ "blockIO": throttles(&device) });
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    bundle.ok(&["run", "-d", "one"]);
    let told = || text(own(&world).join("io.max"));
    let start = format!("{major}:{minor} rbps=1048576 wbps=2097152");
    assert_eq!(told(), format!("{start} riops=30 wiops=40"));
    let less = json!([{ "major": major, "minor": minor, "rate": 20 }]);
    let less = json!({ "blockIO": { "throttleReadIOPSDevice": less } });
    fs::write(bundle.dir.join("less"), less.to_string()).unwrap();
    bundle.ok(&["update", "-r", "less", "one"]);
    assert_eq!(told(), format!("{start} riops=20 wiops=40"));
    bundle.ok(&["delete", "--force", "one"]);
    fs::remove_file(bundle.dir.join("less")).unwrap();
    before.assert_same(&world);
    // A device that the host has not.
    let mut config = bundle.config();
    config["linux"]["resources"]["blockIO"] =
        json!({ "throttleReadBpsDevice": [{ "major": 511, "minor": 7, "rate": 1 }] });
    bundle.refuses(&config, "linux.resources.blockIO.throttleReadBpsDevice");
    before.assert_same(&world);
}

#[test]
fn devices_on_lines_of_their_own_are_all_limited() {
    let Some(world) = with_controllers(&["io"]) else {
        return;
    };
    let devices = [device(&world), device(&world)].map(|device| (device.numbers(), device));
    let line = |index: usize, rate: u32| {
        let ((major, minor), _) = devices[index];
        format!("{major}:{minor} rbps=max wbps=max riops={rate} wiops=max")
    };
    let asked = |rates: [u32; 2]| format!("{}\n{}\n", line(0, rates[0]), line(1, rates[1]));
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["resources"] = json!({ "unified": { "io.max": asked([30, 40]) } });
    });
    bundle.ok(&["run", "-d", "one"]);
    let told = || {
        let mut told: Vec<_> = text(own(&world).join("io.max"))
            .lines()
            .map(str::to_owned)
            .collect();
        told.sort();
        told
    };
    let mut expected = [line(0, 30), line(1, 40)];
    expected.sort();
    assert_eq!(told(), expected);
    bundle.ok(&["delete", "--force", "one"]);
}

#[test]
fn events_tell_how_long_was_waited() {
    let Some(world) = with_controllers(&["memory", "cpu", "io"]) else {
        return;
    };
    if !Path::new("/proc/pressure/cpu").exists() {
        return lacking("needs a kernel that counts pressure (CONFIG_PSI, psi=1)");
    }
    // It may not run all the time that it would like to.
    let script = "while :; do :; done";
    let bundle = Bundle::new(&world, script, |config| {
        config["linux"]["resources"] = json!({ "cpu": { "quota": 5_000, "period": 100_000 } });
    });
    bundle.ok(&["run", "-d", "one"]);
    let stats = || {
        let text = bundle.ok(&["events", "--stats", "one"]);
        serde_json::from_str::<Value>(&text).unwrap()["data"].take()
    };
    let stats = until("pressure", || {
        let stats = stats();
        (stats["cpu"]["psi"]["some"]["total"].as_u64() > Some(0)).then_some(stats)
    });
    for part in ["cpu", "memory", "blkio"] {
        for who in ["some", "full"] {
            let told = &stats[part]["psi"][who];
            assert!(told["total"].is_u64(), "{part} {who}: {stats}");
            for time in ["avg10", "avg60", "avg300"] {
                assert!(told[time].is_f64(), "{part} {who} {time}: {stats}");
            }
        }
    }
    bundle.ok(&["delete", "--force", "one"]);
}
