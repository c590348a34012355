//! `subcontainer inspect`: what it tells is what the kernel says inside, and nobody is fooled by what was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use serde_json::Value;
use tests::{Launch, Rootfs, World};

fn inspect(world: &World, root: &Rootfs) -> Value {
    let text = world.verb("inspect").rootfs(root).text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn launch(world: &World, root: &Rootfs, words: &[&str]) -> Launch {
    let run = world.launch_run(root).opt("--userns=identity").opts(words);
    let leader = Launch::start(run, root);
    tests::until("PID 1 to be init", || {
        (root.cmdline(1) == "init").then_some(())
    });
    leader
}

fn texts(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().filter_map(Value::as_str).collect()
}

/// The mount that is seen at `target`.
fn mount_at<'r>(report: &'r Value, target: &str) -> &'r Value {
    let mounts = report["mounts"].as_array().expect("mounts");
    let found = mounts.iter().rfind(|mount| mount["target"] == target);
    found.unwrap_or_else(|| panic!("no mount on {target}: {mounts:#?}"))
}

#[test]
fn identity_and_namespaces_are_those_of_pid_1() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--profile=none"]);
    let report = inspect(&world, &root);
    assert_eq!(report["rootfs"], root.path.to_str().expect("path"));
    assert_eq!(report["image"], "img");
    assert_eq!(report["profile"], "none");
    let inside = |name: &str| fs::read_link(root.join(&format!("proc/1/ns/{name}"))).expect("ns");
    for name in ["user", "mnt", "pid", "ipc", "cgroup", "net", "uts"] {
        let link = inside(name);
        let namespace = &report["namespaces"][name];
        assert_eq!(
            format!("{name}:[{}]", namespace["inode"]),
            link.to_str().expect("text")
        );
        let callers = fs::read_link(format!("/proc/self/ns/{name}")).expect("own");
        assert_eq!(namespace["own"], link != callers, "{name}");
    }
    let pid = report["pid"].as_i64().expect("pid");
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/ns/pid")).expect("ns of the pid"),
        inside("pid")
    );
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let start = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.split(' ').nth(19));
    assert_eq!(start, Some(report["start_time"].to_string().as_str()));
    let map = fs::read_to_string("/proc/self/uid_map").expect("uid_map");
    assert_eq!(
        report["uid_map"].as_array().map(Vec::len),
        Some(map.lines().count())
    );
    assert_eq!(report["uid"], 0);
    leader.stop().expect_code(0);
}

#[test]
fn privileges_are_the_kernels_word() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--profile=none", "--cap-drop=NET_ADMIN"]);
    let report = inspect(&world, &root);
    let bounding = texts(&report["capabilities"]["bounding"]);
    assert!(bounding.contains("CAP_SYS_ADMIN") && !bounding.contains("CAP_NET_ADMIN"));
    for set in ["inheritable", "ambient"] {
        assert_eq!(report["capabilities"][set], Value::Array(Vec::new()));
    }
    assert_eq!(report["no_new_privileges"], false);
    assert_eq!(report["root_read_only"], false);
    assert_eq!(report["seccomp"]["commands"], Value::Null);
    let limit = world.exec(&root).sh("ulimit -Sn").text();
    assert_eq!(report["limits"]["nofile"]["soft"].to_string(), limit);
    leader.stop().expect_code(0);

    let leader = launch(&world, &root, &["--profile=hardened"]);
    let report = inspect(&world, &root);
    assert_eq!(report["profile"], "hardened");
    assert_eq!(report["capabilities"]["bounding"], Value::Array(Vec::new()));
    assert_eq!(report["no_new_privileges"], true);
    assert_eq!(report["root_read_only"], true);
    assert_eq!(report["seccomp"]["commands"], "default");
    leader.stop().expect_code(0);

    // A command that is PID 1 has the filter itself.
    let run = world.launch_run(&root).opt("--profile=confined");
    let leader = Launch::start(run.cmd(["sleep", "100000"]), &root);
    tests::until("PID 1 to be the command", || {
        (root.cmdline(1) == "sleep 100000").then_some(())
    });
    let report = inspect(&world, &root);
    assert_eq!(report["seccomp"]["mode"], "filter");
    assert_eq!(report["seccomp"]["filters"], 1);
    leader.kill();
}

/// Whatever `sources` does not name is the kernel's word, also where the record says something else.
#[test]
fn each_statement_says_whose_it_is() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--profile=confined"]);
    let named = |report: &Value| report["sources"].clone();
    let recorded = serde_json::json!({
        "image": "record", "profile": "record", "seccomp.commands": "record",
    });
    let honest = inspect(&world, &root);
    assert_eq!(named(&honest), recorded);
    let record = fs::read_dir(world.state.join("leaders")).expect("leaders");
    let record = record.flatten().next().expect("record").path();
    let text = fs::read_to_string(&record).expect("text");
    let mut forged: Value = serde_json::from_str(&text).expect("record");
    forged["granted"]["profile"] = "outer".into();
    forged["granted"]["capabilities"] = Value::Null;
    forged["granted"]["no_new_privileges"] = true.into();
    fs::write(&record, forged.to_string()).expect("write");
    let mut report = inspect(&world, &root);
    assert_eq!(report["profile"], "outer");
    report["profile"] = honest["profile"].clone();
    assert_eq!(report, honest, "what the kernel says is not the record's");
    fs::remove_file(&record).expect("remove");
    let report = inspect(&world, &root);
    assert_eq!(report["sources"]["seccomp.commands"], "rule");
    assert_eq!(report["seccomp"]["commands"], "default");
    let status = world.exec(&root).cmd(["cat", "/proc/self/status"]).text();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    leader.stop().expect_code(0);
}

