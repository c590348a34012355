//! CONTRACT 5: environment, PATH, HOME and working directory.

use std::os::unix::fs::PermissionsExt;

use tests::{World, write_file};

#[test]
fn inherited_then_env_file_then_env() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let file = world.dir.join("more.env");
    write_file(&file, "B=file\nC=file\n");
    let run = world
        .exec(&root)
        .env("A", "inherited")
        .env("B", "inherited")
        .env("C", "inherited");
    let run = run.opt(format!("--env-file={}", file.display())).opts([
        "--env=C=option",
        "-e",
        "D=option",
    ]);
    assert_eq!(
        run.sh("echo $A $B $C $D").text(),
        "inherited file option option"
    );
}

#[test]
fn later_env_wins() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let run = world
        .exec(&root)
        .opts(["-e", "A=1", "--env=A=2", "-e", "A=3"]);
    assert_eq!(run.sh("env | grep ^A=").text(), "A=3");
}

#[test]
fn env_file_values_are_verbatim_and_lines_without_equals_are_ignored() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let file = world.dir.join("odd.env");
    write_file(
        &file,
        "Q=\"quoted\"\nnothing\n\n  \nS=  spaces  \nE=a=b=c\nD=$HOME ${X} `id`\nH=#no comment\nR=return\r\nEMPTY=\nLAST=end",
    );
    let run = world
        .exec(&root)
        .no_opts()
        .opt("--env-file")
        .opt(&file)
        .cmd(["/bin/env"]);
    let text = run.text();
    // Not `lines()`, which takes a carriage return for part of the line end.
    let mut lines: Vec<&str> = text
        .split('\n')
        .filter(|line| !line.starts_with("HOME="))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "D=$HOME ${X} `id`",
            "E=a=b=c",
            "EMPTY=",
            "H=#no comment",
            "LAST=end",
            "Q=\"quoted\"",
            "R=return\r",
            "S=  spaces  "
        ]
    );
}

#[test]
fn env_value_may_be_long_and_have_lines() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let value = format!("one\ntwo\n{}", "z".repeat(100_000));
    let done = world
        .exec(&root)
        .opt(format!("--env=K={value}"))
        .sh("printf %s \"$K\"")
        .done();
    assert_eq!(done.expect_ok(), value);
}

#[test]
fn missing_env_file_is_an_error_and_runs_nothing() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let run = world
        .exec(&root)
        .opt("--env-file=/nowhere/x.env")
        .cmd(["touch", "/tmp/ran"]);
    let done = run.done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains("/nowhere/x.env"),
        "{}",
        done.err_text()
    );
    assert!(!root.join("tmp/ran").exists());
}

#[test]
fn command_is_found_through_the_resulting_path_inside() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("opt/a/tool"), "#!/bin/sh\necho a\n");
    write_file(root.join("opt/b/tool"), "#!/bin/sh\necho b\n");
    for name in ["a", "b"] {
        let path = root.join(&format!("opt/{name}/tool"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }
    // The client's own PATH loses against the image's, and that against --env.
    let run = world
        .exec(&root)
        .env("PATH", "/opt/a")
        .opt("--env=PATH=/opt/b:/bin")
        .cmd(["tool"]);
    assert_eq!(run.text(), "b");
    let run = world
        .exec(&root)
        .no_opts()
        .env("PATH", "/opt/a:/bin")
        .cmd(["tool"]);
    assert_eq!(run.text(), "a");
    world
        .exec(&root)
        .cmd(["tool"])
        .done()
        .expect_refused(&[127]);
}

#[test]
fn path_search_goes_on_after_a_file_that_cannot_be_executed() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    write_file(root.join("opt/first/tool"), "not executable\n");
    write_file(root.join("opt/second/tool"), "#!/bin/sh\necho second\n");
    let path = root.join("opt/second/tool");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let run = world
        .exec(&root)
        .opt("--env=PATH=/opt/first:/nowhere:/opt/second:/bin")
        .cmd(["tool"]);
    assert_eq!(run.text(), "second");
}

