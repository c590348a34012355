//! What other runtimes do beyond the specification, and engines and images have come to rely on; and what others got wrong.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World, processes_of, until};

use super::cgroups::with_first;

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "pwd; stat -c '%a %u' .", |config| {
        config["process"]["cwd"] = "/srv/new/deep".into();
    });
    assert_eq!(bundle.ok(&["run", "one"]), "/srv/new/deep\n755 0");
    // A link that leads nowhere inside leads nowhere else.
    let outside = world.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let link = bundle.file("way");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let mut config = bundle.config();
    config["process"]["cwd"] = "/way/in".into();
    bundle.write(&config);
    let inside = bundle.ok(&["run", "one"]);
    assert_eq!(inside, format!("{}/in\n755 0", outside.display()));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    for (cwd, told) in [("/etc/passwd/x", "ENOTDIR"), ("/proc/nosuch", "ENOENT")] {
        let mut config = bundle.config();
        config["process"]["cwd"] = cwd.into();
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
}

#[test]
fn a_hook_without_variables_has_the_callers() {
    let Some(world) = World::new() else { return };
    let file = world.dir.join("said");
    let say = format!("echo $MARK $OWN >> {}", file.display());
    let bundle = Bundle::new(&world, "true", |config| {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", say] });
        let mut own = hook.clone();
        own["env"] = json!(["OWN=own"]);
        config["hooks"] = json!({ "createRuntime": [hook, own], "poststop": [hook] });
    });
    let done = bundle.call(&["run", "one"]).env("MARK", "mark").done();
    done.expect_code(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mark\nown\nmark\n");
}

#[test]
fn a_name_that_has_a_field_of_its_own_is_no_sysctl() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /proc/sys/kernel/domainname", |config| {
        config["linux"]["sysctl"] = json!({ "kernel.domainname": "domain" });
    });
    assert_eq!(bundle.ok(&["run", "one"]), "domain");
    let mut config = bundle.config();
    config["domainname"] = "domain".into();
    bundle.write(&config);
    assert_eq!(bundle.ok(&["run", "one"]), "domain");
    let refused = |change: fn(&mut Value), field: &str| {
        let mut config = bundle.config();
        change(&mut config);
        let old = bundle.config();
        bundle.write(&config);
        let done = bundle.call(&["create", "one"]).done();
        bundle.write(&old);
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(field), "{}", done.err_text());
    };
    refused(
        |config| config["domainname"] = "other".into(),
        "linux.sysctl.kernel.domainname",
    );
    refused(
        |config| config["linux"]["sysctl"] = json!({ "kernel.hostname": "name" }),
        "linux.sysctl.kernel.hostname",
    );
}

#[test]
fn what_somebody_has_frozen_elsewhere_is_deleted() {
    let Some(world) = with_first(&["freezer"]) else {
        return;
    };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    let pid = bundle.state("one")["pid"].to_string();
    let place = Path::new("/sys/fs/cgroup/freezer").join(format!("{}-elsewhere", world.name()));
    fs::create_dir(&place).unwrap();
    fs::write(place.join("cgroup.procs"), &pid).unwrap();
    fs::write(place.join("freezer.state"), "FROZEN").unwrap();
    let done = bundle.call(&["delete", "--force", "one"]).done();
    fs::write(place.join("freezer.state"), "THAWED").unwrap();
    until("an empty cgroup", || fs::remove_dir(&place).ok());
    done.expect_code(0);
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn usual_devices_are_no_place_to_execute_anything() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "grep ' /dev/null ' /proc/mounts", |_| {});
    let line = bundle.ok(&["run", "one"]);
    let options = line.split(' ').nth(3).unwrap();
    for option in ["ro", "nosuid", "noexec"] {
        assert!(options.split(',').any(|one| one == option), "{line}");
    }
}

#[test]
fn a_bind_of_sys_that_is_read_only_is_so_below() {
    let Some(world) = World::new() else { return };
    let script = "for d in /sys /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x 2>&1 && rmdir $d/x && echo made; done | grep -vc 'Read-only'; \
                  grep -c ' /sys/fs/cgroup.* rw' /proc/mounts; exit 0";
    let bundle = Bundle::new(&world, script, |config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "sysfs" {
                let options = ["rbind", "ro", "nosuid"];
                *mount = json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": options });
            }
        }
    });
    assert_eq!(bundle.ok(&["run", "one"]), "0\n0");
}

#[test]
fn processes_that_have_outlived_the_first_one_are_ended() {
    let Some(world) = with_first(&["freezer"]) else {
        return;
    };
    let script = "sleep 1000 & echo > /tmp/ready";
    let bundle = Bundle::new(&world, script, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "pid");
        config["root"]["readonly"] = false.into();
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    for ending in [&["kill", "one", "KILL"][..], &["delete", "--force", "one"]] {
        bundle.ok(&["run", "-d", "one"]);
        bundle.await_status("one", "stopped");
        assert_eq!(processes_of(&world.dir).len(), 1);
        bundle.ok(ending);
        until("the other to end", || {
            processes_of(&world.dir).is_empty().then_some(())
        });
        bundle.ok(&["delete", "--force", "one"]);
        fs::remove_file(bundle.file("tmp/ready")).unwrap();
        before.assert_same(&world);
    }
}

#[test]
fn a_long_path_of_the_state_is_no_hindrance_and_nobody_listens() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let deep = world.dir.join("d".repeat(120)).join("e".repeat(120));
    let root = format!("--root={}", deep.display());
    let names = || fs::read_to_string("/proc/net/unix").unwrap();
    let call = |words: &[&str]| bundle.call(&[&[root.as_str()], words].concat()).text();
    call(&["run", "-d", "one"]);
    // A socket in the filesystem would show the path, and an abstract one our name.
    let of_ours = |text: &str| text.contains(world.name()) || text.contains("start-container");
    assert!(!names().lines().any(of_ours), "{}", names());
    assert_eq!(call(&["exec", "one", "echo", "there"]), "there");
    assert!(deep.join("one/state.json").exists());
    call(&["delete", "--force", "one"]);
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
    fs::remove_dir_all(world.dir.join("d".repeat(120))).unwrap();
}

#[test]
fn a_variable_of_exec_takes_the_place_of_the_containers() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["process"]["env"] = json!(["PATH=/bin", "A=container", "AB=both"]);
    });
    bundle.ok(&["run", "-d", "one"]);
    let words = ["exec", "--env", "A=first", "--env", "A=exec", "one", "env"];
    let text = bundle.ok(&words);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with('A')).collect();
    assert_eq!(lines, ["AB=both", "A=exec"]);
}

#[test]
fn signal_0_asks_whether_it_runs() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    bundle.ok(&["kill", "one", "0"]);
    assert_eq!(bundle.state("one")["status"], "running");
    bundle.ok(&["kill", "one", "KILL"]);
    bundle.await_status("one", "stopped");
    let done = bundle.call(&["kill", "one", "0"]).done();
    done.expect_refused(&[1]);
    assert!(
        done.err_text().contains("container not running"),
        "{}",
        done.err_text()
    );
}

#[test]
fn help_stands_before_the_verb_too() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    assert!(bundle.ok(&["--help"]).contains("OCI"));
}
