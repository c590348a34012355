//! The five capability sets of process.capabilities.

use serde_json::{Value, json};
use tests::{Bundle, World};

const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;
const CHOWN: u64 = 1 << 0;
const SHOW: &str = "grep Cap /proc/self/status";

fn sets(given: [&[&str]; 5]) -> Value {
    let [bounding, permitted, effective, inheritable, ambient] = given;
    json!({
        "bounding": bounding, "permitted": permitted, "effective": effective,
        "inheritable": inheritable, "ambient": ambient,
    })
}

/// Inheritable, permitted, effective, bounding, ambient, as the kernel shows them.
fn shown(text: &str) -> Vec<u64> {
    let words = text.split_whitespace().skip(1).step_by(2);
    words
        .map(|word| u64::from_str_radix(word, 16).unwrap())
        .collect()
}

#[test]
fn the_sets_are_those_of_the_configuration() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, SHOW, |_| {});
    let two: &[&str] = &["CAP_KILL", "CAP_SETUID"];
    let one: &[&str] = &["CAP_KILL"];
    let none: &[&str] = &[];
    // What execve(2) makes of them for root and for others (capabilities(7)).
    for (uid, given, expected) in [
        (
            0,
            sets([two, two, two, none, none]),
            [0, KILL | SETUID, KILL | SETUID, KILL | SETUID, 0],
        ),
        (
            1000,
            sets([two, two, two, none, none]),
            [0, 0, 0, KILL | SETUID, 0],
        ),
        (
            1000,
            sets([two, two, one, one, one]),
            [KILL, KILL, KILL, KILL | SETUID, KILL],
        ),
        (
            1000,
            sets([one, two, one, one, none]),
            [KILL, 0, 0, KILL, 0],
        ),
        (0, sets([none, none, none, none, none]), [0, 0, 0, 0, 0]),
        (
            0,
            sets([one, two, two, one, one]),
            [KILL, KILL, KILL, KILL, KILL],
        ),
    ] {
        for no_new in [false, true] {
            let mut config = bundle.config();
            config["process"]["capabilities"] = given.clone();
            config["process"]["user"]["uid"] = uid.into();
            config["process"]["noNewPrivileges"] = no_new.into();
            bundle.write(&config);
            let text = bundle.ok(&["run", "one"]);
            assert_eq!(shown(&text), expected, "{uid} {given} {no_new}");
        }
    }
}

#[test]
fn what_cannot_be_granted_is_left_out_with_a_warning() {
    let Some(world) = World::new() else { return };
    let odd: &[&str] = &["CAP_KILL", "CAP_NOSUCH", "CAP_CHOWN"];
    let bundle = Bundle::new(&world, SHOW, |config| {
        config["process"]["capabilities"] = sets([odd, odd, odd, &[], &["CAP_KILL"]]);
    });
    // The caller itself has no CAP_CHOWN.
    let run = bundle.call(&["run", "one"]);
    let done = run.wrap(["setpriv", "--bounding-set=-chown"]).done();
    done.expect_code(0);
    assert_eq!(shown(&done.out_text()), [0, KILL, KILL, KILL, 0]);
    let log = std::fs::read_to_string(bundle.log()).unwrap();
    for word in ["CAP_NOSUCH", "CAP_CHOWN,CAP_KILL cannot be granted"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert_eq!(log.lines().count(), 2, "{log}");
    assert_eq!(CHOWN, 1);
}
