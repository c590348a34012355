//! Where a container is when its caller wants it otherwise than usual: without pivot_root(2), with the caller's keys; and
//! in mount namespaces of others, where it is not.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use tests::{Bundle, Snapshot, World, lacking, until};

/// What is called in a world where pivot_root(2) fails as in a ramdisk.
const RAMDISK: [&str; 6] = [
    "strace",
    "-f",
    "-qq",
    "-o/dev/null",
    "-einject=pivot_root:error=EINVAL",
    "-etrace=pivot_root",
];

#[test]
fn a_root_that_cannot_be_pivoted_is_covered() {
    let Some(world) = World::new() else { return };
    let script = "ls /; while read -r _ _ _ _ place _; do echo $place; done < /proc/self/mountinfo";
    let bundle = Bundle::new(&world, script, |_| {});
    bundle.ok(&["run", "one"]);
    let usual = bundle.ok(&["run", "one"]);
    assert_eq!(bundle.ok(&["run", "--no-pivot", "one"]), usual);
    if !std::path::Path::new("/usr/bin/strace").exists() {
        return lacking("no strace");
    }
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let done = bundle.call(&["create", "one"]).wrap(RAMDISK).done();
    done.expect_refused(&[1]);
    let text = done.err_text();
    assert!(
        text.contains("EINVAL") && text.contains("--no-pivot"),
        "{text}"
    );
    before.assert_same(&world);
    let words = ["run", "--no-pivot", "one"];
    assert_eq!(bundle.call(&words).wrap(RAMDISK).text(), usual);
    before.assert_same(&world);
}

#[test]
fn no_procfs_of_the_hosts_is_left_below_a_root_that_is_covered() {
    let Some(world) = World::new() else { return };
    let script = "unshare -mrpf mount -t proc none /proc 2>&1; echo $?";
    let bundle = Bundle::new(&world, script, |config| {
        for set in ["bounding", "permitted"] {
            let set = &mut config["process"]["capabilities"][set];
            set.as_array_mut().unwrap().push("CAP_SETFCAP".into());
        }
    });
    // A second procfs lies on the host's there.
    let host = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"];
    let told = bundle.call(&["run", "--no-pivot", "one"]).wrap(host).text();
    assert!(told.contains("denied") && told.ends_with("\n1"), "{told}");
}

#[test]
fn commands_join_a_container_that_covers_the_root() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    bundle.ok(&["run", "--detach", "--no-pivot", "one"]);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), table);
    assert!(!bundle.file("here").exists());
    bundle.ok(&[
        "exec",
        "one",
        "sh",
        "-c",
        "cat /proc/1/comm; ls /../../bin/sh; cd /; ls -d ../proc",
    ]);
    let seen = bundle.ok(&["exec", "one", "ls", "/"]);
    assert_eq!(seen, bundle.ok(&["exec", "one", "ls", "/.."]));
    assert!(
        !seen.lines().any(|name| name == "work" || name == "boot"),
        "{seen}"
    );
    // In a chroot the namespace has another root, where commands that join would come out.
    let script = "mount --rbind / \"$1\" && shift && exec chroot \"$@\"";
    let dir = format!("--bundle={}", bundle.dir.display());
    let place = world.dir.join("chroot");
    fs::create_dir(&place).unwrap();
    let place = place.to_str().unwrap();
    let wrap = [
        "unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        script,
        "sh",
        place,
        place,
    ];
    let mut config = bundle.config();
    config["linux"]["cgroupsPath"] = bundle.cgroup("two").into();
    bundle.write(&config);
    let done = bundle
        .call(&["create", "--no-pivot", &dir, "two"])
        .wrap(wrap)
        .done();
    done.expect_refused(&[1]);
    assert!(done.err_text().contains("chroot"), "{}", done.err_text());
}

/// A user who is not root sees a keyring of root's where it is in its own session (session-keyring(7)). A hook has the one
/// that `create` has made for the container, so it can tell one that is passed on from one that is new.
#[test]
fn the_callers_keys_are_passed_on_where_that_is_asked_for() {
    let Some(world) = World::new() else { return };
    let outer = Bundle::new(&world, "cat /proc/keys > /out/outer", |_| {});
    let out = world.dir.join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut config = outer.config();
    config["linux"]["maskedPaths"] = json!([]);
    config["process"]["user"] = json!({ "uid": 1234, "gid": 1234 });
    let entry = json!({ "destination": "/out", "source": out, "options": ["bind"] });
    config["mounts"].as_array_mut().unwrap().push(entry);
    let inner = world.dir.join("inner");
    fs::create_dir(&inner).unwrap();
    config["root"]["path"] = outer.file("").to_str().unwrap().into();
    let binary = tests::binary();
    let mut script = String::new();
    for (name, option) in [("kept", "--no-new-keyring"), ("own", "")] {
        let bundle = inner.join(name);
        fs::create_dir(&bundle).unwrap();
        let mut of = config.clone();
        of["process"]["args"] = json!([
            "sh",
            "-c",
            format!("cat /proc/keys > /out/{name}; sleep 1000")
        ]);
        of["linux"]["cgroupsPath"] = outer.cgroup(name).into();
        fs::write(bundle.join("config.json"), of.to_string()).unwrap();
        let (binary, root, bundle) = (binary.display(), outer.root(), bundle.display());
        let root = root.display();
        script += &format!(
            "{binary} --root={root} run -d {option} --bundle={bundle} {name} </dev/null && "
        );
    }
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script + "true"] }]);
    config["hooks"] = json!({ "createRuntime": hook });
    outer.write(&config);
    outer.ok(&["run", "one"]);
    let keyrings = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.contains("keyring"));
        lines.map(|line| line[..8].to_owned()).collect()
    };
    let seen = |name: &str| {
        let text = until(name, || {
            fs::read_to_string(out.join(name))
                .ok()
                .filter(|text| !text.is_empty())
        });
        keyrings(&text)
    };
    let (first, kept, own) = (seen("outer"), seen("kept"), seen("own"));
    assert!(!first.is_empty() && first == kept, "{first:?} {kept:?}");
    assert!(
        !own.is_empty() && own.is_disjoint(&first),
        "{first:?} {own:?}"
    );
    // A command has that of whoever calls exec, if the container was made like that.
    let hook = "cat /proc/keys";
    let one = keyrings(&outer.ok(&["exec", "own", "sh", "-c", hook]));
    assert!(!one.is_empty() && one.is_disjoint(&own), "{one:?} {own:?}");
}
