//! What is decided from entries, shares and a root filesystem; without root, since nothing is changed.

use std::os::unix::fs::symlink;

use super::super::{parse, parse_share};
use super::*;

/// A directory with `base/volumes/main`, `root/etc/plain` and `root/link`.
struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mounts-plan-{}-{name}", std::process::id()));
        for directory in ["base/volumes/main", "root/etc", "root/dev"] {
            std::fs::create_dir_all(dir.join(directory)).unwrap();
        }
        std::fs::write(dir.join("root/etc/plain"), "").unwrap();
        symlink("etc", dir.join("root/link")).unwrap();
        Self(dir)
    }

    fn plan(&self, share: &str, entries: &[&str], id_maps: Option<&IdMaps>) -> Result<Vec<Mount>> {
        let args = MountArgs {
            mounts: entries.iter().map(|entry| parse(entry).unwrap()).collect(),
            share: if share.is_empty() {
                Vec::new()
            } else {
                parse_share(share).unwrap()
            },
            resolv_conf: None,
        };
        let around = Surroundings {
            rootfs: &RootDir::open(&self.0.join("root")).unwrap(),
            dirs: &Dirs {
                base: self.0.join("base"),
                state: "/run/no/such-state".into(),
                data: self.0.join("data"),
            },
            id_maps,
            sys_readonly: true,
        };
        plan(&args, around)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn targets(mounts: &[Mount]) -> Vec<String> {
    mounts
        .iter()
        .map(|mount| mount.target.to_string())
        .collect()
}

#[test]
fn shares_are_slaves_and_sys_is_read_only_where_the_container_is_confined() {
    let room = Room::new("shares");
    let mounts = room.plan("sys,dev", &[], None).unwrap();
    assert_eq!(targets(&mounts), ["/dev", "/sys"]);
    let readonly: Vec<Vec<_>> = mounts
        .iter()
        .map(|one| one.attributes.names().collect())
        .collect();
    assert_eq!(readonly, [vec![], vec!["ro"]]);
    for mount in &mounts {
        assert!(matches!(
            mount.content,
            Content::Bind {
                propagation: Propagation::Slave,
                recursive: true,
                file: false,
                ..
            }
        ));
    }
}

#[test]
fn our_own_state_is_not_shared() {
    let room = Room::new("state");
    assert_eq!(targets(&room.plan("dev", &[], None).unwrap()), ["/dev"]);
    let mounts = room.plan("run", &[], None).unwrap();
    assert_eq!(targets(&mounts), ["/run", "/run/no/such-state"]);
    assert!(!mounts[1].make_target && matches!(mounts[1].content, Content::Tmpfs { .. }));
    let entry = "type=tmpfs,dst=/run/no/such-state";
    assert!(room.plan("run", &[entry], None).is_err());
}

#[test]
fn parents_come_first_and_nothing_is_made_in_a_share() {
    let room = Room::new("order");
    let entries = [
        "type=tmpfs,dst=/dev/a",
        "type=tmpfs,dst=/a/b/c",
        "type=tmpfs,dst=/a",
        "type=tmpfs,dst=/z",
    ];
    let mounts = room.plan("dev", &entries, None).unwrap();
    assert_eq!(targets(&mounts), ["/dev", "/a", "/z", "/dev/a", "/a/b/c"]);
    let made: Vec<_> = mounts.iter().map(|mount| mount.make_target).collect();
    assert_eq!(made, [true, true, true, false, true]);
}

#[test]
fn what_does_not_fit_the_root_filesystem_names_the_entry() {
    let room = Room::new("fit");
    for (entries, word) in [
        (&["type=tmpfs,dst=/link"][..], "/link is a symlink"),
        (&["type=tmpfs,dst=/link/x"], "/link is a symlink"),
        (&["type=tmpfs,dst=/etc/plain"], "/etc/plain is a file"),
        (&["type=tmpfs,dst=/etc/plain/x"], "/etc/plain/x: ENOTDIR"),
        (
            &["type=bind,src=/etc/passwd,dst=/etc"],
            "the source is a file and /etc a directory",
        ),
        (&["type=bind,src=/no/such,dst=/x"], "ENOENT"),
        (&["type=volume,src=mian,dst=/x"], "did you mean main?"),
        (
            &["type=tmpfs,dst=/x", "type=tmpfs,dst=/x/"],
            "/x is mounted twice",
        ),
        (
            &[
                "type=bind,src=/etc,dst=/x,propagation=shared",
                "type=tmpfs,dst=/x/y",
            ],
            "it lies in /x, which is shared",
        ),
    ] {
        let error = room.plan("", entries, None).unwrap_err().to_string();
        assert!(error.contains(word), "{word:?} in {error}");
        assert!(error.contains(entries[entries.len() - 1]), "{error}");
        assert_eq!(error.lines().count(), 2, "{error}");
    }
    // A source that is there is not said to be misspelt.
    symlink("loop", room.0.join("loop")).unwrap();
    let entry = format!("type=bind,src={}/loop,dst=/x", room.0.display());
    let error = room.plan("", &[&entry], None).unwrap_err().to_string();
    assert!(
        error.contains("ELOOP") && error.contains("can the caller reach it?"),
        "{error}"
    );
    // What another entry covers is not the root filesystem's.
    assert!(
        room.plan(
            "",
            &["type=tmpfs,dst=/etc", "type=tmpfs,dst=/etc/plain"],
            None
        )
        .is_ok()
    );
}

#[test]
fn a_map_leads_to_ids_inside_which_are_those_on_disk_without_one() {
    let room = Room::new("ids");
    let line = IdRange::new;
    let maps = |line: IdRange| IdMaps {
        users: vec![line],
        groups: vec![line],
    };
    let entries = [
        "type=volume,src=main,dst=/a",
        "type=volume,src=main,dst=/b,idmap=500:1",
        "type=bind,src=/etc,dst=/c",
        "type=bind,src=/etc,dst=/d,idmap=0:7:2",
        "type=bind,src=/proc/sys,dst=/e",
    ];
    let idmaps = |id_maps: Option<&IdMaps>| -> Vec<Vec<String>> {
        let mounts = room.plan("", &entries, id_maps).unwrap();
        let lines = mounts.iter().map(|mount| match &mount.content {
            Content::Bind { idmap, .. } => idmap.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        });
        lines.collect()
    };
    let none: &[&str] = &[];
    assert_eq!(idmaps(None), [none, &["500:1:1"], none, &["0:7:2"], none]);
    let same = maps(IdRange::IDENTITY);
    assert_eq!(
        idmaps(Some(&same)),
        [none, &["500:1:1"], none, &["0:7:2"], none]
    );
    let own = maps(line(0, 100_000, 65_536));
    let all = &["0:100000:65536"][..];
    assert_eq!(
        idmaps(Some(&own)),
        [all, &["500:100001:1"], all, &["0:100007:2"], none]
    );
    let entry = "type=bind,src=/etc,dst=/d,idmap=0:65536";
    let error = room.plan("", &[entry], Some(&own)).unwrap_err().to_string();
    assert!(
        error.contains("the container has no id 65536") && error.contains(entry),
        "{error}"
    );
}
