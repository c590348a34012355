//! exec with a command in place of a process.json.

use serde_json::json;
use tests::{Bundle, World};

#[test]
fn a_command_is_run_as_the_containers_process_with_what_is_changed() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [7] });
        config["process"]["noNewPrivileges"] = false.into();
        config["process"]["cwd"] = "/tmp".into();
    });
    bundle.ok(&["run", "-d", "one"]);
    let exec = |words: &[&str]| bundle.ok(&[&["exec"], words].concat());
    let script = "pwd; id -u; id -g; id -G; echo $A; grep NoNewPrivs /proc/self/status";
    assert_eq!(
        exec(&["one", "sh", "-c", script]),
        "/tmp\n1000\n1000\n1000 7\n\nNoNewPrivs:\t0"
    );
    let options = [
        "--user",
        "2000:3000",
        "-g",
        "5,6",
        "--cwd=/",
        "-e",
        "A=one",
        "--env",
        "A=two",
        "--no-new-privs",
    ];
    assert_eq!(
        exec(&[&options[..], &["one", "sh", "-c", script]].concat()),
        "/\n2000\n3000\n3000 5 6 7\ntwo\nNoNewPrivs:\t1"
    );
    // Options behind the id are the command's.
    assert_eq!(exec(&["one", "echo", "-e", "--user"]), "--user");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |_| {});
    bundle.ok(&["run", "-d", "one"]);
    for (words, told) in [
        (&["one"][..], "--process is missing"),
        (&["--process", "/x", "one", "true"], "--process excludes"),
        (&["--process", "/x", "--cwd=/", "one"], "--process excludes"),
        (&["--user", "app", "one", "true"], "is no id"),
        (&["--user", "4294967295", "one", "true"], "is no id"),
        (&["-g", "1,", "one", "true"], "is no id"),
        (&["--preserve-fds=-1", "one", "true"], "no such number"),
    ] {
        let done = bundle.call(&[&["exec"], words].concat()).done();
        done.expect_refused(&[1]);
        assert!(done.err_text().contains(told), "{}", done.err_text());
    }
}
