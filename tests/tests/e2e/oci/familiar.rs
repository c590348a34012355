//! What those who are used to runc count on, beyond the specification: its example, its order of words, its exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tests::{Bundle, Run, Wire, World, binary, lacking};

/// The kinds of namespaces, and the targets of the mounts, of an example.
fn example(world: &World, name: &str, words: &[&str]) -> (Value, Vec<Value>, Vec<Value>) {
    let dir = world.dir.join(name);
    fs::create_dir(&dir).unwrap();
    let run = Run::new(binary()).verb(["spec", "-b", dir.to_str().unwrap()]);
    let _ = run.verb(words).text();
    let config: Value =
        serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    let all = |list: &Value, field: &str| {
        let list = list.as_array().unwrap().iter();
        list.map(|one| one[field].clone()).collect()
    };
    let namespaces = all(&config["linux"]["namespaces"], "type");
    let mounts = all(&config["mounts"], "destination");
    (config, namespaces, mounts)
}

#[test]
fn an_example_has_what_runcs_has() {
    let Some(world) = World::new() else { return };
    let (config, namespaces, mounts) = example(&world, "root", &[]);
    let usual = ["pid", "network", "ipc", "uts", "mount"];
    assert_eq!(namespaces[..5], usual.map(Value::from));
    // The root of version 2 has this file, and a directory of several hierarchies has not.
    let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert_eq!(namespaces.contains(&"cgroup".into()), unified);
    let cgroups = fs::read_dir("/sys/fs/cgroup").unwrap().next().is_some();
    assert_eq!(mounts.contains(&"/sys/fs/cgroup".into()), cgroups);
    let limit = &config["process"]["rlimits"][0];
    assert_eq!(
        (&limit["type"], &limit["hard"]),
        (&"RLIMIT_NOFILE".into(), &1024.into())
    );
    let devices = &config["linux"]["resources"]["devices"];
    assert_eq!(devices.is_array(), cgroups, "{devices}");
    let (config, _, _) = example(&world, "user", &["--rootless"]);
    assert!(config["linux"]["resources"].is_null());
}

#[test]
fn variables_are_there_once_and_home_is_never_empty() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        config["process"]["args"] = json!(["env"]);
        config["process"]["env"] = json!(["ONE=first", "HOME=", "PATH=/bin", "ONE=a=b", "HOME="]);
    });
    let mut lines: Vec<_> = bundle
        .ok(&["run", "one"])
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["HOME=/root", "ONE=a=b", "PATH=/bin"]);
}

#[test]
fn a_process_may_come_through_a_pipe_and_is_the_containers_user_then() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["process"]["user"] = json!({ "uid": 7, "gid": 8 });
    });
    bundle.ok(&["run", "-d", "one"]);
    let process = json!({ "args": ["sh", "-c", "id -u; id -g; echo $HOME"], "cwd": "/" });
    let call = bundle.call(&["exec", "-p", "/dev/stdin", "one"]);
    let text = call.stdin(Wire::Pipe).input(process.to_string()).text();
    assert_eq!(text, "7\n8\n/");
}

#[test]
fn an_exec_that_fails_of_itself_ends_with_255() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    bundle
        .call(&["exec", "one", "sh", "-c", "exit 42"])
        .done()
        .expect_code(42);
    for words in [
        &["exec", "--pid-file", "/nosuch/file", "one", "true"][..],
        &["exec", "one", "nosuch"],
        &["exec", "other", "true"],
    ] {
        bundle.call(words).done().expect_refused(&[255]);
    }
}

#[test]
fn an_event_begins_with_its_kind() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let line = bundle.ok(&["events", "--stats", "one"]);
    let begin = r#"{"type":"stats","id":"one","data":{"#;
    assert!(line.starts_with(begin), "{line}");
}

#[test]
fn lines_of_a_terminal_end_as_they_were_written_where_the_caller_has_none() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "echo one; echo two", |config| {
        config["process"]["terminal"] = true.into();
    });
    let done = bundle.call(&["run", "one"]).done();
    assert_eq!(done.out_text(), "one\ntwo");
}

