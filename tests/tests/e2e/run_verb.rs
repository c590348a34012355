//! `subcontainer run`: an image's program in a container that goes with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{Layered, Rootfs, Run, Seeded, Snapshot, World, spin, until, write_file};

use crate::bad_input::{case, refuse_all};
use crate::rootless::User;

fn run(world: &World) -> Run {
    world.verb("run").opt("--image=img")
}

/// What the image says of itself.
fn say(world: &World, about: &str) {
    write_file(world.base.join("images/img.json"), about);
}

/// The only root filesystem that there is, when its record says that it can be used.
fn found(base: &Path, state: &Path) -> Rootfs {
    until("a root filesystem", || {
        let entry = fs::read_dir(base.join("subcontainers"))
            .ok()?
            .next()?
            .ok()?;
        let guid = entry.file_name().to_str()?.to_owned();
        let record = state.join("subcontainers").join(&guid);
        record.exists().then(|| Rootfs {
            path: entry.path(),
            guid,
        })
    })
}

#[test]
fn it_runs_the_images_program_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    say(
        &world,
        r#"{"user":"app","workdir":"/home/app","entrypoint":["sh","-c"],"cmd":["id -un; pwd; echo $FROM_IMAGE; exit 7"]}"#,
    );
    let before = Snapshot::of(&world);
    let done = run(&world).done();
    assert_eq!(
        done.out_text(),
        "app\n/home/app\nyes",
        "{}",
        done.err_text()
    );
    done.expect_code(7);
    before.assert_same(&world);
    let done = run(&world).cmd(["kill -KILL $$"]).opt("--init").done();
    assert_eq!(done.signal(), Some(Signal::SIGKILL as i32));
    let given = run(&world).opts(["--user=root", "--workdir=/", "--entrypoint=/bin/sh"]);
    assert_eq!(
        given.cmd(["--", "-c", "touch /new; id -un; pwd"]).text(),
        "root\n/"
    );
    let streams = run(&world).opt("--entrypoint=cat").input(b"in".to_vec());
    assert_eq!(streams.text(), "in");
    before.assert_same(&world);
    assert!(!world.base.join("images/img/new").exists());
}

#[test]
fn every_kind_of_image_and_of_ids_works() {
    let Some(world) = World::new() else { return };
    let mut image = Layered::new(&world, "img");
    image.img();
    write_file(image.layer().join("layer"), "top\n");
    image.publish();
    let before = Snapshot::of(&world);
    for userns in ["host", "identity", "auto", "0:300000:2000"] {
        let run = run(&world).opt(format!("--userns={userns}"));
        let script =
            "cat /layer; touch /home/app/f; chown 1000 /home/app/f; stat -c %u /home/app/f";
        assert_eq!(
            run.cmd(["sh", "-c", script]).text(),
            "top\n1000",
            "{userns}"
        );
        before.assert_same(&world);
    }
}

#[test]
fn signals_reach_the_program() {
    let Some(world) = World::new() else { return };
    say(&world, r#"{"stop_signal":"SIGUSR1"}"#);
    let before = Snapshot::of(&world);
    let script = "trap 'echo hup' HUP; trap 'exit 5' USR1; echo up; while :; do sleep 0.01; done";
    let mut client = run(&world).cmd(["sh", "-c", script]).spawn();
    client.expect("up");
    client.signal(Signal::SIGHUP);
    client.expect("hup");
    client.signal(Signal::SIGTERM);
    client.finish().expect_code(5);
    before.assert_same(&world);
}

#[test]
fn it_is_a_container_like_others_as_long_as_it_lives() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let client = run(&world)
        .opt("--userns=auto")
        .cmd(["sleep", "1000"])
        .spawn();
    let root = found(&world.base, &world.state);
    assert_eq!(world.exec(&root).cmd(["id", "-u"]).text(), "0");
    // Others leave it alone, until somebody asks for its end.
    world.destroy(&world.create());
    assert_eq!(world.exec(&root).cmd(["id", "-u"]).text(), "0");
    world.destroy(&root);
    assert_eq!(client.finish().signal(), Some(Signal::SIGTERM as i32));
    before.assert_same(&world);
}

