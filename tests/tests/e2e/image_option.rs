//! `--image`: what an image says about how it is run holds for launch and exec where the caller says nothing.

use nix::sys::signal::Signal;
use tests::{World, write_file};

use crate::bad_input::{case, refuse_all};

/// Makes image `app` of nothing but the two files.
pub(crate) fn say(world: &World, about: &str) {
    let images = world.base.join("images");
    write_file(images.join("app.json"), about);
    write_file(
        images.join("app.env"),
        "PATH=/bin:/usr/bin\nFROM=image\nONLY=image\n",
    );
}

const ABOUT: &str =
    r#"{"user":"app:audio","workdir":"/home/app","entrypoint":["sh","-c"],"cmd":["echo cmd"]}"#;

#[test]
fn exec_has_the_images_variables_user_and_directory() {
    let Some(world) = World::new() else { return };
    say(&world, ABOUT);
    let (root, _leader) = world.idle();
    let exec = || world.verb("exec").rootfs(&root).opt("--image=app");
    let script = "id -un; id -gn; pwd; echo $HOME $FROM $ONLY";
    assert_eq!(
        exec().sh(script).text(),
        "app\naudio\n/home/app\n/home/app image image"
    );
    write_file(world.dir.join("own.env"), "FROM=file\n");
    let file = format!("--env-file={}/own.env", world.dir.display());
    let given = exec().opts(["--user=root", "--workdir=/tmp", "--env=ONLY=given", &file]);
    assert_eq!(
        given.sh(script).text(),
        "root\nroot\n/tmp\n/root file given"
    );
    // An image that was put there by hand needs neither file.
    std::fs::create_dir(world.base.join("images/bare")).expect("image");
    let bare = world.verb("exec").rootfs(&root).opt("--image=bare");
    let bare = bare.opt("--env=PATH=/bin").sh("id -un; pwd");
    assert_eq!(bare.text(), "root\n/");
}

#[test]
fn launch_runs_the_images_program() {
    let Some(world) = World::new() else { return };
    say(&world, ABOUT);
    for (options, command, expected) in [
        (&["--image=app"][..], &[][..], "cmd"),
        (&["--image=app"], &["echo given; id -un"], "given\napp"),
        (
            &["--image=app", "--entrypoint=echo"],
            &["one", "two"],
            "one two",
        ),
        (&["--image=app", "--entrypoint=pwd"], &[], "/home/app"),
        (&["--image=app", "--entrypoint="], &["echo", "bare"], "bare"),
        (
            &["--image=app", "--init", "--user=root"],
            &["id -un"],
            "root",
        ),
    ] {
        let root = world.create();
        let launch = world.verb("launch").opts(options).rootfs(&root);
        assert_eq!(launch.cmd(command).text(), expected, "{options:?}");
        world.destroy(&root);
    }
}

#[test]
fn sigterm_reaches_the_program_as_its_stop_signal() {
    let Some(world) = World::new() else { return };
    for (signal, trap) in [("SIGUSR1", "USR1"), ("SIGRTMIN+3", "37"), ("3", "QUIT")] {
        say(&world, &format!(r#"{{"stop_signal":"{signal}"}}"#));
        for init in [&[][..], &["--init"]] {
            let root = world.create();
            let script = format!(
                "trap 'echo stopped >/mark; exit 3' {trap}; trap 'exit 4' TERM; echo up; \
                 while :; do sleep 0.01; done"
            );
            let launch = world.verb("launch").opt("--image=app").opts(init);
            let mut client = launch.rootfs(&root).sh(&script).spawn();
            client.expect("up");
            client.signal(Signal::SIGTERM);
            client.finish().expect_code(3);
            assert_eq!(root.wait_file("mark"), "stopped");
            world.destroy(&root);
        }
    }
}

/// As PID 1 it is immune against what it does not handle; being asked to stop is the end all the same.
#[test]
fn a_program_that_does_not_handle_its_stop_signal_ends() {
    let Some(world) = World::new() else { return };
    say(&world, r#"{"stop_signal":"SIGWINCH"}"#);
    let root = world.create();
    let launch = world.verb("launch").opt("--image=app").rootfs(&root);
    let mut client = launch.sh("echo up; exec sleep 1000").spawn();
    client.expect("up");
    client.signal(Signal::SIGTERM);
    assert_eq!(client.finish().signal(), Some(Signal::SIGTERM as i32));
    // An idle leader is ours, and has no stop signal but SIGTERM.
    let leader = world.launch(&root);
    leader.stop().expect_code(0);
}

#[test]
fn bad_choices_are_refused() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let launch = |options: &[&str], command: &[&str]| {
        let run = world.verb("launch").opts(options).rootfs(&root);
        run.cmd(command)
    };
    let images = world.base.join("images");
    for (id, about) in [
        ("broken", "{"),
        ("nothing", "{}"),
        ("signal", r#"{"cmd":["true"],"stop_signal":"SIGNOT"}"#),
        ("nobody", r#"{"cmd":["true"],"user":"nobody-here"}"#),
        ("nowhere", r#"{"cmd":["/bin/true"],"workdir":"/nowhere"}"#),
    ] {
        write_file(images.join(format!("{id}.json")), about);
    }
    refuse_all(
        &world,
        vec![
            case(launch(&["--image=absent"], &["true"]), "not in"),
            case(launch(&["--image=../x"], &["true"]), "image id"),
            case(launch(&["--image=broken"], &["true"]), "broken.json"),
            case(launch(&["--image=nothing"], &[]), "give a COMMAND"),
            case(launch(&["--image=signal"], &[]), "\"SIGNOT\" is no signal"),
            case(launch(&["--image=nobody"], &[]), "nobody-here"),
            case(launch(&["--image=nowhere"], &[]), "/nowhere"),
            case(launch(&["--entrypoint=x"], &["true"]), "--image"),
        ],
    );
}
