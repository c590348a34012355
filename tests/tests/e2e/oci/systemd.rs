//! `--systemd-cgroup`: containers as scopes of systemd. Without systemd only the refusal can be shown.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    Bundle, Run, Seeded, Snapshot, World, binary, lacking, processes_of, spin, tool, until,
};

use super::cgroups_second::{hold, with_controllers};
use super::rootless::give;

const LIMITS: [&str; 5] = ["memory", "cpu", "cpuset", "pids", "io"];

/// A world where systemd makes cgroups.
pub(super) fn with_systemd() -> Option<World> {
    if !Path::new("/run/systemd/system").is_dir() {
        lacking("needs systemd as the machine's first process");
        return None;
    }
    with_controllers(&LIMITS)
}

fn unit(world: &World) -> String {
    format!("{}-one.scope", world.name())
}

fn place(world: &World) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(unit(world))
}

/// A bundle whose container is a scope.
fn bundle<'w>(world: &'w World, script: &str, change: impl FnOnce(&mut Value)) -> Bundle<'w> {
    let bundle = Bundle::new(world, script, |config| {
        config["linux"]["cgroupsPath"] = format!("system.slice:{}:one", world.name()).into();
        change(config);
    });
    fs::create_dir_all(bundle.root()).unwrap();
    bundle
}

pub(super) fn call(bundle: &Bundle<'_>, words: &[&str]) -> Run {
    bundle.call(&[&["--systemd-cgroup"], words].concat())
}

pub(super) fn systemctl(words: &[&str]) -> String {
    Run::new(tool("systemctl")).cmd(words).text()
}

/// What systemd says of a property of the unit.
fn shown(world: &World, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, &unit(world)])
}

fn assert_nothing_left(world: &World) {
    assert_eq!(shown(world, "LoadState"), "not-found");
    assert!(!place(world).exists());
    assert!(processes_of(&world.dir).is_empty());
}

#[test]
fn a_container_is_a_scope_whose_limits_systemd_knows() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "exec sleep 1000", |config| {
        config["root"]["readonly"] = false.into();
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20 },
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 33 },
            "devices": [{ "allow": false, "access": "rwm" }],
            "unified": { "cgroup.max.depth": "3" },
        });
        config["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "uint64 7" });
    });
    let before = Snapshot::of(&world);
    let _ = call(&bundle, &["create", "one"]).text();
    let place = place(&world);
    let limits = [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "33554432"),
        ("cgroup.max.depth", "3"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "33"),
        ("cgroup.procs", &bundle.state("one")["pid"].to_string()),
    ];
    hold(&place, &limits);
    // What it does not know it would undo now.
    let _ = systemctl(&["daemon-reload"]);
    hold(&place, &limits);
    for (property, value) in [
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "33554432"),
        ("TasksMax", "33"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("TimeoutStopUSec", "7s"),
    ] {
        assert_eq!(shown(&world, property), value, "{property}");
    }
    bundle.ok(&["start", "one"]);
    bundle.ok(&[
        "update",
        "--memory=128m",
        "--memory-swap=128m",
        "--pids-limit=44",
        "one",
    ]);
    let _ = systemctl(&["daemon-reload"]);
    hold(
        &place,
        &[
            ("memory.max", "134217728"),
            ("memory.swap.max", "0"),
            ("pids.max", "44"),
            ("cpu.max", "50000 100000"),
        ],
    );
    // The device filter is ours, and stands where systemd has none.
    let script = "mknod /tmp/loop c 10 237; (: < /tmp/loop) 2> /dev/null && echo loop; : < /dev/zero && echo zero";
    let exec = ["exec", "--cap", "CAP_MKNOD", "one", "sh", "-c", script];
    assert_eq!(bundle.ok(&exec), "zero");
    let inside = bundle.ok(&["exec", "one", "cat", "/proc/self/cgroup"]);
    assert_eq!(inside, "0::/");
    bundle.ok(&["pause", "one"]);
    assert_eq!(bundle.state("one")["status"], "paused");
    bundle.ok(&["delete", "--force", "one"]);
    assert_nothing_left(&world);
    before.assert_same(&world);
    // The name is free again.
    let _ = call(&bundle, &["run", "-d", "one"]).text();
    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    bundle.ok(&["delete", "one"]);
    assert_nothing_left(&world);
    before.assert_same(&world);
}

