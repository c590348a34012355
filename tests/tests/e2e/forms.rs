//! CONTRACT 1: the command forms. How options and arguments are read, not what they do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use tests::World;

/// Prints the arguments after `sh`, one per line between brackets.
const SHOW: &str = "for word; do echo \"[$word]\"; done";

#[test]
fn value_after_equals_or_as_next_word() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let show = "id -u; pwd; echo $K";
    let joined = world
        .exec(&root)
        .opts(["--user=app", "--workdir=/tmp", "--env=K=v"])
        .sh(show)
        .text();
    let apart = world
        .exec(&root)
        .opts(["--user", "app", "--workdir", "/tmp", "--env", "K=v"])
        .sh(show)
        .text();
    let short = world
        .exec(&root)
        .opts(["-u", "app", "-w", "/tmp", "-e", "K=v"])
        .sh(show)
        .text();
    assert_eq!(joined, "1000\n/tmp\nv");
    assert_eq!(apart, joined);
    assert_eq!(short, joined);
}

#[test]
fn env_file_value_as_next_word() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let run = world
        .exec(&root)
        .no_opts()
        .opt("--env-file")
        .opt(world.env_file());
    assert_eq!(run.sh("echo $FROM_IMAGE").text(), "yes");
}

#[test]
fn pty_size_as_next_word_and_with_pixels() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let two = world
        .exec(&root)
        .opts(["--force-tty", "--pty-size", "31:97"])
        .cmd(["stty", "size"])
        .text();
    assert_eq!(two, "31 97");
    let four = world
        .exec(&root)
        .opts(["--force-tty", "--pty-size=32:98:640:480"])
        .cmd(["stty", "size"])
        .text();
    assert_eq!(four, "32 98");
}

#[test]
fn options_between_rootfs_and_command() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let run = world
        .exec(&root)
        .cmd(["--user=app", "--workdir", "/tmp", "-e", "K=v"]);
    assert_eq!(run.sh("id -u; pwd; echo $K").text(), "1000\n/tmp\nv");
}

#[test]
fn options_between_rootfs_and_command_of_launch() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let run = world
        .launch_run(&root)
        .cmd(["--user=app", "--workdir", "/tmp"]);
    assert_eq!(run.sh("id -u; pwd").text(), "1000\n/tmp");
}

#[test]
fn first_double_dash_is_dropped_and_later_ones_stay() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let run = world
        .exec(&root)
        .cmd(["--", "sh", "-c", SHOW, "sh", "--", "a", "--"]);
    assert_eq!(run.text(), "[--]\n[a]\n[--]");
}

#[test]
fn double_dash_ends_options() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // `--user=app` is the command's name here, and there is no such command.
    world
        .exec(&root)
        .cmd(["--", "--user=app"])
        .done()
        .expect_refused(&[127]);
}

#[test]
fn words_after_the_command_are_verbatim() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let words = [
        "--user=app",
        "-u",
        "",
        "--help",
        "--version",
        "-",
        "a b",
        "$HOME",
        "*",
        "new\nline",
        "--base=/x",
    ];
    let run = world.exec(&root).cmd(["sh", "-c", SHOW, "sh"]).cmd(words);
    let shown: Vec<String> = words.iter().map(|word| format!("[{word}]")).collect();
    assert_eq!(run.text(), shown.join("\n"));
}

#[test]
fn words_of_launch_are_verbatim() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let words = ["--user=app", "", "--init", "--", "-e", "a b"];
    let run = world
        .launch_run(&root)
        .cmd(["sh", "-c", SHOW, "sh"])
        .cmd(words);
    let shown: Vec<String> = words.iter().map(|word| format!("[{word}]")).collect();
    assert_eq!(run.text(), shown.join("\n"));
}

#[test]
fn words_need_not_be_utf8() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let word = OsString::from_vec(vec![b'x', 0xff, 0xfe, b'\t', 0x80]);
    let done = world.exec(&root).cmd(["printf", "%s"]).cmd([&word]).done();
    let _ = done.expect_ok();
    assert_eq!(done.out, word.into_vec());
}

#[test]
fn environment_values_need_not_be_utf8() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let mut option = b"--env=K=".to_vec();
    option.extend([0xff, b'=', 0x80]);
    let done = world
        .exec(&root)
        .opt(OsString::from_vec(option))
        .sh("printf %s \"$K\"")
        .done();
    let _ = done.expect_ok();
    assert_eq!(done.out, [0xff, b'=', 0x80]);
}

#[test]
fn an_argument_of_120_kb_passes() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let word = "y".repeat(120 * 1024);
    assert_eq!(
        world
            .exec(&root)
            .cmd(["sh", "-c", "echo ${#1}", "sh", &word])
            .text(),
        word.len().to_string()
    );
}

#[test]
fn four_hundred_arguments_pass() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let words: Vec<String> = (0..400).map(|n| format!("word-{n}")).collect();
    let run = world.exec(&root).cmd(["printf", "%s\n"]).cmd(&words);
    assert_eq!(run.text(), words.join("\n"));
}

#[test]
fn environment_of_the_client_is_the_whole_environment() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    // Neither PATH nor HOME, a library that does not exist, and variables that steer other programs.
    let run = world
        .exec(&root)
        .no_opts()
        .env("LD_PRELOAD", "/nowhere/evil.so")
        .env("LD_LIBRARY_PATH", "/nowhere")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "full")
        .env("MALLOC_CHECK_", "3")
        .env("TMPDIR", "/nowhere");
    let done = run.cmd(["/bin/env"]).done();
    let text = done.expect_ok();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.retain(|line| !line.starts_with("HOME="));
    assert_eq!(
        lines,
        [
            "LD_LIBRARY_PATH=/nowhere",
            "LD_PRELOAD=/nowhere/evil.so",
            "MALLOC_CHECK_=3",
            "RUST_BACKTRACE=full",
            "RUST_LOG=trace",
            "TMPDIR=/nowhere"
        ]
    );
    assert_eq!(
        done.err_text(),
        "",
        "an ambient variable made start-container talk"
    );
}

#[test]
fn every_verb_works_without_path_and_home() {
    let Some(world) = World::new() else { return };
    // `Run` gives an empty environment to all of them.
    let root = world.create();
    let leader = world.launch_run(&root).no_opts();
    let leader = tests::Launch::start(leader, &root);
    // By its path, and through the PATH that a command has that was given none.
    for echo in ["/bin/echo", "echo"] {
        let run = world.exec(&root).no_opts().cmd([echo, "hi"]);
        assert_eq!(run.text(), "hi", "{echo}");
    }
    let target = root.join("mnt/volume");
    let bind = world
        .bare(["bind-mount"])
        .opt("--source")
        .opt(world.base.join("volumes/main"));
    let _ = bind.opt("--target").opt(&target).text();
    assert_eq!(
        world
            .bare(["pipe-wrap", "/bin/busybox", "echo", "hi"])
            .text(),
        "hi"
    );
    leader.stop().expect_code(0);
    world.destroy(&root);
}

#[test]
fn the_binary_is_static() {
    let bytes = std::fs::read(tests::binary()).expect("binary");
    // Program header 3 is PT_INTERP: the file of a dynamic loader. A static file has none.
    let word = |at: usize, size: usize| -> u64 {
        bytes[at..at + size]
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let (offset, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    assert!(count > 0, "no program headers");
    for number in 0..count {
        let at = usize::try_from(offset + number * size).expect("offset");
        assert_ne!(word(at, 4), 3, "the binary asks for a dynamic loader");
    }
}
