//! pause, resume, update, events, kill --all, and exec with regard to cgroups.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Run, World, processes_of, until};

use super::cgroups::{first, is_mounted, second, text, unified, with_first, with_second};

const SLEEP: &str = "sleep 1001 & exec sleep 1000";

/// The situations that freezing and killing have to work in: what the machine has, version 1 alone, version 2 alone.
fn each_host(test: impl Fn(&World, &dyn Fn(&Bundle<'_>, &[&str]) -> Run)) {
    if let Some(world) = World::new() {
        test(&world, &|bundle, words| bundle.call(words));
    }
    if let Some(world) = with_first(&["freezer"]) {
        test(&world, &|bundle, words| without_second(bundle, words));
    }
    if let Some(world) = with_second() {
        test(&world, &|bundle, words| unified(bundle, words));
    }
}

/// A call on a host that has nothing but version 1.
fn without_second(bundle: &Bundle<'_>, words: &[&str]) -> Run {
    let Some(place) = second() else {
        return bundle.call(words);
    };
    let cover = format!("mount -t tmpfs none {}; exec \"$@\"", place.display());
    let unshare = tests::tool("unshare");
    bundle
        .call(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .wrap_around([
            unshare.to_str().unwrap(),
            "--mount",
            "/bin/sh",
            "-c",
            &cover,
            "sh",
        ])
}

fn process(bundle: &Bundle<'_>, script: &str) -> String {
    let process = json!({
        "user": { "uid": 0, "gid": 0 }, "args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/",
    });
    let path = bundle.dir.join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_is_paused_stands_still_until_it_is_resumed_or_deleted() {
    each_host(|world, call| {
        let script = "while :; do echo x >> /tmp/beat; sleep 0.002; done";
        let bundle = Bundle::new(world, script, |config| {
            config["root"]["readonly"] = false.into();
        });
        let status = || {
            let state: Value =
                serde_json::from_str(&call(&bundle, &["state", "one"]).text()).unwrap();
            state["status"].clone()
        };
        let beats = || fs::metadata(bundle.file("tmp/beat")).map_or(0, |about| about.len());
        let _ = call(&bundle, &["run", "-d", "one"]).text();
        until("a beat", || (beats() > 0).then_some(()));
        call(&bundle, &["resume", "one"])
            .done()
            .expect_refused(&[1]);
        let _ = call(&bundle, &["pause", "one"]).text();
        assert_eq!(status(), "paused");
        let then = beats();
        call(&bundle, &["pause", "one"]).done().expect_refused(&[1]);
        call(&bundle, &["delete", "one"])
            .done()
            .expect_refused(&[1]);
        let path = process(&bundle, "true");
        let done = call(&bundle, &["exec", "-p", &path, "one"]).done();
        done.expect_refused(&[255]);
        assert!(
            done.err_text().contains("paused container"),
            "{}",
            done.err_text()
        );
        assert_eq!(beats(), then, "it has gone on");
        let _ = call(&bundle, &["resume", "one"]).text();
        assert_eq!(status(), "running");
        until("another beat", || (beats() > then).then_some(()));
        let _ = call(&bundle, &["pause", "one"]).text();
        let _ = call(&bundle, &["kill", "one", "KILL"]).text();
        until("its end", || (status() == "stopped").then_some(()));
        let _ = call(&bundle, &["delete", "one"]).text();
        let _ = call(&bundle, &["run", "-d", "one"]).text();
        let _ = call(&bundle, &["pause", "one"]).text();
        let _ = call(&bundle, &["delete", "--force", "one"]).text();
        assert!(processes_of(&world.dir).is_empty());
    });
}

#[test]
fn a_signal_to_all_reaches_all() {
    each_host(|world, call| {
        let script = "exec 2> /dev/null; for n in 1 2 3; do (trap \"echo > /tmp/heard$n; exit\" USR1; echo >> /tmp/ready; \
                      while :; do sleep 0.002; done) & done; trap : USR1; while :; do wait; done";
        let bundle = Bundle::new(world, script, |config| {
            config["root"]["readonly"] = false.into();
        });
        let lines = |name: &str| fs::metadata(bundle.file(name)).map_or(0, |about| about.len());
        let _ = call(&bundle, &["run", "-d", "one"]).text();
        until("the traps", || (lines("tmp/ready") == 3).then_some(()));
        let _ = call(&bundle, &["kill", "--all", "one", "USR1"]).text();
        for name in ["tmp/heard1", "tmp/heard2", "tmp/heard3"] {
            until(name, || (lines(name) > 0).then_some(()));
        }
        let _ = call(&bundle, &["kill", "--all", "one", "KILL"]).text();
        until("the end of all", || {
            processes_of(&world.dir).is_empty().then_some(())
        });
        let _ = call(&bundle, &["kill", "--all", "one", "KILL"]).text();
        let late = call(&bundle, &["kill", "one", "KILL"]).done();
        late.expect_refused(&[1]);
        assert!(
            late.err_text().contains("container not running"),
            "{}",
            late.err_text()
        );
    });
}

#[test]
fn an_update_that_is_refused_in_part_changes_nothing() {
    let Some(world) = with_first(&["memory", "cpu", "pids", "cpuset", "blkio"]) else {
        return;
    };
    let bundle = Bundle::new(&world, SLEEP, |config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "swap": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 10 },
        });
    });
    bundle.ok(&["run", "-d", "one"]);
    let all = || {
        let files = [
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.memsw.limit_in_bytes"),
            ("memory", "memory.oom_control"),
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_period_us"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpuset", "cpuset.mems"),
            ("pids", "pids.max"),
            ("blkio", "blkio.throttle.read_bps_device"),
        ];
        files.map(|(controller, file)| text(first(&world, controller).join(file)))
    };
    let before = all();
    let file = bundle.dir.join("resources.json");
    // There is no such processor; all else is possible.
    let mut resources = json!({
        "memory": { "limit": 128 << 20, "swap": 256 << 20, "disableOOMKiller": true },
        "cpu": { "shares": 99, "quota": 2000, "period": 10_000, "mems": "0", "cpus": "4000" },
        "pids": { "limit": 33 },
        "blockIO": { "throttleReadBpsDevice": [{ "major": 7, "minor": 0, "rate": 4096 }] },
    });
    fs::write(&file, resources.to_string()).unwrap();
    let update = ["update", "-r", file.to_str().unwrap(), "one"];
    let done = bundle.call(&update).done();
    done.expect_code(1);
    assert!(done.err_text().contains("cpu.cpus"), "{}", done.err_text());
    assert_eq!(all(), before);
    resources["cpu"]["cpus"] = "0".into();
    fs::write(&file, resources.to_string()).unwrap();
    bundle.ok(&update);
    let after = all();
    let same = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before == after);
    // The memory nodes.
    assert!(same.count() <= 1, "{after:?}");
}

