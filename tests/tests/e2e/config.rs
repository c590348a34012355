//! `/etc/start-container/config.toml`: what it says of all and of an image becomes part of the plan, flags win, and a
//! file that is wrong stops every verb. The host's own /etc is untouched: each call sees another one.

use std::fs;

use serde_json::Value;
use tests::{Run, World, tool, write_file};

/// A call that sees `text` as the configuration.
pub(crate) fn with(world: &World, text: &str, run: Run) -> Run {
    let etc = world.dir.join("etc");
    write_file(etc.join("start-container/config.toml"), text);
    let script = format!(
        "{} --bind \"$0\" /etc && exec \"$@\"",
        tool("mount").display()
    );
    let words = [
        tool("unshare"),
        "--mount".into(),
        tool("sh"),
        "-c".into(),
        script.into(),
        etc,
    ];
    run.wrap(words)
}

fn plan(world: &World, text: &str, root: &std::path::Path, words: &[&str]) -> Value {
    let run = world
        .launch_run(root)
        .opts(["--dry-run", "--format=json"])
        .opts(words);
    let text = with(world, text, run).text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

const TEXT: &str = "
profile = \"none\"
userns = \"identity\"
no_new_privileges = true
mounts = [\"type=tmpfs,dst=/tmp\"]

[image.img]
profile = \"confined\"
caps = [\"CHOWN\", \"KILL\"]
seccomp = \"unconfined\"
read_only = true
";

#[test]
fn an_image_has_its_own_settings_and_flags_win() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let found = plan(&world, TEXT, &root.path, &[]);
    assert_eq!(found["profile"], "confined");
    assert_eq!(found["privileges"]["capabilities"], 0b10_0001);
    assert_eq!(found["privileges"]["no_new_privileges"], true);
    assert_eq!(found["privileges"]["seccomp"], Value::Null);
    assert_eq!(found["views"]["readonly_root"], true);
    assert!(found["id_maps"].is_object());
    assert_eq!(found["mounts"].as_array().map(Vec::len), Some(1));

    let words = [
        "--profile=none",
        "--cap-add=net_raw",
        "--userns=host",
        "--mount=type=tmpfs,dst=/run",
    ];
    let found = plan(&world, TEXT, &root.path, &words);
    assert_eq!(found["profile"], "none");
    assert_eq!(found["privileges"]["capabilities"], 0b10_0001 | 1 << 13);
    assert_eq!(found["id_maps"], Value::Null);
    assert_eq!(found["mounts"].as_array().map(Vec::len), Some(2));

    let plain = world.plain("plain");
    let found = plan(&world, TEXT, &plain.path, &[]);
    assert_eq!(found["profile"], "none");
    assert_eq!(found["privileges"]["capabilities"], Value::Null);
    assert_eq!(found["views"]["readonly_root"], false);
}

#[test]
fn directories_come_from_it_too() {
    let Some(world) = World::new() else { return };
    let text = format!(
        "base = {:?}\nstate = {:?}\ndata = {:?}\n",
        world.base, world.state, world.data
    );
    let run = world.bare(["subcontainer", "create-fs", "img"]);
    let path = with(&world, &text, run).text();
    assert!(
        path.starts_with(world.base.to_str().expect("path")),
        "{path}"
    );
    let guid = path.rsplit('/').next().expect("guid");
    assert!(world.state.join("subcontainers").join(guid).exists());
    let _ = world.verb("destroy-fs").cmd([guid]).text();
}

#[test]
fn a_wrong_file_stops_every_verb_and_names_the_line() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    for (text, line, part) in [
        (
            "profile = \"none\"\n\n[image.other]\nporfile = \"none\"\n",
            4,
            "did you mean profile?",
        ),
        ("caps = [\"NET_ADMN\"]\n", 1, "did you mean NET_ADMIN?"),
        (
            "\nmounts = [\"type=bind,src=relative,dst=/x\"]\n",
            2,
            "mounts is wrong",
        ),
    ] {
        for run in [
            world.launch_run(&root).cmd(["true"]),
            world.exec(&root).cmd(["true"]),
            world.verb("create-fs").cmd(["img"]),
            world.verb("destroy-fs").cmd([&root.guid]),
            world.verb("inspect").rootfs(&root),
        ] {
            let done = with(&world, text, run).done();
            done.expect_refused(&[125]);
            let error = done.err_text();
            assert!(error.contains(&format!("(line {line})")), "{error}");
            assert!(error.contains(part), "{error}");
        }
    }
    assert_eq!(
        fs::read_dir(world.base.join("subcontainers"))
            .expect("list")
            .count(),
        1
    );
}
