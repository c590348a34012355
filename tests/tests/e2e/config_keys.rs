//! Each key of `/etc/start-container/config.toml`, said of all and said of an image: what the container then has, as
//! it sees it itself.

use std::path::PathBuf;

use tests::{Rootfs, Run, World, binary, tool, write_file};

use crate::config::with;

/// A key, two values for it, what to ask inside, and the answer with the first value and with the second.
struct Key {
    name: &'static str,
    values: [&'static str; 2],
    ask: &'static str,
    answers: [&'static str; 2],
}

const FILTERED: &str = "grep -q '^Seccomp:.2' /proc/self/status && echo filter || echo none";

const KEYS: [Key; 9] = [
    Key {
        name: "profile",
        values: ["\"hardened\"", "\"none\""],
        ask: "grep CapBnd /proc/self/status | grep -q 0000000000000000 && echo nothing || echo more",
        answers: ["nothing", "more"],
    },
    Key {
        name: "userns",
        values: ["\"identity\"", "\"host\""],
        ask: "readlink /proc/self/ns/user | grep -q $OWN && echo own || echo new",
        answers: ["new", "own"],
    },
    Key {
        name: "caps",
        values: ["[\"KILL\"]", "{ add = [\"CHOWN\"], drop = [\"KILL\"] }"],
        ask: "sed -n 's/^CapEff:.0*//p' /proc/self/status",
        // The image's table changes what the list for all has left.
        answers: ["20", "1"],
    },
    Key {
        name: "seccomp",
        values: ["\"default\"", "\"unconfined\""],
        ask: FILTERED,
        answers: ["filter", "none"],
    },
    Key {
        name: "no_new_privileges",
        values: ["true", "false"],
        ask: "sed -n 's/^NoNewPrivs:.//p' /proc/self/status",
        answers: ["1", "0"],
    },
    Key {
        name: "read_only",
        values: ["true", "false"],
        ask: "touch /new 2> /dev/null && echo written || echo refused",
        answers: ["refused", "written"],
    },
    Key {
        name: "share",
        values: ["[\"sys\"]", "[]"],
        ask: "test -d /sys/kernel && echo there || echo missing",
        answers: ["there", "missing"],
    },
    Key {
        name: "mounts",
        values: [
            "[\"type=tmpfs,dst=/all\"]",
            "[\"type=tmpfs,dst=/of-image,ro\"]",
        ],
        ask: "cut -d' ' -f5 /proc/self/mountinfo | grep -E '^/(all|of-image)' | sort | tr '\\n' ' '",
        // Those of the image come after those for all.
        answers: ["/all", "/all /of-image"],
    },
    Key {
        name: "resolv_conf",
        values: ["\"WORLD/first\"", "\"WORLD/second\""],
        ask: "cat /etc/resolv.conf",
        answers: ["nameserver 192.0.2.1", "nameserver 192.0.2.2"],
    },
];

fn asked(world: &World, text: &str, root: &Rootfs, ask: &str) -> String {
    let own = std::fs::read_link("/proc/self/ns/user").expect("own");
    let number: String = own
        .to_str()
        .expect("text")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let run = world.launch_run(root).opt(format!("--env=OWN={number}"));
    with(world, text, run.sh(ask)).text().trim_end().to_owned()
}

#[test]
fn each_key_holds_for_all_and_the_images_own_wins() {
    let Some(world) = World::new() else { return };
    write_file(world.dir.join("first"), "nameserver 192.0.2.1\n");
    write_file(world.dir.join("second"), "nameserver 192.0.2.2\n");
    let here = world.dir.to_str().expect("path");
    for key in KEYS {
        let [all, of_image] = key.values.map(|value| value.replace("WORLD", here));
        let name = key.name;
        let for_all = format!("{name} = {all}\n");
        let both = format!("{for_all}[image.img]\n{name} = {of_image}\n");
        let only_image = format!("[image.img]\n{name} = {all}\n");
        let other = format!("{for_all}[image.other]\n{name} = {of_image}\n");
        for (text, answer) in [
            (&for_all, key.answers[0]),
            (&both, key.answers[1]),
            (&only_image, key.answers[0]),
            (&other, key.answers[0]),
        ] {
            let root = world.create();
            assert_eq!(asked(&world, text, &root, key.ask), answer, "{text}");
            world.destroy(&root);
        }
    }
}

/// What was made with ids of its own keeps them, whatever is said later.
#[test]
fn ids_come_from_the_pool_it_names() {
    let Some(world) = World::new() else { return };
    let script = r#"set -e
        R=$($SC subcontainer create-fs $P img)
        $SC subcontainer launch $P $R /bin/cat /proc/self/uid_map
        echo 'userns = "host"' > /etc/start-container/config.toml
        $SC subcontainer launch $P $R /bin/cat /proc/self/uid_map
        $SC subcontainer destroy-fs $P ${R##*/}"#;
    for text in [
        "id_pool = \"1900000000:131072\"\nuserns = \"auto\"\n",
        "id_pool = \"1900000000:131072\"\n[image.img]\nuserns = \"auto\"\n",
    ] {
        let run = Run::new(tool("sh")).cmd(["-c", script]);
        let run = run.env("SC", binary()).env("P", world.places().join(" "));
        let maps = with(&world, text, run.env("PATH", "/usr/bin:/bin")).text();
        let numbers: Vec<u32> = maps
            .split_whitespace()
            .map(|number| number.parse().expect("number"))
            .collect();
        let [0, start, 65_536, 0, again, 65_536] = numbers[..] else {
            panic!("{maps}");
        };
        assert_eq!(start, again, "{maps}");
        assert!([1_900_000_000, 1_900_065_536].contains(&start), "{maps}");
    }
}

/// The example in the documentation, with every line that is a setting made one.
#[test]
fn the_documented_file_is_taken() {
    let Some(world) = World::new() else { return };
    let document = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/config.toml");
    let text = std::fs::read_to_string(document).expect("docs/config.toml");
    let settings: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let root = world.create();
    // Any verb reads the whole file; this one needs none of the things that it names.
    let run = world.verb("destroy-fs").cmd([&root.guid]);
    let _ = with(&world, &settings, run).text();
    assert!(!root.path.exists());
}