#[test]
fn update_changes_what_it_says_and_nothing_else() {
    let Some(world) = with_first(&["memory", "cpu", "pids", "cpuset"]) else {
        return;
    };
    let bundle = Bundle::new(&world, SLEEP, |config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "swap": 64 << 20 }, "cpu": { "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 10 }, "devices": [{ "allow": false, "access": "rwm" }],
        });
    });
    bundle.ok(&["run", "-d", "one"]);
    let holds = |controller: &str, file: &str| text(first(&world, controller).join(file));
    bundle.ok(&[
        "update",
        "--memory=128m",
        "--memory-swap",
        "256m",
        "--pids-limit",
        "-1",
        "one",
    ]);
    assert_eq!(holds("memory", "memory.limit_in_bytes"), "134217728");
    assert_eq!(holds("memory", "memory.memsw.limit_in_bytes"), "268435456");
    assert_eq!(holds("pids", "pids.max"), "max");
    assert_eq!(holds("cpu", "cpu.cfs_quota_us"), "50000");
    // Down again, in the other order.
    bundle.ok(&[
        "update",
        "--memory",
        "33554432",
        "--memory-swap",
        "33554432",
        "one",
    ]);
    assert_eq!(holds("memory", "memory.memsw.limit_in_bytes"), "33554432");
    bundle.ok(&[
        "update",
        "--cpu-period",
        "10000",
        "--cpu-quota",
        "2000",
        "--cpu-shares=77",
        "--cpuset-cpus",
        "0",
        "one",
    ]);
    assert_eq!(holds("cpu", "cpu.cfs_period_us"), "10000");
    assert_eq!(holds("cpu", "cpu.shares"), "77");
    assert_eq!(holds("cpuset", "cpuset.cpus"), "0");
    let resources = json!({
        "pids": { "limit": 33 }, "cpu": { "shares": 99 }, "devices": [{ "allow": false, "access": "rwm" }],
    });
    let file = bundle.dir.join("resources.json");
    fs::write(&file, resources.to_string()).unwrap();
    bundle.ok(&[
        "update",
        "-r",
        file.to_str().unwrap(),
        "--cpu-shares",
        "88",
        "one",
    ]);
    assert_eq!(
        (holds("pids", "pids.max"), holds("cpu", "cpu.shares")),
        ("33".into(), "88".into())
    );
    let input = bundle.call(&["update", "--resources", "-", "one"]);
    let _ = input.input(r#"{ "pids": { "limit": 44 } }"#).text();
    assert_eq!(holds("pids", "pids.max"), "44");
    for (words, told) in [
        (&["--memory", "4096"][..], "memory.limit"),
        (&["--cpuset-cpus", "4000"], "cpu.cpus"),
        (&["--blkio-weight", "60000"], "blockIO.weight"),
    ] {
        let done = bundle.call(&[&["update"], words, &["one"]].concat()).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
    let input = bundle.call(&["update", "-r", "-", "one"]);
    let done = input
        .input(r#"{ "devices": [{ "allow": true, "access": "rwm" }] }"#)
        .done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("linux.resources.devices"),
        "{}",
        done.err_text()
    );
    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    bundle
        .call(&["update", "--pids-limit", "5", "one"])
        .done()
        .expect_refused(&[1]);
}

#[test]
fn events_tell_what_is_used_and_that_memory_has_run_out() {
    if let Some(world) = with_first(&["memory", "pids", "cpuacct"]) {
        events_of_who_takes_too_much(&world);
    }
}

/// `events` with whichever cgroups there are, of a process that takes more memory than it may.
pub(super) fn events_of_who_takes_too_much(world: &World) {
    // One process takes all of it, and once: a second one that wanted some while the first is being ended would have the
    // kernel end the shell, too.
    let script = "until [ -e /tmp/go ]; do sleep 0.01; done; \
                  (all=0; while :; do all=$all$all; done); echo > /tmp/over; exec sleep 1000";
    let bundle = Bundle::new(world, script, |config| {
        config["root"]["readonly"] = false.into();
        config["linux"]["resources"] =
            json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 }, "pids": { "limit": 9 } });
    });
    bundle.ok(&["run", "-d", "one"]);
    let stats: Value = serde_json::from_str(&bundle.ok(&["events", "--stats", "one"])).unwrap();
    assert_eq!(
        (&stats["type"], &stats["id"]),
        (&json!("stats"), &json!("one"))
    );
    let data = &stats["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 16 << 20);
    assert_eq!(data["pids"]["limit"], 9);
    for used in [
        &data["memory"]["usage"]["usage"],
        &data["pids"]["current"],
        &data["cpu"]["usage"]["total"],
    ] {
        assert!(used.as_u64() > Some(0), "{stats}");
    }
    let mut watching = bundle
        .call(&["events", "--interval", "20ms", "one"])
        .spawn();
    watching.expect("\"stats\"");
    fs::write(bundle.file("tmp/go"), "").unwrap();
    watching.expect("{\"type\":\"oom\",\"id\":\"one\"}");
    until("the survivor", || {
        bundle.file("tmp/over").exists().then_some(())
    });
    bundle.ok(&["kill", "one", "KILL"]);
    watching.finish().expect_code(0);
}

