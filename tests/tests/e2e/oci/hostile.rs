//! Images and configurations that want more than they are given: /proc that is something else, mounts that fail half way, and
//! names that are paths.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tests::{Bundle, Run, Snapshot, World, tool};

fn add_mount(config: &mut Value, entry: Value) {
    config["mounts"].as_array_mut().unwrap().push(entry);
}

#[test]
fn proc_of_an_image_is_a_real_directory() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "true", |config| {
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    });
    let sentinel = world.dir.join("sentinel");
    fs::create_dir_all(sentinel.join("sys/net/ipv4")).unwrap();
    fs::write(sentinel.join("sys/net/ipv4/ip_forward"), "kept").unwrap();
    fs::create_dir_all(bundle.root()).unwrap();
    let proc = bundle.file("proc");
    let _ = fs::remove_dir(&proc);
    let up = format!("../../../../..{}", sentinel.display());
    for target in [sentinel.to_str().unwrap(), &up, "/tmp", "nosuch", "/proc"] {
        symlink(target, &proc).unwrap();
        let before = Snapshot::of(&world);
        let done = bundle.call(&["create", "one"]).done();
        done.expect_refused(&[1]);
        let text = done.err_text();
        assert!(text.contains("/proc\""), "{target}: {text}");
        before.assert_same(&world);
        fs::remove_file(&proc).unwrap();
    }
    let kept = fs::read_to_string(sentinel.join("sys/net/ipv4/ip_forward"));
    assert_eq!(kept.unwrap(), "kept");
}

#[test]
fn nothing_lies_between_the_runtime_and_the_kernels_files() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "true", |_| {});
    let source = world.dir.join("source");
    fs::create_dir(&source).unwrap();
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    for place in [
        "/proc",
        "/proc/self/attr",
        "/proc/sys",
        "//proc/./sys/kernel",
        "/./proc/",
    ] {
        for entry in [
            json!({ "destination": place, "type": "tmpfs", "source": "tmpfs" }),
            json!({ "destination": place, "source": source, "options": ["bind"] }),
            json!({ "destination": place, "source": "/proc", "options": ["rbind"] }),
        ] {
            let mut config = good.clone();
            add_mount(&mut config, entry);
            bundle.write(&config);
            let done = bundle.call(&["create", "one"]).done();
            done.expect_refused(&[1]);
            assert!(
                done.err_text().contains("destination"),
                "{}",
                done.err_text()
            );
        }
    }
    assert_eq!(fs::read_dir(&source).unwrap().count(), 0);
    before.assert_same(&world);
}

/// By a process of the host, through the host's procfs, which shows the sysctls of the namespaces that it has entered.
#[test]
fn sysctls_are_what_another_procfs_shows() {
    let Some(world) = World::new() else { return };
    let sysctls = [
        ("net.ipv4.ip_forward", "1"),
        ("kernel.shmmni", "4000"),
        ("kernel.msgmax", "9000"),
    ];
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        for (name, value) in sysctls {
            config["linux"]["sysctl"][name] = value.into();
        }
        config["linux"]["maskedPaths"] = json!(["/proc/sys"]);
    });
    let name = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let hosts = sysctls.map(|(of, _)| fs::read_to_string(name(of)).unwrap());
    bundle.ok(&["run", "--detach", "one"]);
    let target = format!("--target={}", bundle.state("one")["pid"]);
    for (of, value) in sysctls {
        let path = name(of);
        let enter = [&target, "--net", "--ipc", "cat", &path];
        let seen = Run::new(tool("nsenter"))
            .verb(enter)
            .env("PATH", "/usr/bin:/bin")
            .text();
        assert_eq!(seen, value, "{of}");
    }
    assert_eq!(
        sysctls.map(|(of, _)| fs::read_to_string(name(of)).unwrap()),
        hosts
    );
}

/// Calls in a mount namespace whose root is shared, and compares its mount table.
const SHARED: [&str; 6] = [
    "unshare",
    "--mount",
    "--propagation=shared",
    "sh",
    "-c",
    "table=$(cat /proc/self/mountinfo); \"$@\"; code=$?; test \"$table\" = \"$(cat /proc/self/mountinfo)\" || exit 99; exit $code",
];

#[test]
fn the_hosts_mount_table_stays_wherever_a_mount_fails() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "true", |_| {});
    let source = world.dir.join("source");
    fs::create_dir_all(source.join("inner")).unwrap();
    let lines = json!([{ "containerID": 0, "hostID": 7000, "size": 1000 }]);
    let mounts = [
        json!({ "destination": "/mnt/root", "source": "/", "options": ["bind", "ro"] }),
        json!({ "destination": "/mnt/mapped", "source": source, "options": ["bind", "idmap"], "uidMappings": lines, "gidMappings": lines }),
        json!({ "destination": "/mnt/mapped/inner", "source": source, "options": ["bind", "shared"] }),
        json!({ "destination": "/mnt/all", "source": "/", "options": ["rbind", "rslave"] }),
        json!({ "destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "shared"] }),
    ];
    let fails = json!({ "destination": "/mnt/nosuch", "type": "tmpfs", "options": ["nosuch=1"] });
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    for at in 0..=mounts.len() {
        let mut config = good.clone();
        for entry in &mounts[..at] {
            add_mount(&mut config, entry.clone());
        }
        bundle.write(&config);
        let words = ["run", "one"];
        bundle
            .call(&words)
            .wrap(SHARED.into_iter().chain(["sh"]))
            .done()
            .expect_code(0);
        let before = Snapshot::of(&world);
        add_mount(&mut config, fails.clone());
        bundle.write(&config);
        let done = bundle
            .call(&words)
            .wrap(SHARED.into_iter().chain(["sh"]))
            .done();
        done.expect_refused(&[1]);
        assert!(
            done.err_text().contains("/mnt/nosuch"),
            "{}",
            done.err_text()
        );
        before.assert_same(&world);
    }
}

#[test]
fn names_are_names_and_no_paths() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "true", |_| {});
    let good = bundle.config();
    fs::create_dir_all(bundle.root()).unwrap();
    let long = "x".repeat(1025);
    let before = Snapshot::of(&world);
    for id in [
        "", ".", "..", "a/b", "../x", "/x", "a\nb", "a b", "ä", "%s", "a\\b", &long,
    ] {
        for verb in ["create", "run", "state", "start", "kill", "delete"] {
            let done = bundle.call(&[verb, "--", id]).done();
            done.expect_refused(&[1]);
        }
    }
    for name in [
        "net/../kernel/panic",
        "net.ipv4.ip_forward\n",
        "net.ipv4.+",
        "net..ipv4",
        "/net/ipv4/ip_forward",
    ] {
        let mut config = good.clone();
        config["linux"]["sysctl"] = json!({ name: "0" });
        bundle.write(&config);
        bundle.call(&["create", "one"]).done().expect_refused(&[1]);
    }
    before.assert_same(&world);
    // Annotations are handed on, and that is all.
    let mut config = good;
    let text = format!("$(touch {0}/made); ../../{0}/made\n", world.dir.display());
    config["annotations"] = json!({
        "../../made": text, "org.systemd.property.ExecStart": text, "run.oci.handler": "/bin/false", "": text,
    });
    bundle.write(&config);
    bundle.ok(&["create", "one"]);
    assert_eq!(bundle.state("one")["annotations"], config["annotations"]);
    bundle.ok(&["delete", "--force", "one"]);
    before.assert_same(&world);
}