/// systemd has no word for huge pages.
#[test]
fn a_controller_that_systemd_does_not_know_is_handed_down() {
    let Some(world) = with_systemd() else { return };
    if with_controllers(&["hugetlb"]).is_none() {
        return;
    }
    let bundle = bundle(&world, "exec sleep 1000", |config| {
        config["linux"]["resources"] =
            json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }] });
    });
    let _ = call(&bundle, &["run", "-d", "one"]).text();
    let limits = [
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
    ];
    hold(&place(&world), &limits);
    let _ = systemctl(&["daemon-reload"]);
    hold(&place(&world), &limits);
    bundle.ok(&["delete", "--force", "one"]);
    assert_nothing_left(&world);
}

#[test]
fn a_scope_that_has_failed_is_there_until_delete() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "exec sleep 1000", |config| {
        config["annotations"] = json!({
            "org.systemd.property.RuntimeMaxSec": "1", "org.systemd.property.TimeoutStopSec": "1",
        });
    });
    let _ = call(&bundle, &["run", "-d", "one"]).text();
    until("its end", || {
        (bundle.state("one")["status"] == "stopped").then_some(())
    });
    until("what systemd says", || {
        (shown(&world, "ActiveState") == "failed").then_some(())
    });
    bundle.ok(&["delete", "one"]);
    assert_nothing_left(&world);
}

#[test]
fn a_unit_of_others_is_left_alone() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "exec sleep 1000", |_| {});
    let _ = call(&bundle, &["run", "-d", "one"]).text();
    until("the shell to become its command", || {
        let all = processes_of(&world.dir);
        let sleeps = |one: &tests::Process| one.cmdline.starts_with("sleep");
        all.iter().any(sleeps).then_some(())
    });
    let before = Snapshot::of(&world);
    let done = call(&bundle, &["create", "two"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("linux.cgroupsPath"),
        "{}",
        done.err_text()
    );
    before.assert_same(&world);
    assert_eq!(bundle.state("one")["status"], "running");
    assert_eq!(shown(&world, "ActiveState"), "active");
    bundle.ok(&["delete", "--force", "one"]);
    assert_nothing_left(&world);
}

#[test]
fn a_killed_create_leaves_no_unit_behind_delete() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "exec sleep 1000", |_| {});
    let before = Snapshot::of(&world);
    let mut moments = Seeded::new(4481);
    let whole = std::time::Instant::now();
    let _ = call(&bundle, &["create", "one"]).text();
    let whole = whole.elapsed();
    bundle.ok(&["delete", "--force", "one"]);
    for _ in 0..8 {
        let part = u32::try_from(moments.below(100)).unwrap();
        let client = call(&bundle, &["create", "one"]).spawn();
        spin(whole * part / 100);
        client.signal(Signal::SIGKILL);
        let _ = client.finish();
        bundle.ok(&["delete", "--force", "one"]);
        until("the end of the unit", || {
            (shown(&world, "LoadState") == "not-found").then_some(())
        });
        assert_nothing_left(&world);
        before.assert_same(&world);
    }
}

#[test]
fn a_bus_that_does_not_answer_is_an_error_and_nothing_is_left() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "exec sleep 1000", |_| {});
    // As of a bus that has been stopped: the kernel takes connections and words, and nobody reads them.
    let socket = world.dir.join("bus");
    let _silent = UnixListener::bind(&socket).unwrap();
    let address = format!("unix:path={}", socket.display());
    let before = Snapshot::of(&world);
    let silent = call(&bundle, &["create", "one"]).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let done = silent.done();
    done.expect_refused(&[1]);
    let told = "no answer within ten seconds";
    assert!(done.err_text().contains(told), "{}", done.err_text());
    before.assert_same(&world);
    assert_nothing_left(&world);
}

/// A socket where the first caller speaks to the machine's bus, and the others to nobody.
fn answers_once(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        let (caller, _) = listener.accept().unwrap();
        let bus = UnixStream::connect("/run/dbus/system_bus_socket").unwrap();
        let pairs = [
            (caller.try_clone().unwrap(), bus.try_clone().unwrap()),
            (bus, caller),
        ];
        for (mut from, mut to) in pairs {
            thread::spawn(move || io::copy(&mut from, &mut to));
        }
        // It is kept, so that connections are taken, for as long as the tests run.
        loop {
            thread::park();
            let _ = &listener;
        }
    });
}

#[test]
fn a_bus_that_stops_while_the_process_waits_is_an_error_and_nothing_is_left() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "exec sleep 1000", |_| {});
    let socket = world.dir.join("bus");
    answers_once(&socket);
    let address = format!("unix:path={}", socket.display());
    let before = Snapshot::of(&world);
    let stopped = call(&bundle, &["create", "one"]).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let done = stopped.done();
    done.expect_refused(&[1]);
    let told = "no answer within ten seconds";
    assert!(done.err_text().contains(told), "{}", done.err_text());
    before.assert_same(&world);
    assert_nothing_left(&world);
}