#[test]
fn what_is_hidden_is_hidden_and_what_is_protected_is_protected() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--profile=confined"]);
    let report = inspect(&world, &root);
    let masked = report["masked"].as_array().expect("masked");
    assert!(!masked.is_empty());
    for one in masked {
        let path = one["path"].as_str().expect("path");
        let tried = match one["by"].as_str() {
            Some("null-device") => format!("test -c {path} && test -z \"$(head -c 1 {path})\""),
            Some("empty-directory") => {
                format!("test -d {path} && test -z \"$(ls -A {path})\" && ! touch {path}/x")
            }
            other => panic!("{other:?}"),
        };
        world.exec(&root).sh(&tried).done().expect_code(0);
    }
    // What the host has and a confined container must not see.
    for path in [
        "/proc/kpageflags",
        "/proc/timer_list",
        "/proc/slabinfo",
        "/proc/kcore",
    ] {
        let listed = masked.iter().any(|one| one["path"] == path);
        assert_eq!(listed, Path::new(path).exists(), "{path}");
    }
    let read_only = texts(&report["read_only"]);
    assert!(read_only.contains("/proc/sys"), "{read_only:?}");
    for path in &read_only {
        // By root, whom file modes do not keep out of what belongs to the host's root.
        let script = format!(
            "for f in $(find {path} -type f); do (: >> $f) 2>/dev/null && echo $f; done; true"
        );
        assert_eq!(world.exec(&root).sh(&script).text(), "", "{path}");
    }
    leader.stop().expect_code(0);

    let leader = launch(&world, &root, &["--profile=none"]);
    let report = inspect(&world, &root);
    assert_eq!(report["masked"], Value::Array(Vec::new()));
    assert_eq!(report["read_only"], Value::Array(Vec::new()));
    leader.stop().expect_code(0);
}

#[test]
fn mounts_are_shown_with_their_flags_also_those_made_later() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let target = root.join("a volume");
    fs::create_dir(&target).expect("directory");
    let source = world.base.join("volumes/main");
    mount(
        Some(&source),
        &target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .expect("bind");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
    mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).expect("remount");
    let report = inspect(&world, &root);
    let volume = mount_at(&report, "/a volume");
    let options = texts(&volume["options"]);
    // It arrived by propagation while it was writable; the change on the host was to the host's mount alone.
    assert!(options.contains("rw"), "{options:?}");
    assert!(
        volume["source"]
            .as_str()
            .is_some_and(|text| text.contains("/volumes/main]")),
        "{volume}"
    );
    assert!(texts(&volume["propagation"]).contains("slave"), "{volume}");
    assert_eq!(mount_at(&report, "/proc")["type"], "proc");
    // The host's, which is read-only, is beneath the container's own.
    let options = mount_at(&report, "/proc")["options"].clone();
    assert!(texts(&options).contains("rw"), "{options}");
    leader.stop().expect_code(0);
}

#[test]
fn a_name_that_is_no_utf_8_and_a_proc_replaced_inside_do_not_disturb_it() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--profile=none"]);
    let script = "d=$(printf '/tmp/\\377\\n'); mkdir \"$d\"; mount -t tmpfs none \"$d\"; mount -t tmpfs none /proc";
    world.exec(&root).sh(script).done().expect_code(0);
    let report = inspect(&world, &root);
    assert_eq!(mount_at(&report, "/proc")["type"], "tmpfs");
    assert_eq!(report["rootfs"], root.path.to_str().expect("path"));
    let mounts = report["mounts"].as_array().expect("mounts");
    assert!(mounts.iter().any(|mount| {
        mount["target"]
            .as_str()
            .is_some_and(|target| target.starts_with("/tmp/\u{fffd}"))
    }));
    leader.kill();
}

#[test]
fn a_lost_record_loses_only_what_nobody_else_knows() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let leader = launch(&world, &root, &["--profile=none"]);
    let whole = inspect(&world, &root);
    for entry in fs::read_dir(world.state.join("leaders"))
        .expect("leaders")
        .flatten()
    {
        fs::remove_file(entry.path()).expect("remove");
    }
    let mut report = inspect(&world, &root);
    assert_eq!(report["profile"], Value::Null);
    // Which filter the commands got is not known any more either; what the next one gets is told.
    report["profile"] = whole["profile"].clone();
    report["seccomp"]["commands"] = whole["seccomp"]["commands"].clone();
    report["sources"] = whole["sources"].clone();
    assert_eq!(report, whole);
    leader.stop().expect_code(0);
}

#[test]
fn without_a_container_it_is_refused() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    leader.stop().expect_code(0);
    let done = world.verb("inspect").rootfs(&root).done();
    done.expect_refused(&[125]);
    world
        .verb("inspect")
        .rootfs(world.dir.join("nothing"))
        .done()
        .expect_refused(&[125]);
    // A directory that no create-fs has made has no image, and is a container all the same.
    let plain = world.plain("plain");
    let leader = launch(&world, &plain, &["--profile=outer"]);
    let report = inspect(&world, &plain);
    assert_eq!(
        (&report["image"], &report["profile"]),
        (&Value::Null, &Value::from("outer"))
    );
    leader.stop().expect_code(0);
}
