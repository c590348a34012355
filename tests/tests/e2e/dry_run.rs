//! `--dry-run`: the plan as text and as JSON, without root, compared with `tests/golden/`.
//!
//! These run as an unprivileged user on a directory that belongs to nobody in particular: a plan is decided before
//! anything privileged happens, so it can be shown to everybody.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tests::{Image, Run, assert_golden, binary, tool};

/// A root filesystem without an owner's secrets, below a directory of its own.
struct Plain {
    dir: PathBuf,
}

impl Plain {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/sce2e-dry-{}-{number}", std::process::id()));
        fs::create_dir(&dir).expect("directory");
        Image::at(&dir, "root").users_only();
        tests::write_file(dir.join("some.env"), "PATH=/bin\nFROM_FILE=secret-value\n");
        Self { dir }
    }

    /// `subcontainer VERB --dry-run` as a user who owns nothing; as ourselves where the test has no root to give up.
    fn run(&self, verb: &str, options: &[&str], command: &[&str]) -> Run {
        let places = ["base", "state", "data"]
            .map(|name| format!("--{name}={}", self.dir.join(name).display()));
        let run = Run::new(binary())
            .verb(["subcontainer", verb, "--dry-run"])
            .verb(places);
        let run = run.opts(options).rootfs(self.dir.join("root")).cmd(command);
        if !nix::unistd::geteuid().is_root() {
            return run;
        }
        let setpriv = tool("setpriv");
        run.wrap([
            setpriv.to_str().expect("path"),
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ])
    }

    /// The text with this test's directory named ROOM.
    fn text(&self, run: Run) -> String {
        let done = run.done();
        let _ = done.expect_ok();
        assert_eq!(done.err_text(), "");
        String::from_utf8(done.out)
            .expect("utf8")
            .replace(self.dir.to_str().expect("path"), "ROOM")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const BARE: &str = "--profile=none";
const COMMAND: [&str; 4] = ["sh", "-c", "echo \"a b\"", ""];
const OPTIONS: [&str; 6] = [
    "--env-file=ROOM/some.env",
    "--env=K=secret-value",
    "--user=app",
    "--workdir=/tmp",
    "--force-tty",
    "--pty-size=40:120",
];

/// One golden text per shape of a call; without a profile, whose plan depends on the machine.
fn shapes() -> Vec<(
    &'static str,
    &'static str,
    Vec<&'static str>,
    Vec<&'static str>,
)> {
    vec![
        (
            "launch-idle",
            "launch",
            vec![BARE, "--userns=identity"],
            vec![],
        ),
        (
            "launch-idle-host",
            "launch",
            vec![BARE, "--userns=host"],
            vec![],
        ),
        (
            "launch-command",
            "launch",
            vec![BARE, "--userns=identity", "--env=PATH=/bin"],
            COMMAND.to_vec(),
        ),
        (
            "launch-init",
            "launch",
            [&[BARE, "--userns=identity", "--init"][..], &OPTIONS].concat(),
            COMMAND.to_vec(),
        ),
        ("exec", "exec", vec!["--env=PATH=/bin"], COMMAND.to_vec()),
        ("exec-options", "exec", OPTIONS.to_vec(), COMMAND.to_vec()),
    ]
}

/// What the profiles take away, but for what differs from machine to machine: the processors, and the numbers of system
/// calls that the filter is made of.
#[test]
fn profiles_are_golden() {
    let plain = Plain::new();
    for name in ["confined", "outer", "hardened", "none"] {
        let profile = format!("--profile={name}");
        let words = ["--userns=identity", "--format=json", &profile];
        let text = plain.text(plain.run("launch", &words, &[]));
        let mut plan: Value = serde_json::from_str(&text).expect("JSON");
        let mut part = serde_json::Map::new();
        for key in ["profile", "privileges", "views"] {
            part.insert(key.to_owned(), plan[key].take());
        }
        if let Some(filter) = part["privileges"]["seccomp"].as_object_mut() {
            filter.remove("program");
        }
        if let Some(masked) = part["views"]["masked"].as_array_mut() {
            masked.retain(|path| {
                !path
                    .as_str()
                    .is_some_and(|path| path.ends_with("/thermal_throttle"))
            });
        }
        let text = serde_json::to_string_pretty(&part).expect("JSON");
        assert_golden(&format!("profile-{name}.json"), &(text + "\n"));
    }
}

/// The name and the printed plan of each of the shapes, with more options.
fn printed(more: &[&str]) -> Vec<(&'static str, String)> {
    let plain = Plain::new();
    let of = |(name, verb, options, command): (_, _, Vec<&str>, Vec<&str>)| {
        let room = plain.dir.to_str().expect("path");
        let options: Vec<String> = options.iter().map(|o| o.replace("ROOM", room)).collect();
        let options = options
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied());
        let options: Vec<&str> = options.collect();
        (name, plain.text(plain.run(verb, &options, &command)))
    };
    shapes().into_iter().map(of).collect()
}

#[test]
fn text_is_golden() {
    for (name, text) in printed(&[]) {
        assert_golden(&format!("{name}.txt"), &text);
    }
}

#[test]
fn json_is_golden() {
    for (name, text) in printed(&["--format", "json"]) {
        let _: Value = serde_json::from_str(&text).expect("JSON");
        assert_golden(&format!("{name}.json"), &text);
    }
}

#[test]
fn values_of_variables_are_not_shown() {
    let plain = Plain::new();
    let file = format!("--env-file={}/some.env", plain.dir.display());
    for format in ["--format=text", "--format=json"] {
        for verb in ["launch", "exec"] {
            let text =
                plain.text(plain.run(verb, &[&file, "--env=K=secret-value", format], &["sh"]));
            assert!(!text.contains("secret-value"), "{text}");
        }
    }
}

#[test]
fn it_changes_nothing() {
    let plain = Plain::new();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&plain.dir)
            .expect("list")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        names
    };
    let before = (
        names(),
        fs::read_to_string("/proc/self/mountinfo")
            .expect("mounts")
            .contains(plain.dir.to_str().expect("path")),
    );
    for (_, verb, _, command) in shapes() {
        let _ = plain.text(plain.run(verb, &["--env=PATH=/bin"], &command));
    }
    let after = (
        names(),
        fs::read_to_string("/proc/self/mountinfo")
            .expect("mounts")
            .contains(plain.dir.to_str().expect("path")),
    );
    assert_eq!(after, before);
}

#[test]
fn the_same_call_gives_the_same_plan() {
    let plain = Plain::new();
    let call = || plain.text(plain.run("launch", &["--format=json", "--env=PATH=/bin"], &["sh"]));
    assert_eq!(call(), call());
}

#[test]
fn bad_input_is_refused_as_without_it() {
    let plain = Plain::new();
    plain
        .run("exec", &["--user=no-such-user"], &["sh"])
        .done()
        .expect_refused(&[125]);
    plain
        .run("exec", &["--env-file=/no/such/file"], &["sh"])
        .done()
        .expect_refused(&[125]);
    plain
        .run("launch", &["--pty-size=1"], &["sh"])
        .done()
        .expect_refused(&[125]);
    plain
        .run("launch", &["--format=yaml"], &["sh"])
        .done()
        .expect_refused(&[125]);
    let root = plain.dir.join("missing");
    Run::new(binary())
        .verb(["subcontainer", "launch", "--dry-run"])
        .rootfs(root)
        .done()
        .expect_refused(&[125]);
}
