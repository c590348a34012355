//! Engines with start-container as their runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use tests::{Bundle, Run, World, binary, lacking, tool};

#[test]
fn features_and_version_are_what_engines_read() {
    let Some(world) = World::new() else { return };
    let features: Value = serde_json::from_str(&world.bare(["features"]).text()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(
        features["annotations"].is_null(),
        "nothing is said of checkpoint"
    );
    let version = world.bare(["--root=/x", "--version"]).text();
    let lines: Vec<_> = version.lines().collect();
    assert!(
        lines[0].starts_with("start-container version "),
        "{version}"
    );
    assert!(
        lines[1].starts_with("commit: ") && lines[2] == "spec: 1.2.1",
        "{version}"
    );
}

#[test]
fn podman_runs_execs_and_removes() {
    let Some(world) = World::new() else { return };
    if !Path::new("/usr/bin/podman").exists() {
        return lacking("needs podman");
    }
    let bundle = Bundle::new(&world, "", |_| {});
    // podman takes only a runtime of this name for one that can do without cgroups.
    let runtime = world.dir.join("crun");
    symlink(binary(), &runtime).unwrap();
    let podman = |words: &[&str]| {
        let place = |name: &str| world.dir.join(name).to_str().unwrap().to_owned();
        Run::new(tool("podman"))
            .verb([
                "--storage-driver=vfs",
                "--cgroup-manager=cgroupfs",
                "--root",
                &place("storage"),
            ])
            .verb([
                "--runroot",
                &place("runroot"),
                "--runtime",
                runtime.to_str().unwrap(),
            ])
            .verb(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    };
    let rootfs = bundle.dir.join("rootfs");
    let how = |name: &'static str| {
        let limits = ["--ulimit=nofile=512:512", "--ulimit=nproc=1000:1000"];
        let rest = [
            "--cgroups=disabled",
            "--network=none",
            "--rootfs",
            rootfs.to_str().unwrap(),
        ];
        [&[name][..], &limits, &rest]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = |options: &[&str], command: &[&str]| {
        let how = how("--name=one");
        let how: Vec<&str> = how.iter().map(String::as_str).collect();
        podman(&[&["run"], options, &how, command].concat())
    };
    let done = run(&["--rm"], &["sh", "-c", "echo inside; exit 3"]).done();
    done.expect_code(3);
    assert_eq!(done.out_text(), "inside");
    run(&["--rm"], &["nosuch"]).done().expect_code(127);
    let id = run(&["-d"], &["sleep", "1000"]).text();
    podman(&["exec", "one", "sh", "-c", "exit 9"])
        .done()
        .expect_code(9);
    assert_eq!(podman(&["exec", "one", "id", "-u"]).text(), "0");
    let _ = podman(&["rm", "-f", "-t", "0", "one"]).text();
    assert!(!Path::new("/run/start-container/oci").join(id).exists());
    assert_eq!(podman(&["ps", "-aq"]).text(), "");
    let _ = fs::remove_file(runtime);
}
