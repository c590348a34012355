//! process.scheduler, process.ioPriority, process.execCPUAffinity, and whose processors a container has.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World, lacking, tool};

use super::cgroups::with_first;

/// The program that shows its own line of proc_pid_stat(5), without a fork.
const SHOW: [&str; 2] = ["cat", "/proc/self/stat"];
const PROCESSORS: &str = "grep Cpus_allowed_list /proc/self/status";

/// Policy, nice value and real-time priority in such a line; the nice value only where the policy heeds it.
fn shown(line: &str) -> [i64; 3] {
    let (_, rest) = line.rsplit_once(')').unwrap();
    let fields: Vec<_> = rest.split_whitespace().collect();
    let [policy, nice, priority] = [41, 19, 40].map(|field| fields[field - 3].parse().unwrap());
    [
        policy,
        if matches!(policy, 0 | 3) { nice } else { 0 },
        priority,
    ]
}

/// A process.json with something besides.
fn process(bundle: &Bundle<'_>, args: Value, name: &str, value: Value) -> String {
    let mut process = json!({
        "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/",
    });
    process[name] = value;
    let path = bundle.dir.join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_process_is_scheduled_as_the_configuration_says() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        config["process"]["args"] = json!(SHOW);
    });
    let good = bundle.config();
    let deadline = json!({
        "policy": "SCHED_DEADLINE", "runtime": 5_000_000, "deadline": 10_000_000, "period": 20_000_000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
    });
    for (scheduler, expected) in [
        (json!({ "policy": "SCHED_OTHER", "nice": 5 }), [0, 5, 0]),
        (json!({ "policy": "SCHED_OTHER", "nice": -3 }), [0, -3, 0]),
        (json!({ "policy": "SCHED_BATCH", "nice": 19 }), [3, 19, 0]),
        (json!({ "policy": "SCHED_IDLE" }), [5, 0, 0]),
        (json!({ "policy": "SCHED_FIFO", "priority": 3 }), [1, 0, 3]),
        (json!({ "policy": "SCHED_RR", "priority": 99 }), [2, 0, 99]),
        (deadline, [6, 0, 0]),
    ] {
        let mut config = good.clone();
        config["process"]["scheduler"] = scheduler.clone();
        bundle.write(&config);
        // A cgroup of its own has no time for the real-time ones, unless it is given some.
        let text = bundle.ok(&["--cgroup-manager=disabled", "run", "one"]);
        assert_eq!(shown(&text), expected, "{scheduler}");
    }
}

#[test]
fn ids_of_its_own_do_not_stand_in_the_way() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        config["process"]["args"] = json!(SHOW);
        config["process"]["scheduler"] = json!({ "policy": "SCHED_FIFO", "priority": 3 });
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({ "type": "user" }));
        for field in ["uidMappings", "gidMappings"] {
            config["linux"][field] = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        }
    });
    let text = bundle.ok(&["--cgroup-manager=disabled", "run", "one"]);
    assert_eq!(shown(&text), [1, 0, 3]);
}

#[test]
fn disks_are_waited_for_as_the_configuration_says() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "ionice -p $$", |_| {});
    let good = bundle.config();
    for (class, priority, expected) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_RT", 1, "realtime: prio 1"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let mut config = good.clone();
        config["process"]["ioPriority"] = json!({ "class": class, "priority": priority });
        bundle.write(&config);
        assert_eq!(bundle.ok(&["run", "one"]), expected);
    }
}

#[test]
fn a_process_that_joins_is_scheduled_as_the_container_unless_it_says_otherwise() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 4 });
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    });
    bundle.ok(&["run", "-d", "one"]);
    let own = json!({ "policy": "SCHED_OTHER", "nice": 7 });
    let path = process(&bundle, json!(SHOW), "scheduler", own);
    let joined = |words: &[&str]| bundle.ok(&[&["exec"], words].concat());
    assert_eq!(shown(&joined(&["-p", &path, "one"])), [0, 7, 0]);
    let command = ["one", SHOW[0], SHOW[1]];
    assert_eq!(shown(&joined(&command)), [3, 4, 0]);
    let own = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    let script = json!(["sh", "-c", "ionice -p $$"]);
    let path = process(&bundle, script, "ioPriority", own);
    assert_eq!(joined(&["-p", &path, "one"]), "idle");
    let command = ["one", "sh", "-c", "ionice -p $$"];
    assert_eq!(joined(&command), "best-effort: prio 6");
}

