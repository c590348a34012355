//! What the keys for containers and imports mean, and which values are refused.

use super::super::*;
use super::Scratch;
use crate::capabilities::{List, Request};
use crate::cli::Userns;
use crate::mounts::{self, MountArgs, Share};
use crate::profile::{ProfileName, SeccompChoice};

fn settings(text: &str, image: &str) -> Settings {
    let scratch = Scratch::new(image);
    let config = Config::load(&scratch.file(text.as_bytes())).unwrap();
    config.settings(Some(image))
}

#[test]
fn an_image_has_its_own_table_over_the_whole_file() {
    let text = r#"
        profile = "outer"
        userns = "host"
        caps = ["ALL"]
        seccomp = "unconfined"
        no_new_privileges = true
        share = ["dev"]
        mounts = ["type=tmpfs,dst=/a"]
        resolv_conf = "/etc/resolv.conf"
        id_pool = "100000:65536"

        [image.main]
        profile = "hardened"
        caps = { add = ["CAP_KILL"], drop = ["mknod", "NET_RAW"] }
        seccomp = "/etc/p.json"
        no_new_privileges = false
        read_only = true
        share = []
        mounts = ["type=tmpfs,dst=/b"]

        [image."nginx-1.27"]
        userns = "0:100000:65536"
    "#;
    let list = |names| List::parse(names).unwrap();
    let mount = |target| mounts::parse(&format!("type=tmpfs,dst={target}")).unwrap();
    let all = Request {
        exact: Some(list("ALL")),
        ..Request::default()
    };
    let whole = Settings {
        profile: Some(ProfileName::Outer),
        userns: Some(Userns::Host),
        caps: vec![all],
        seccomp: Some(SeccompChoice::Unconfined),
        no_new_privileges: Some(true),
        read_only: None,
        share: Some(vec![Share::Dev]),
        mounts: vec![mount("/a")],
        resolv_conf: Some("/etc/resolv.conf".into()),
    };
    assert_eq!(settings(text, "other"), whole);
    let own = Request {
        exact: None,
        add: list("KILL"),
        drop: list("MKNOD,NET_RAW"),
    };
    assert_eq!(
        settings(text, "main"),
        Settings {
            profile: Some(ProfileName::Hardened),
            caps: vec![all, own],
            seccomp: Some(SeccompChoice::File("/etc/p.json".into())),
            no_new_privileges: Some(false),
            read_only: Some(true),
            share: Some(Vec::new()),
            mounts: vec![mount("/a"), mount("/b")],
            ..whole.clone()
        }
    );
    let map = vec![shim::plan::IdRange::new(0, 100_000, 65_536)];
    assert_eq!(
        settings(text, "nginx-1.27"),
        Settings {
            userns: Some(Userns::Map(map)),
            ..whole.clone()
        }
    );
    let flags = MountArgs {
        mounts: vec![mount("/c")],
        share: vec![Share::Sys],
        resolv_conf: None,
    };
    let together = MountArgs {
        mounts: vec![mount("/a"), mount("/c")],
        share: vec![Share::Sys],
        resolv_conf: Some("/etc/resolv.conf".into()),
    };
    assert_eq!(whole.mounts_with(&flags), together);
    assert_eq!(whole.mounts_with(&MountArgs::default()).share, [Share::Dev]);

    let scratch = Scratch::new("whole");
    let config = Config::load(&scratch.file(text.as_bytes())).unwrap();
    assert_eq!(config.settings(None), whole);
    let pool = Pool {
        start: 100_000,
        count: 65_536,
    };
    assert_eq!(config.id_pool, Some(pool));
}

