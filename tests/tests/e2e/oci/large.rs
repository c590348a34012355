//! Much of everything: what is asked for is all there, or it is refused; never a part of it (CVE-2021-43784).

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, Snapshot, World};

/// As many lines as the kernel takes (user_namespaces(7)), of which it merges none.
const LINES: u32 = 340;
const VARIABLES: usize = 100_000;
/// The kernel's MAX_ARG_STRLEN, its zero byte included.
const LONGEST: usize = 128 << 10;

fn with_lines(config: &mut Value, lines: u32) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "user");
    namespaces.push(json!({ "type": "user" }));
    let others = (1..lines).map(|id| (id, 1000 + 2 * id));
    let map: Vec<Value> = std::iter::once((0, 0))
        .chain(others)
        .map(|(inside, outside)| json!({ "containerID": inside, "hostID": outside, "size": 1 }))
        .collect();
    for field in ["uidMappings", "gidMappings"] {
        config["linux"][field] = json!(map);
    }
}

#[test]
fn a_map_of_ids_is_whole_or_refused() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "cat /proc/self/uid_map /proc/self/gid_map", |_| {});
    let mut config = bundle.config();
    with_lines(&mut config, LINES);
    bundle.write(&config);
    let text = bundle.ok(&["run", "one"]);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let mut expected: Vec<Vec<String>> = (1..LINES)
        .map(|id| vec![id.to_string(), (1000 + 2 * id).to_string(), "1".to_owned()])
        .collect();
    expected.insert(0, ["0", "0", "1"].map(str::to_owned).to_vec());
    assert_eq!(lines, [expected.clone(), expected].concat());
    let before = Snapshot::of(&world);
    with_lines(&mut config, LINES + 1);
    bundle.write(&config);
    let done = bundle.call(&["create", "one"]).done();
    done.expect_refused(&[1]);
    before.assert_same(&world);
}

#[test]
fn a_hundred_thousand_variables_are_all_there() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |config| {
        let variables = (0..VARIABLES).map(|number| format!("V{number}={number}"));
        // A shell takes half a minute to look at so many.
        config["process"]["args"] = json!(["env"]);
        config["process"]["env"] = std::iter::once("PATH=/bin".to_owned())
            .chain(variables)
            .collect();
    });
    let text = bundle.ok(&["run", "one"]);
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with('V')).collect();
    assert_eq!(found.len(), VARIABLES);
    assert!(found.contains(&"V99999=99999"));
}

#[test]
fn an_argument_is_whole_or_refused() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "", |_| {});
    fs::create_dir_all(bundle.root()).unwrap();
    let before = Snapshot::of(&world);
    let mut config = bundle.config();
    let mut with = |length: usize| {
        config["process"]["args"] = json!(["sh", "-c", "echo ${#1}", "sh", "x".repeat(length)]);
        bundle.write(&config);
        bundle.call(&["run", "one"]).done()
    };
    let whole = LONGEST - 1;
    assert_eq!(with(whole).expect_ok(), whole.to_string());
    for length in [LONGEST, 1 << 20] {
        let done = with(length);
        done.expect_refused(&[1]);
        let text = done.err_text();
        assert!(text.contains("E2BIG") && text.contains("128 KiB"), "{text}");
    }
    let good = json!(["true"]);
    config["process"]["args"] = good;
    bundle.write(&config);
    before.assert_same(&world);
}
