//! What a command that joins a container may do: FIELD S12's table. Nobody gains by an exec what is not asked for, and what is
//! inheritable is never more than the container has (CVE-2022-29162).

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, World};

const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;
const BOTH: u64 = KILL | SETUID;

/// Inheritable, permitted, effective, bounding, ambient, as the kernel shows them.
type Sets = [u64; 5];

fn shown(text: &str) -> Sets {
    let words = text.split_whitespace().skip(1).step_by(2);
    let numbers = words.map(|word| u64::from_str_radix(word, 16).unwrap());
    numbers.collect::<Vec<_>>().try_into().unwrap()
}

/// A container with these sets, and a program in it that has capabilities of its own.
fn start<'w>(world: &'w World, sets: &Value, no_new: bool, of_file: (u64, u64)) -> Bundle<'w> {
    let _ = fs::remove_dir_all(world.dir.join("bundle"));
    let bundle = Bundle::new(world, "exec sleep 1000", |config| {
        config["process"]["capabilities"] = sets.clone();
        config["process"]["noNewPrivileges"] = no_new.into();
    });
    let program = bundle.file("capable/busybox");
    fs::create_dir(bundle.file("capable")).unwrap();
    fs::copy(bundle.file("bin/busybox"), &program).unwrap();
    // struct vfs_cap_data, version 2: they are effective at once.
    let (permitted, inheritable) = of_file;
    let low = |set: u64| u32::try_from(set).unwrap().to_le_bytes();
    let value = [
        0x0200_0001_u32.to_le_bytes(),
        low(permitted),
        low(inheritable),
        [0; 4],
        [0; 4],
    ];
    xattr::set(&program, "security.capability", &value.concat()).unwrap();
    bundle.ok(&["run", "-d", "one"]);
    bundle
}

fn sets(ordinary: &[&str], inheritable: &[&str], ambient: &[&str]) -> Value {
    json!({
        "bounding": ordinary, "permitted": ordinary, "effective": ordinary,
        "inheritable": inheritable, "ambient": ambient,
    })
}

/// What each way to ask for a command gives it, as root and as somebody else.
fn check(bundle: Bundle<'_>, world: &World, program: &str, rows: &[(&str, Value, Sets, Sets)]) {
    let show = [program, "grep", "Cap", "/proc/self/status"];
    let file = world.dir.join("process.json");
    for (options, own, root, other) in rows {
        for (uid, expected) in [("0", root), ("1000", other)] {
            let mut words = vec!["exec", "--user", uid];
            words.extend(options.split_whitespace());
            words.push("one");
            words.extend(show);
            if *own != Value::Null {
                let mut process = bundle.config()["process"].clone();
                process["user"]["uid"] = uid.parse::<u32>().unwrap().into();
                process["args"] = json!(show);
                match own {
                    Value::String(_) => {
                        drop(process.as_object_mut().unwrap().remove("capabilities"))
                    }
                    own => process["capabilities"] = own.clone(),
                }
                fs::write(&file, process.to_string()).unwrap();
                words = vec!["exec", "--process", file.to_str().unwrap(), "one"];
            }
            let what = format!("{program} as {uid}: {words:?} {own}");
            assert_eq!(shown(&bundle.ok(&words)), *expected, "{what}");
        }
    }
    // The container goes with it.
    drop(bundle);
}