#[test]
fn a_killed_one_is_removed_by_the_next() {
    let Some(world) = World::new() else { return };
    // The fixed directories.
    let _ = run(&world).opt("--userns=auto").cmd(["true"]).text();
    let before = Snapshot::of(&world);
    let mut seeded = Seeded::new(7);
    for round in 0..25 {
        let script = "while :; do echo x >>/grows; mkdir -p /d/$$; done";
        let userns = if round % 2 == 0 { "auto" } else { "identity" };
        let run = run(&world).opt(format!("--userns={userns}"));
        let client = run.cmd(["sh", "-c", script]).spawn();
        spin(Duration::from_micros(seeded.below(60_000)));
        client.signal(Signal::SIGKILL);
        drop(client);
        if round % 3 == 0 {
            world.destroy(&world.create());
        } else {
            let names = fs::read_dir(world.base.join("subcontainers"));
            let left = fs::read_dir(world.data.join("containers"));
            for entry in names.into_iter().chain(left).flatten().flatten() {
                let guid = entry.file_name().to_str().expect("guid").to_owned();
                let _ = world.verb("destroy-fs").cmd([guid]).text();
            }
            // One that was killed between its record and its directories.
            let _ = self::run(&world).cmd(["true"]).text();
        }
        before.assert_same(&world);
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    say(
        &world,
        r#"{"user":"app","workdir":"/tmp","cmd":["echo","hi"],"stop_signal":"SIGQUIT"}"#,
    );
    let before = Snapshot::of(&world);
    let text = run(&world).opts(["--dry-run", "--format=json"]).text();
    before.assert_same(&world);
    let plan: serde_json::Value = serde_json::from_str(&text).expect("json");
    let process = &plan["program"]["command"];
    assert_eq!(process["arguments"], serde_json::json!(["echo", "hi"]));
    assert_eq!(process["uid"], 1000);
    assert_eq!(process["workdir"], "/tmp");
    assert_eq!(plan["stop_signal"], 3);
    let names = process["environment"].to_string();
    assert!(
        names.contains("FROM_IMAGE") && !names.contains("yes"),
        "{names}"
    );
    let text = run(&world).opt("--dry-run").text();
    assert!(text.contains("pivot_root"), "{text}");
}

#[test]
fn what_cannot_be_run_is_refused_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    say(&world, "{}");
    let with = |words: &[&str]| world.verb("run").opts(words);
    refuse_all(
        &world,
        vec![
            case(with(&["true"]), "--image"),
            case(with(&["--image=absent", "true"]), "absent"),
            case(with(&["--image=img"]), "give a COMMAND"),
            case(
                with(&["--image=img", "--user=not-there", "true"]),
                "not-there",
            ),
            case(
                with(&["--image=img", "--workdir=/not-there", "/bin/true"]),
                "/not-there",
            ),
        ],
    );
    let done = with(&["--image=img", "/bin/not-there"]).done();
    done.expect_refused(&[127]);
}

#[test]
fn without_root_it_is_the_same() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let run = |words: &[&str]| {
        let run = ann.run(["subcontainer", "run", "--image=img", "--env=PATH=/bin"]);
        run.cmd(words)
    };
    let done = run(&["sh", "-c", "id -u; touch /new; exit 9"]).done();
    assert_eq!(done.out_text(), "0", "{}", done.err_text());
    done.expect_code(9);
    ann.assert_nothing_left();

    let client = run(&["sleep", "1000"]).spawn();
    let root = found(&ann.base(), &ann.state());
    assert_eq!(ann.exec(&root).cmd(["id", "-u"]).text(), "0");
    client.signal(Signal::SIGKILL);
    drop(client);
    ann.destroy(&root);
    ann.assert_nothing_left();

    let client = run(&["sleep", "1000"]).spawn();
    let _ = ann
        .exec(&found(&ann.base(), &ann.state()))
        .cmd(["true"])
        .text();
    client.signal(Signal::SIGTERM);
    assert_eq!(client.finish().signal(), Some(Signal::SIGTERM as i32));
    ann.assert_nothing_left();
}
