//! `image import` out of a pipe, of all images at once, within limits, and what it tells meanwhile.

use serde_json::Value;
use tests::World;
use tests::pack::{Tar, bzip2, dir, docker, file, gzip, xz, zstd};

fn rootfs() -> Vec<u8> {
    Tar::of([dir("etc"), file("etc/a", vec![b'x'; 300_000])])
}

#[test]
fn every_format_on_stdin() {
    let Some(world) = World::new() else { return };
    let image = docker(&[rootfs()], &["web:1"]).into_tar();
    let sources = [
        ("plain", rootfs()),
        ("gzip", gzip(&rootfs())),
        ("xz", xz(&rootfs())),
        ("bzip2", bzip2(&rootfs())),
        ("docker", image.clone()),
        ("docker-zstd", zstd(&image)),
    ];
    for (name, data) in sources {
        let import = world.bare(["image", "import", "-", "--id", name, "--flat"]);
        let _ = import.verb(world.places()).input(data).text();
        let file = world.base.join("images").join(name).join("etc/a");
        assert_eq!(std::fs::metadata(file).expect(name).len(), 300_000);
    }
    let import = world.bare(["image", "import", "-", "--id=none"]);
    let done = import
        .verb(world.places())
        .input(b"nothing".to_vec())
        .done();
    let error = done.err_text();
    assert!(error.contains("\"stdin\": it is no tar archive"), "{error}");
}

#[test]
fn all_images_are_named_on_stdout() {
    let Some(world) = World::new() else { return };
    let image = docker(&[rootfs()], &["web:1", "docker.io/library/web:2"]).into_tar();
    let import = world.bare(["image", "import", "-", "--all"]);
    let text = import.verb(world.places()).input(gzip(&image)).text();
    assert_eq!(text, "web-1 web:1\nweb-2 docker.io/library/web:2");
}

#[test]
fn limits_of_the_command_line_hold() {
    let Some(world) = World::new() else { return };
    let refused = |option: &str, why: &str| {
        let import = world.bare(["image", "import", "-", "--id=big", option]);
        let done = import.verb(world.places()).input(rootfs()).done();
        let error = done.err_text();
        assert!(error.contains(why), "{error}");
        assert!(!world.base.join("images/big.image").exists());
    };
    refused("--max-size=200k", "more than the 200 KiB that are allowed");
    refused("--max-files=1", "more than the 1 files that are allowed");
}

#[test]
fn progress_is_json_when_asked_for_and_nothing_in_a_pipe() {
    let Some(world) = World::new() else { return };
    let image = docker(&[rootfs()], &["web:1"]).into_tar();
    let import = |options: &[&str]| {
        let run = world.bare(["image", "import", "-"]).verb(world.places());
        let done = run.opts(options).input(gzip(&image)).done();
        done.err_text()
    };
    assert_eq!(import(&["--id=silent"]), "");
    let text = import(&["--id=told", "--progress=json"]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let ends: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "end")
        .map(|line| format!("{} {}", line["work"], line["result"]))
        .collect();
    // The layer is there since the first import.
    assert_eq!(ends, ["\"spool\" \"done\"", "\"unpack\" \"present\""]);
    let text = import(&["--id=flat", "--flat", "--progress=json"]);
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["result"], &last["done"]),
        (&"done".into(), &last["total"])
    );
}