#[test]
fn an_exec_is_in_the_containers_cgroups_or_in_one_below() {
    let Some(world) = with_first(&["pids", "memory"]) else {
        return;
    };
    let bundle = Bundle::new(&world, SLEEP, |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 20 } });
    });
    bundle.ok(&["run", "-d", "one"]);
    let path = process(&bundle, "exec sleep 999");
    bundle.ok(&["exec", "-d", "-p", &path, "--pid-file", "two", "one"]);
    let pid = text(bundle.dir.join("two"));
    let cgroups = |pid: &str| text(format!("/proc/{pid}/cgroup"));
    let own = format!("/{}/one", world.name());
    assert!(
        cgroups(&pid)
            .lines()
            .filter(|line| is_mounted(line))
            .all(|line| line.ends_with(&own)),
        "{}",
        cgroups(&pid)
    );
    let listed: Value =
        serde_json::from_str(&bundle.ok(&["ps", "--format", "json", "one"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    for cgroup in tests::cgroups_of(&world) {
        if cgroup.ends_with("one") {
            fs::create_dir(cgroup.join("sub")).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if cgroup.starts_with("/sys/fs/cgroup/cpuset") {
                    fs::write(cgroup.join("sub").join(file), text(cgroup.join(file))).unwrap();
                }
            }
        }
    }
    bundle.ok(&[
        "exec",
        "-d",
        "-p",
        &path,
        "--pid-file",
        "three",
        "--cgroup",
        "sub",
        "one",
    ]);
    let pid = text(bundle.dir.join("three"));
    assert!(cgroups(&pid).contains("/one/sub"), "{}", cgroups(&pid));
    for outside in ["..", "/../..", "sub/../..", "nosuch"] {
        let done = bundle
            .call(&["exec", "-p", &path, "--cgroup", outside, "one"])
            .done();
        done.expect_refused(&[255]);
        assert!(
            done.err_text().contains("enter cgroup"),
            "{}",
            done.err_text()
        );
    }
    let place = Path::new("/sys/fs/cgroup/pids").join(world.name());
    assert!(place.join("one/sub").exists());
    bundle.ok(&["delete", "--force", "one"]);
    assert!(!place.exists());
}