/// A line, and what its message must contain.
const WRONG: &[(&str, &[&str])] = &[
    (
        "profle = \"none\"",
        &["unknown key profle", "did you mean profile?"],
    ),
    (
        "no-new-privileges = true",
        &["did you mean no_new_privileges?"],
    ),
    (
        "profile = \"strict\"",
        &[
            "profile is wrong: strict is not one of its values",
            "give confined, outer",
        ],
    ),
    ("profile = \"hardend\"", &["did you mean hardened?"]),
    ("profile = true", &["profile is of type boolean"]),
    (
        "userns = \"hots\"",
        &["userns is wrong: hots is not one", "did you mean host?"],
    ),
    (
        "userns = \"0:1\"",
        &["userns is wrong: \"0:1\" is no line of a map"],
    ),
    (
        "userns = \"0:0:10,5:100:1\"",
        &["userns is wrong: use id map", "the lines share an id"],
    ),
    (
        "caps = \"ALL\"",
        &["caps is of type string", "give [\"ALL\"]"],
    ),
    (
        "caps = [\"NET_ADMN\"]",
        &[
            "caps is wrong: NET_ADMN is no capability",
            "did you mean NET_ADMIN?",
        ],
    ),
    ("caps = [1]", &["caps is of type integer", "list of texts"]),
    (
        "caps = { ad = [] }",
        &[
            "caps has an unknown key ad",
            "{ add = [...], drop = [...] }",
        ],
    ),
    (
        "caps = { add = [\"ALL\"], drop = [\"all\"] }",
        &["ALL is both added and dropped"],
    ),
    ("caps = { add = \"KILL\" }", &["caps is of type string"]),
    (
        "seccomp = \"defualt\"",
        &["seccomp is wrong: defualt is not", "did you mean default?"],
    ),
    (
        "seccomp = \"./p.json\"",
        &["seccomp is not an absolute path"],
    ),
    (
        "no_new_privileges = \"yes\"",
        &["no_new_privileges is of type string", "true or false"],
    ),
    ("read_only = 1", &["read_only is of type integer"]),
    (
        "share = \"dev\"",
        &["share is of type string", "list of texts"],
    ),
    ("mounts = [\"a\\u0000\"]", &["mounts contains a NUL byte"]),
    (
        "share = [\"dev\", \"sis\"]",
        &["share is wrong: read share", "did you mean sys?"],
    ),
    (
        "mounts = [\"type=tmpfs,dst=/a\", \"type=tmpf,dst=/b\"]",
        &["mounts is wrong: ", "tmpf", "did you mean tmpfs?"],
    ),
    (
        "resolv_conf = \"resolv.conf\"",
        &["resolv_conf is not an absolute path"],
    ),
    (
        "id_pool = \"100000\"",
        &["\"100000\" is no pool of ids", "START:COUNT"],
    ),
    ("id_pool = \"100000:65535\"", &["is no pool of ids"]),
    (
        "id_pool = \"0:65536\"",
        &["is no pool of ids", "which is root"],
    ),
    ("id_pool = \"4294901760:65536\"", &["is no pool of ids"]),
    ("id_pool = \"0100000:65536\"", &["is no pool of ids"]),
    ("pull = 1", &["pull is of type integer", "[pull]"]),
    (
        "pull.plain_htp = []",
        &["unknown key plain_htp", "did you mean plain_http?"],
    ),
    (
        "pull.plain_http = [\"http://a\"]",
        &[
            "plain_http is wrong",
            "http://a is no registry",
            "HOST:PORT",
        ],
    ),
    ("pull.ca_cert = \"ca.pem\"", &["is not an absolute path"]),
    (
        "pull.proxy = \"lan\"",
        &["proxy is no URL of an HTTP proxy"],
    ),
    ("pull.timeout = 0", &["timeout is no number of seconds"]),
    ("pull.timeout = \"1\"", &["timeout is of type string"]),
    ("image = 1", &["image is of type integer", "[image.ID]"]),
    ("image.main = 1", &["main is of type integer", "[image.ID]"]),
    (
        "image.\"a/b\".profile = \"none\"",
        &["use image id \"a/b\": a character", "hint: an id is"],
    ),
    (
        "image.main.base = \"/b\"",
        &[
            "unknown key base",
            "base is said once, above the first table",
        ],
    ),
    (
        "image.main.id_pool = \"1:65536\"",
        &["id_pool is said once"],
    ),
    (
        "image.main.read_onyl = true",
        &["unknown key read_onyl", "did you mean read_only?"],
    ),
    (
        "image.main.caps = [\"x\"]",
        &["caps is wrong: x is no capability"],
    ),
];

#[test]
fn every_value_is_checked_also_of_images_that_are_not_in_use() {
    let scratch = Scratch::new("strict");
    for (line, parts) in WRONG {
        let file = scratch.file(format!("\n{line}\n").as_bytes());
        let text = Config::load(&file).expect_err(line).to_string();
        assert!(text.contains("(line 2): "), "{line}: {text}");
        assert_eq!(text.lines().count(), 2, "{line}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{line}: {part:?} in {text}");
        }
    }
}

#[test]
fn the_example_is_all_comments_and_each_of_them_is_right() {
    let text = include_str!("../../../../docs/config.toml");
    let scratch = Scratch::new("example");
    let as_it_is = Config::load(&scratch.file(text.as_bytes())).unwrap();
    assert_eq!(as_it_is, Config::default());
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect();
    let text = uncommented.join("\n");
    let keys = file::OF_THE_FILE.iter().chain(&file::OF_CONTAINERS);
    for key in keys.chain(&pull::KEYS) {
        let stands = |line: &&str| {
            line.starts_with(&format!("{key} ="))
                || line.starts_with(&format!("[{key}."))
                || **line == format!("[{key}]")
        };
        assert!(uncommented.iter().any(stands), "{key}");
    }
    let config = Config::load(&scratch.file(text.as_bytes())).unwrap();
    assert!(config.id_pool.is_some() && config.images.len() == 2);
    let main = config.settings(Some("main"));
    assert_eq!(main.profile, Some(ProfileName::Hardened));
    assert_eq!(main.caps.len(), 2);
}

#[test]
fn what_an_image_may_take() {
    let scratch = Scratch::new("import");
    let file = scratch.file(
        b"[import]\nmax_size = \"64g\"\nmax_files = 7\nmax_ratio = \"none\"\nmax_window = \"64M\"\n",
    );
    let expected = LimitArgs {
        size: Some(64 << 30),
        files: Some(7),
        ratio: Some(u64::MAX),
        window: Some(64 << 20),
    };
    assert_eq!(Config::load(&file).unwrap().import, expected);
    for (text, parts) in [
        ("import = 1", ["line 1", "[import]"]),
        (
            "[import]\nmax_sise = 1",
            ["line 2", "did you mean max_size?"],
        ),
        (
            "[import]\nmax_size = 0",
            ["line 2", "max_size is wrong: \"0\" is no limit"],
        ),
        ("[import]\nmax_files = true", ["line 2", "or \"none\""]),
    ] {
        let error = Config::load(&scratch.file(text.as_bytes())).unwrap_err();
        for part in parts {
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
