//! Ids that overlap, end beyond the last one or are too many lines, at every option that takes a map: the message names
//! the line, and nothing has been made.

use std::fs;

use tests::{Run, World, tool};

use crate::bad_input::{Case, case, refuse_all};
use crate::mounts::source;

/// A map, and what the message names.
struct Bad {
    lines: Vec<String>,
    says: &'static str,
}

fn bad() -> Vec<Bad> {
    let bad = |lines: &[&str], says| Bad {
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        says,
    };
    let mut all = vec![
        bad(&["0:100:10", "9:200:1"], "9:200:1"),
        bad(&["0:100:10", "20:109:5"], "20:109:5"),
        bad(&["0:0:1", "5:5:3", "7:100:1"], "7:100:1"),
        bad(&["4294967295:0:1"], "4294967295:0:1"),
        bad(&["0:4294967290:10"], "0:4294967290:10"),
        bad(&["0:0:4294967295", "4294967294:1:1"], "4294967294:1:1"),
        bad(&["0:100:0"], "0:100:0"),
        bad(&["0:0:1", "0:4294967296:1"], "0:4294967296:1"),
        bad(&["0:0:1", "1:2:3:4"], "1:2:3:4"),
        bad(&["0:0:1", "1:-2:1"], "1:-2:1"),
    ];
    all.push(Bad {
        lines: (0..341).map(|n| format!("{n}:{}:1", 1000 + n)).collect(),
        says: "340",
    });
    all
}

fn cases(call: impl Fn(&[String]) -> Run) -> Vec<Case> {
    let refused = |bad: Bad| case(call(&bad.lines), bad.says);
    bad().into_iter().map(refused).collect()
}

#[test]
fn of_mounts() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let (root, leader) = world.idle();
    let other = world.create();
    let names = || fs::read_dir(&root.path).expect("list").count();
    let before = names();
    let entry = |lines: &[String]| {
        let map = lines.join(";");
        format!("type=bind,src={},dst=/new,idmap={map}", data.display())
    };
    refuse_all(
        &world,
        cases(|lines| {
            let options = lines.iter().map(|line| format!("--idmap={line}"));
            let run = world.bare(["bind-mount"]).verb(world.places());
            run.opt(format!("--source={}", data.display()))
                .opt(format!("--target={}/new", root.path.display()))
                .opts(options)
        }),
    );
    refuse_all(
        &world,
        cases(|lines| {
            let run = world.bare(["subcontainer", "mount", "add"]);
            run.verb(world.places()).rootfs(&root).cmd([entry(lines)])
        }),
    );
    refuse_all(
        &world,
        cases(|lines| {
            let option = format!("--mount={}", entry(lines));
            world.launch_run(&other).opt(option).cmd(["true"])
        }),
    );
    assert_eq!(names(), before, "a refused mount has made its target");
    leader.stop().expect_code(0);
}

#[test]
fn of_containers() {
    let Some(world) = World::new() else { return };
    let plain = world.plain("plain");
    let option = |lines: &[String]| format!("--userns={}", lines.join(","));
    refuse_all(
        &world,
        cases(|lines| world.launch_run(&plain).opt(option(lines)).cmd(["true"])),
    );
    refuse_all(
        &world,
        cases(|lines| world.verb("create-fs").opt(option(lines)).cmd(["img"])),
    );
}

/// As many lines as the kernel takes are no mistake.
#[test]
fn the_largest_map_is_taken() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let lines: Vec<_> = (0..340).map(|n| format!("{n}:{}", 1000 + n)).collect();
    let root = world.create();
    let option = format!(
        "--mount=type=bind,src={},dst=/data,idmap={}",
        data.display(),
        lines.join(";")
    );
    let seen = world.launch_run(&root).opt(option);
    let text = seen.cmd(["stat", "-c", "%u", "/data/file"]).text();
    assert_eq!(text, "1000");
}

/// In a user namespace with one id.
#[test]
fn of_a_caller_that_has_not_these_ids() {
    let Some(world) = World::new() else { return };
    let data = source(&world, "data");
    let plain = world.plain("plain");
    let unshare = tool("unshare");
    let caller = [
        unshare.to_str().expect("path"),
        "--user",
        "--map-root-user",
        "--mount",
    ];
    let launch = |option: String| world.launch_run(&plain).opt(option).cmd(["true"]);
    let bind = world.bare(["bind-mount"]).verb(world.places());
    let bind = bind
        .opt(format!("--source={}", data.display()))
        .opt(format!("--target={}/new", plain.path.display()));
    let entry = format!("type=bind,src={},dst=/new,idmap=0:7", data.display());
    refuse_all(
        &world,
        vec![
            case(launch("--userns=0:0:2".to_owned()).wrap(caller), "0:0:2"),
            case(
                launch("--userns=0:0:1,1:5:1".to_owned()).wrap(caller),
                "1:5:1",
            ),
            case(bind.opt("--idmap=0:7").wrap(caller), "0 7 1"),
            case(launch(format!("--mount={entry}")).wrap(caller), "0 7 1"),
        ],
    );
    assert!(!plain.join("new").exists());
}