#[test]
fn a_command_with_a_slash_is_taken_from_the_workdir() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    assert_eq!(
        world
            .exec(&root)
            .opt("--workdir=/bin")
            .cmd(["./echo", "here"])
            .text(),
        "here"
    );
    assert_eq!(
        world
            .exec(&root)
            .opt("--workdir=/")
            .cmd(["bin/echo", "here"])
            .text(),
        "here"
    );
}

#[test]
fn command_is_not_looked_for_on_the_host() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let host = world.dir.join("host-only");
    write_file(&host, "#!/bin/sh\necho host\n");
    std::fs::set_permissions(&host, std::fs::Permissions::from_mode(0o755)).expect("mode");
    world.exec(&root).cmd([&host]).done().expect_refused(&[127]);
}

#[test]
fn workdir_is_used_and_defaults_to_the_root() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    assert_eq!(
        world
            .exec(&root)
            .opt("--workdir=/var/log")
            .cmd(["pwd"])
            .text(),
        "/var/log"
    );
    assert_eq!(world.exec(&root).cwd("/usr").cmd(["pwd"]).text(), "/");
}

#[test]
fn missing_workdir_is_an_error_and_runs_nothing() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    for workdir in ["/nowhere", "/etc/passwd", "/bin/sh/x"] {
        let done = world
            .exec(&root)
            .opt(format!("--workdir={workdir}"))
            .cmd(["touch", "/tmp/ran"])
            .done();
        done.expect_refused(&[125]);
        assert!(done.err_text().contains(workdir), "{}", done.err_text());
    }
    assert!(!root.join("tmp/ran").exists());
    leader.stop().expect_code(0);
    let done = world
        .launch_run(&root)
        .opt("--workdir=/nowhere")
        .cmd(["touch", "/tmp/ran"])
        .done();
    done.expect_refused(&[125]);
    assert!(!root.join("tmp/ran").exists());
}

#[test]
fn a_workdir_that_only_the_user_may_enter() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    std::fs::set_permissions(
        root.join("home/app"),
        std::fs::Permissions::from_mode(0o700),
    )
    .expect("mode");
    let run = world
        .exec(&root)
        .opts(["--user=app", "--workdir=/home/app"]);
    assert_eq!(run.sh("touch x && pwd").text(), "/home/app");
}

/// Root may enter what has an owner and a group of its container, whatever the mode. Here the group is of no id in it, as
/// on a filesystem of the user's own.
#[test]
fn a_workdir_that_root_may_not_enter() {
    let Some(world) = World::new() else { return };
    let root = world.plain("root");
    let home = root.join("home/app");
    std::os::unix::fs::chown(&home, Some(1000), Some(100_000)).expect("chown");
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).expect("mode");
    let leader = world.launch_run(&root).opt("--userns=0:0:65536");
    let _leader = tests::Launch::start(leader, &root);
    let enter = |user: &str| {
        let run = world.exec(&root).opt(format!("--user={user}"));
        run.opt("--workdir=/home/app").sh("touch x && pwd").done()
    };
    let refused = enter("root");
    refused.expect_refused(&[125]);
    assert!(
        refused.err_text().contains("EACCES"),
        "{}",
        refused.err_text()
    );
    assert_eq!(enter("app").expect_ok(), "/home/app");
}

#[test]
fn home_is_from_passwd_unless_set() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let home = |run: tests::Run| run.sh("echo $HOME").text();
    assert_eq!(home(world.exec(&root)), "/root");
    assert_eq!(home(world.exec(&root).opt("--user=app")), "/home/app");
    assert_eq!(home(world.exec(&root).opt("--user=1000")), "/home/app");
    assert_eq!(
        home(world.exec(&root).opts(["--user=app", "--env=HOME=/mine"])),
        "/mine"
    );
    assert_eq!(
        home(
            world
                .exec(&root)
                .opt("--user=app")
                .env("HOME", "/inherited")
        ),
        "/home/app",
        "the HOME of the service on the host means nothing inside"
    );
    let file = world.dir.join("home.env");
    write_file(&file, "HOME=/from/file\n");
    let run = world
        .exec(&root)
        .opt(format!("--env-file={}", file.display()));
    assert_eq!(home(run), "/from/file");
    assert_eq!(home(world.exec(&root).opt("--user=4321")), "/");
}