#[test]
fn an_exec_has_the_sets_of_the_table() {
    let Some(world) = World::new() else { return };
    let own = || Value::Null;
    for no_new in [false, true] {
        let bundle = start(&world, &sets(&["CAP_KILL"], &[], &[]), no_new, (0, 0));
        let rows = [
            ("", own(), [0, KILL, KILL, KILL, 0], [0, 0, 0, KILL, 0]),
            (
                "--no-new-privs",
                own(),
                [0, KILL, KILL, KILL, 0],
                [0, 0, 0, KILL, 0],
            ),
            (
                "--cap CAP_SETUID",
                own(),
                [0, BOTH, BOTH, BOTH, 0],
                [0, 0, 0, BOTH, 0],
            ),
            (
                "--cap CAP_SETUID --no-new-privs",
                own(),
                [0, BOTH, BOTH, BOTH, 0],
                [0, 0, 0, BOTH, 0],
            ),
            // A process.json: its own sets, whether more, others or none, and without any those of the container.
            (
                "",
                sets(&["CAP_SETUID"], &[], &[]),
                [0, SETUID, SETUID, SETUID, 0],
                [0, 0, 0, SETUID, 0],
            ),
            (
                "",
                sets(&["CAP_KILL", "CAP_SETUID"], &[], &[]),
                [0, BOTH, BOTH, BOTH, 0],
                [0, 0, 0, BOTH, 0],
            ),
            ("", json!({}), [0; 5], [0; 5]),
            (
                "",
                "without".into(),
                [0, KILL, KILL, KILL, 0],
                [0, 0, 0, KILL, 0],
            ),
        ];
        check(bundle, &world, "busybox", &rows);
    }
}

#[test]
fn only_a_container_that_has_ambient_ones_hands_them_to_an_exec() {
    let Some(world) = World::new() else { return };
    let (kill, both) = (["CAP_KILL"], ["CAP_KILL", "CAP_SETUID"]);
    for no_new in [false, true] {
        let bundle = start(&world, &sets(&kill, &kill, &kill), no_new, (0, 0));
        let rows = [
            ("", Value::Null, [KILL; 5], [KILL; 5]),
            // An ambient one must be inheritable, and --cap makes none so.
            (
                "--cap CAP_SETUID",
                Value::Null,
                [KILL, BOTH, BOTH, BOTH, KILL],
                [KILL, KILL, KILL, BOTH, KILL],
            ),
            ("", sets(&both, &both, &both), [BOTH; 5], [BOTH; 5]),
        ];
        check(bundle, &world, "busybox", &rows);
    }
}

#[test]
fn a_program_with_capabilities_gains_by_an_exec_what_it_gains_in_the_container() {
    let Some(world) = World::new() else { return };
    let mut kill = sets(&["CAP_KILL"], &[], &[]);
    let own = || Value::Null;
    // What it grants to who has it inheritable: nobody has, also not what --cap has added.
    let bundle = start(&world, &kill, false, (0, BOTH));
    let rows = [
        ("", own(), [0, KILL, KILL, KILL, 0], [0, 0, 0, KILL, 0]),
        (
            "--cap CAP_SETUID",
            own(),
            [0, BOTH, BOTH, BOTH, 0],
            [0, 0, 0, BOTH, 0],
        ),
    ];
    check(bundle, &world, "/capable/busybox", &rows);
    // What it grants anybody, within the bounding set; and root gets all of that. With no_new_privs nobody gets more than the
    // command was permitted.
    kill["bounding"] = json!(["CAP_KILL", "CAP_SETUID"]);
    let (gained, kept) = (
        ([0, BOTH, BOTH, BOTH, 0], [0, SETUID, SETUID, BOTH, 0]),
        ([0, KILL, KILL, BOTH, 0], [0, 0, 0, BOTH, 0]),
    );
    let bundle = start(&world, &kill, false, (SETUID, 0));
    let rows = [
        ("", own(), gained.0, gained.1),
        ("--no-new-privs", own(), kept.0, kept.1),
    ];
    check(bundle, &world, "/capable/busybox", &rows);
    let bundle = start(&world, &kill, true, (SETUID, 0));
    check(
        bundle,
        &world,
        "/capable/busybox",
        &[("", own(), kept.0, kept.1)],
    );
}

#[test]
fn a_capability_that_is_none_is_refused() {
    let Some(world) = World::new() else { return };
    let bundle = start(&world, &sets(&["CAP_KILL"], &[], &[]), false, (0, 0));
    let exec = bundle.call(&["exec", "--cap", "NOSUCH", "one", "true"]);
    exec.done().expect_refused(&[255]);
}