#[test]
fn what_does_not_fit_together_is_refused_by_its_name() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let scheduler = |value: Value| ("scheduler", value);
    let io = |class: &str, level: i32| ("ioPriority", json!({ "class": class, "priority": level }));
    let initial = |list: &str| ("execCPUAffinity", json!({ "initial": list }));
    for ((name, value), told) in [
        (
            scheduler(json!({ "policy": "SCHED_NOSUCH" })),
            "scheduler.policy",
        ),
        (scheduler(json!({ "nice": 1 })), "policy"),
        (
            scheduler(json!({ "policy": "SCHED_OTHER", "nice": 20 })),
            "scheduler.nice",
        ),
        (
            scheduler(json!({ "policy": "SCHED_OTHER", "priority": 1 })),
            "scheduler.priority",
        ),
        (
            scheduler(json!({ "policy": "SCHED_FIFO", "priority": -1 })),
            "scheduler.priority",
        ),
        (
            scheduler(json!({ "policy": "SCHED_FIFO", "runtime": 1 })),
            "SCHED_DEADLINE",
        ),
        (
            scheduler(json!({ "policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_NOSUCH"] })),
            "scheduler.flags",
        ),
        // What only the kernel finds.
        (
            scheduler(json!({ "policy": "SCHED_RR", "priority": 100 })),
            r#"process.scheduler": EINVAL"#,
        ),
        (scheduler(json!("SCHED_RR")), "process.scheduler"),
        (io("IOPRIO_CLASS_NONE", 0), "ioPriority.class"),
        (io("IOPRIO_CLASS_BE", 8), "ioPriority.priority"),
        (initial("1-0"), "execCPUAffinity.initial"),
        (
            ("execCPUAffinity", json!({ "final": "x" })),
            "execCPUAffinity.final",
        ),
    ] {
        let mut config = good.clone();
        config["process"][name] = value;
        bundle.refuses(&config, told);
        before.assert_same(&world);
    }
    bundle.write(&good);
}

/// The first processor of the machine, and all of them, where there are several.
fn processors() -> Option<(String, String)> {
    let all = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let all = all.trim().to_owned();
    if all.contains(['-', ',']) {
        let first = all.split(['-', ',']).next().unwrap().to_owned();
        return Some((first, all));
    }
    lacking("needs several processors");
    None
}

fn list(text: &str) -> &str {
    text.split_whitespace().last().unwrap()
}

#[test]
fn what_the_caller_is_bound_to_does_not_bind_the_container() {
    let Some(world) = World::new() else { return };
    let Some((first, all)) = processors() else {
        return;
    };
    let bundle = Bundle::new(&world, PROCESSORS, |_| {});
    let taskset = tool("taskset");
    let bound = |words: &[&str]| {
        let wrap = [taskset.to_str().unwrap(), "--cpu-list", &first];
        bundle.call(words).wrap_around(wrap).text()
    };
    for driver in ["cgroupfs", "disabled"] {
        let driver = format!("--cgroup-manager={driver}");
        assert_eq!(list(&bound(&[&driver, "run", "one"])), all, "{driver}");
        let mut config = bundle.config();
        config["process"]["args"] = json!(["sleep", "1000"]);
        bundle.write(&config);
        bound(&[&driver, "run", "-d", "two"]);
        let text = bound(&["exec", "two", "sh", "-c", PROCESSORS]);
        assert_eq!(list(&text), all, "{driver}");
        bundle.ok(&["delete", "--force", "two"]);
        config["process"]["args"] = json!(["sh", "-c", PROCESSORS]);
        bundle.write(&config);
    }
}

#[test]
fn what_the_caller_is_bound_to_does_not_widen_the_cpuset() {
    let Some(world) = with_first(&["cpuset"]) else {
        return;
    };
    let Some((first, _)) = processors() else {
        return;
    };
    let bundle = Bundle::new(&world, PROCESSORS, |config| {
        config["linux"]["resources"] = json!({ "cpu": { "cpus": first } });
    });
    assert_eq!(list(&bundle.ok(&["run", "one"])), first);
}

#[test]
fn a_process_that_joins_runs_on_the_processors_that_it_is_given() {
    let Some(world) = World::new() else { return };
    let Some((first, all)) = processors() else {
        return;
    };
    let last = all.rsplit(['-', ',']).next().unwrap().to_owned();
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["process"]["execCPUAffinity"] = json!({ "final": first });
    });
    bundle.ok(&["run", "-d", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    let status = fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"));
    assert_eq!(list(line.unwrap()), all, "the container's own process");
    let script = ["one", "sh", "-c", PROCESSORS];
    let joined = |words: &[&str]| bundle.ok(&[&["exec"], words].concat());
    assert_eq!(list(&joined(&script)), first, "as in config.json");
    let shell = json!(["sh", "-c", PROCESSORS]);
    let own = json!({ "initial": first, "final": last });
    let path = process(&bundle, shell.clone(), "execCPUAffinity", own);
    assert_eq!(
        list(&joined(&["-p", &path, "one"])),
        last,
        "as in process.json"
    );
    // Without a cgroup nothing but the initial ones has a say.
    bundle.ok(&["--cgroup-manager=disabled", "run", "-d", "two"]);
    let initial = json!({ "initial": last });
    let path = process(&bundle, shell.clone(), "execCPUAffinity", initial);
    assert_eq!(list(&joined(&["-p", &path, "two"])), last, "initially");
    let missing = json!({ "final": "60000" });
    let path = process(&bundle, shell, "execCPUAffinity", missing);
    let done = bundle.call(&["exec", "-p", &path, "one"]).done();
    done.expect_refused(&[255]);
    assert!(
        done.err_text()
            .contains(r#"process.execCPUAffinity.final": EINVAL"#),
        "{}",
        done.err_text()
    );
    assert_eq!(bundle.ok(&["ps", "one"]).lines().count(), 2);
}
