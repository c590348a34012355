//! exec and ps: processes that join a container.

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, World, until};

/// Writes a process.json that runs a script, and gives its path.
fn process(bundle: &Bundle<'_>, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut process = json!({
        "user": { "uid": 0, "gid": 0 },
        "args": ["sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
    });
    change(&mut process);
    let path = bundle.dir.join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_process_joins_and_is_confined_as_the_container_is() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }],
        });
    });
    bundle.ok(&["run", "-d", "one"]);
    let script = "hostname; for n in cgroup ipc mnt net pid uts; do \
                  [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] && echo $n; done; \
                  grep -E 'Cap(Eff|Bnd)|Seccomp:' /proc/self/status; mkdir /dev/shm/x 2>&1; ls /proc/self/fd; exit 9";
    let path = process(&bundle, script, |_| {});
    let done = bundle.call(&["exec", "--process", &path, "one"]).done();
    done.expect_code(9);
    let own = "CapEff:\t0000000020000420\nCapBnd:\t0000000020000420\nSeccomp:\t2";
    let text = done.out_text();
    assert!(
        text.starts_with(&format!(
            "container\ncgroup\nipc\nmnt\nnet\npid\nuts\n{own}\n"
        )),
        "{text}"
    );
    assert!(text.contains("not supported"), "{text}");
    assert!(text.ends_with("\n0\n1\n2\n3"), "{text}");
}

#[test]
fn a_detached_process_stays_and_ps_shows_it() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "--pid-file", "one.pid", "one"]);
    let path = process(&bundle, "echo > /dev/shm/mark; exec sleep 999", |_| {});
    bundle.ok(&["exec", "-d", "--pid-file", "two.pid", "-p", &path, "one"]);
    let pid = |name: &str| {
        fs::read_to_string(bundle.dir.join(name))
            .unwrap()
            .parse::<i32>()
            .unwrap()
    };
    let mut both = [pid("one.pid"), pid("two.pid")];
    both.sort_unstable();
    assert_eq!(
        bundle.ok(&["ps", "--format", "json", "one"]),
        json!(both).to_string()
    );
    let command = format!("/proc/{}/cmdline", pid("two.pid"));
    until("the process", || {
        fs::read(&command)
            .ok()
            .filter(|text| text == b"sleep\x00999\0")
    });
    bundle.ok(&["kill", "one", "9"]);
    until("the end of both", || {
        (!std::path::Path::new(&command).exists()).then_some(())
    });
}

#[test]
fn what_cannot_be_executed_is_told_and_leaves_no_process() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    for (program, word) in [("nosuch", "ENOENT"), ("/etc/passwd", "EACCES")] {
        let path = process(&bundle, "", |process| process["args"] = json!([program]));
        for detach in [
            &["exec", "-p", &path, "one"][..],
            &["exec", "-d", "-p", &path, "one"],
        ] {
            let done = bundle.call(detach).done();
            done.expect_refused(&[255]);
            assert!(done.err_text().contains(word), "{}", done.err_text());
        }
    }
    let path = process(&bundle, "", |process| process["terminal"] = true.into());
    let done = bundle.call(&["exec", "-d", "-p", &path, "one"]).done();
    done.expect_refused(&[255]);
    assert!(done.err_text().contains("process.terminal"));
    assert_eq!(bundle.ok(&["ps", "one"]).lines().count(), 2);
    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    let path = process(&bundle, "", |_| {});
    let done = bundle.call(&["exec", "-p", &path, "one"]).done();
    done.expect_refused(&[255]);
    assert!(done.err_text().contains("container not running"));
}