#[test]
fn a_limit_of_open_files_counts_for_the_program_alone() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "ulimit -n", |config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 4, "hard": 4 }]);
    });
    assert_eq!(bundle.ok(&["run", "one"]), "4");
    let mut config = bundle.config();
    config["process"]["args"] = json!(["/bin/broken"]);
    bundle.write(&config);
    tests::write_file(bundle.file("bin/broken"), "no program\n");
    fs::set_permissions(bundle.file("bin/broken"), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.ok(&["create", "two"]);
    let done = bundle.call(&["start", "two"]).done();
    assert!(done.err_text().contains("ENOEXEC"), "{}", done.err_text());
}

#[test]
fn a_user_may_execute_what_its_capabilities_open() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        let set = json!(["CAP_DAC_OVERRIDE"]);
        config["process"]["args"] = json!(["/closed/sh", "-c", "id -u"]);
        config["process"]["user"] = json!({ "uid": 7, "gid": 7 });
        config["process"]["capabilities"] = json!({ "bounding": set, "effective": set,
            "permitted": set, "inheritable": set, "ambient": set });
    });
    let program = bundle.file("closed/sh");
    fs::create_dir(bundle.file("closed")).unwrap();
    fs::copy(bundle.file("bin/sh"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bundle.ok(&["run", "one"]), "7");
    let mut config = bundle.config();
    config["process"]["capabilities"] = json!({});
    bundle.write(&config);
    bundle.call(&["run", "one"]).done().expect_refused(&[126]);
}

#[test]
fn the_hosts_proc_may_be_bound_where_its_processes_are_the_containers() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(
        &world,
        "cat /proc/1/comm; grep -c ' /proc/sys proc ro' /proc/mounts",
        |config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|one| one["destination"] != "/proc");
            mounts.insert(
                0,
                json!({ "destination": "/proc", "type": "none", "source": "/proc",
            "options": ["rbind", "nosuid", "nodev", "noexec"] }),
            );
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|one| one["type"] != "pid");
        },
    );
    let first = fs::read_to_string("/proc/1/comm").unwrap();
    assert_eq!(bundle.ok(&["run", "one"]), format!("{first}1"));
    let mut config = bundle.config();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "pid" }));
    bundle.refuses(&config, "mounts[0].destination");
}

#[test]
fn what_is_mounted_below_a_readonly_dev_is_made_first() {
    let Some(world) = World::new() else { return };
    let script =
        "touch /dev/x 2>&1; touch /dev/shm/x && echo written; ls -d /dev/pts/ptmx /dev/null";
    let bundle = Bundle::new(&world, script, |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let dev = mounts
            .iter_mut()
            .find(|one| one["destination"] == "/dev")
            .unwrap();
        dev["options"].as_array_mut().unwrap().push("ro".into());
    });
    let text = bundle.ok(&["run", "one"]);
    let expected = "touch: /dev/x: Read-only file system\nwritten\n/dev/null\n/dev/pts/ptmx";
    assert_eq!(text, expected);
}

#[test]
fn ps_prints_the_rows_of_ps() {
    let Some(world) = World::new() else { return };
    if !fs::exists("/usr/bin/ps").unwrap() {
        return lacking("no ps");
    }
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    let rows = |options: &[&str]| -> Vec<Vec<String>> {
        let text = bundle.ok(&[&["ps", "one"], options].concat());
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        text.lines().map(words).collect()
    };
    let all = rows(&[]);
    assert_eq!(
        all[0],
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert_eq!(all[1][1], pid);
    assert_eq!(all.len(), 2);
    assert_eq!(
        rows(&["-A", "-o", "comm,pid"]),
        [vec!["COMMAND", "PID"], vec!["sleep", pid.as_str()]]
    );
    bundle
        .call(&["ps", "one", "--nosuch"])
        .done()
        .expect_refused(&[1]);
    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    assert_eq!(rows(&[]).len(), 1);
}