#[test]
fn what_is_no_unit_and_no_property_is_refused_by_name() {
    let Some(world) = with_systemd() else { return };
    let bundle = bundle(&world, "", |_| {});
    let good = bundle.config();
    let before = Snapshot::of(&world);
    for path in [
        "/absolute/path",
        "x:y",
        "../x.slice:a:b",
        "system.slice:a:../b",
        "system.slice::",
    ] {
        let mut config = good.clone();
        config["linux"]["cgroupsPath"] = path.into();
        bundle.write(&config);
        let done = call(&bundle, &["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(
            done.err_text().contains("linux.cgroupsPath"),
            "{path}: {}",
            done.err_text()
        );
    }
    for (name, value) in [
        ("ExecStop", "'/bin/true'"),
        ("DevicePolicy", "'auto'"),
        ("KillMode", "'a' 'b'"),
        ("NoSuchThing", "true"),
    ] {
        let mut config = good.clone();
        config["annotations"] = json!({ format!("org.systemd.property.{name}"): value });
        bundle.write(&config);
        let done = call(&bundle, &["create", "one"]).done();
        done.expect_refused(&[1]);
        before.assert_same(&world);
        assert_nothing_left(&world);
    }
}

#[test]
fn without_systemd_there_is_one_error_and_no_change() {
    let Some(world) = World::new() else { return };
    let bundle = bundle(&world, "", |_| {});
    let before = Snapshot::of(&world);
    let unshare = tool("unshare");
    let hide = "[ ! -d /run/systemd ] || mount -t tmpfs none /run/systemd; exec \"$@\"";
    let hidden = [
        unshare.to_str().unwrap(),
        "--mount",
        "/bin/sh",
        "-c",
        hide,
        "sh",
    ];
    for words in [
        &["--systemd-cgroup", "create", "one"][..],
        &["--cgroup-manager=systemd", "run", "one"],
    ] {
        let run = bundle
            .call(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let done = run.wrap_around(hidden).done();
        done.expect_refused(&[1]);
        let told = "/run/systemd/system";
        assert!(done.err_text().contains(told), "{}", done.err_text());
        before.assert_same(&world);
    }
}

/// An ordinary user who has a systemd of their own, which goes on without a login: the number.
pub(super) fn user_with_systemd() -> Option<u32> {
    let table = fs::read_to_string("/etc/passwd").unwrap();
    let ids = table.lines().filter_map(|line| line.split(':').nth(2));
    let mut ids = ids.filter_map(|id| id.parse::<u32>().ok());
    ids.find(|id| (1000..60_000).contains(id) && bus_of(*id).exists())
}

fn bus_of(user: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{user}/bus"))
}

#[test]
fn a_users_container_is_a_scope_of_the_users_own_systemd() {
    let Some(world) = with_systemd() else { return };
    let Some(user) = user_with_systemd() else {
        return lacking("needs a user whose systemd runs (loginctl enable-linger)");
    };
    let bundle = Bundle::new(&world, "", |_| {});
    let setpriv = tool("setpriv");
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let owner = [
        setpriv.to_str().unwrap(),
        &ids[0],
        &ids[1],
        "--clear-groups",
    ];
    let runtime = format!("/run/user/{user}");
    let run = |program: &Path, words: &[&str]| {
        let run = Run::new(program).cmd(words).wrap(owner);
        run.env("XDG_RUNTIME_DIR", &runtime).cwd(&bundle.dir)
    };
    give(&bundle.dir, user);
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    let _ = run(binary(), &["spec", "--rootless"]).text();
    let mut config = bundle.config();
    config["process"]["args"] = json!(["sleep", "1000"]);
    config["process"]["terminal"] = false.into();
    config["linux"]["cgroupsPath"] = format!("user.slice:{}:one", world.name()).into();
    config["linux"]["resources"] =
        json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 33 } });
    bundle.write(&config);
    let unit = unit(&world);
    let shown = |property: &str| {
        let words = ["--user", "show", "--value", "--property", property, &unit];
        run(&tool("systemctl"), &words).text()
    };
    let _ = run(binary(), &["--systemd-cgroup", "run", "-d", "one"]).text();
    let place = shown("ControlGroup");
    assert!(
        place.contains(&format!("user@{user}.service/user.slice/")),
        "{place}"
    );
    let place = Path::new("/sys/fs/cgroup").join(place.trim_start_matches('/'));
    hold(&place, &[("memory.max", "67108864"), ("pids.max", "33")]);
    assert_eq!(shown("TasksMax"), "33");
    let _ = run(binary(), &["delete", "--force", "one"]).text();
    assert_eq!(shown("LoadState"), "not-found");
    assert!(!place.exists());
}
