//! Users against made-up and against hostile passwd and group files.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const PASSWD: &str = "\
# comment:x:9:9::/:
root:x:0:0:root:/root:/bin/sh
toor:x:0:7::/toor:
broken
app:x:1000:1000:An App:/home/app:/bin/sh
twice:x:2000:2000::/first:
twice:x:2001:2001::/second:
1001:x:0:0::/trap:
nohome:x:1002:50:::
short:x:1003:51
big:x:4294967295:0::/:
wrap:x:4294967296:0::/:
last:x:4294967294:4294967294::/last:";

const GROUP: &str = "\
root:x:0:
wheel:x:10:root,app
app:x:1000:
audio:x:29:app,twice
audio:x:30:app
again:x:29:app
malformed:x:0x7:app
1234:x:0:app
none:x:60
broken
tail:x:70:someone,app";

fn over(text: &OsStr, passwd: Option<&[u8]>, group: Option<&[u8]>) -> shim::Result<Identity> {
    identity(text, |table| {
        let content = match table {
            Table::Passwd => passwd,
            Table::Group => group,
        };
        Ok(content.map(|bytes| Lines::new(bytes, table)))
    })
}

fn usual(text: &str) -> shim::Result<Identity> {
    over(
        OsStr::new(text),
        Some(PASSWD.as_bytes()),
        Some(GROUP.as_bytes()),
    )
}

/// uid, gid, groups, HOME
type Row<'a> = (u32, u32, &'a [u32], &'a str);

fn row(identity: &Identity) -> Row<'_> {
    (
        identity.uid,
        identity.gid,
        &identity.groups,
        identity.home.to_str().unwrap(),
    )
}

#[test]
fn the_table() {
    let expected: &[(&str, Row<'_>)] = &[
        ("root", (0, 0, &[0, 10], "/root")),
        ("0", (0, 0, &[0, 10], "/root")),
        ("toor", (0, 7, &[7], "/toor")),
        ("app", (1000, 1000, &[0, 10, 29, 30, 70, 1000], "/home/app")),
        (
            "1000",
            (1000, 1000, &[0, 10, 29, 30, 70, 1000], "/home/app"),
        ),
        ("app:wheel", (1000, 10, &[10], "/home/app")),
        ("app:29", (1000, 29, &[29], "/home/app")),
        ("1000:audio", (1000, 29, &[29], "/home/app")),
        ("app:60", (1000, 60, &[60], "/home/app")),
        ("app:none", (1000, 60, &[60], "/home/app")),
        ("app:424242", (1000, 424_242, &[424_242], "/home/app")),
        ("app:0", (1000, 0, &[0], "/home/app")),
        ("app:root", (1000, 0, &[0], "/home/app")),
        // A number is never a name: user "1001" is uid 0, group "1234" is gid 0.
        ("1001", (1001, 0, &[0], "/")),
        ("1001:1234", (1001, 1234, &[1234], "/")),
        ("app:1234", (1000, 1234, &[1234], "/home/app")),
        ("twice", (2000, 2000, &[29, 2000], "/first")),
        ("2001", (2001, 2001, &[29, 2001], "/second")),
        ("nohome", (1002, 50, &[50], "/")),
        ("short", (1003, 51, &[51], "/")),
        (
            "last",
            (4_294_967_294, 4_294_967_294, &[4_294_967_294], "/last"),
        ),
        (
            "4294967294",
            (4_294_967_294, 4_294_967_294, &[4_294_967_294], "/last"),
        ),
        ("2147483648", (2_147_483_648, 0, &[0], "/")),
        ("1000:1001", (1000, 1001, &[1001], "/home/app")),
        ("9", (9, 0, &[0], "/")),
    ];
    for (text, expected) in expected {
        let found = usual(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(row(&found), *expected, "{text}");
    }
    assert_eq!(
        usual("0").unwrap().name.as_deref(),
        Some(OsStr::new("root"))
    );
    assert_eq!(usual("9").unwrap().name, None);
}

#[test]
fn what_is_refused() {
    for text in [
        "",
        ":",
        "1:",
        ":1",
        "app:",
        ":app",
        "01",
        "0x1",
        "-1",
        "+1",
        "1 ",
        " 1",
        "4294967295",
        "4294967296",
        "1:2:3",
        "nobody",
        "ap",
        "appp",
        "App",
        "app:nobody",
        "1:nobody",
        "big",
        "wrap",
        "broken",
        "malformed",
        "app:malformed",
        "app:broken",
        "comment",
        "#",
        "# comment",
        "app\n",
        "root\0",
    ] {
        let error = usual(text).expect_err(text);
        assert_eq!(error.exit_status(), 125, "{text:?}");
        let message = error.to_string();
        assert!(
            message.starts_with("resolve user \"") && message.contains("hint:"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 2, "{message}");
    }
}

#[test]
fn missing_files_leave_numbers_and_root() {
    for (passwd, group) in [
        (None, None),
        (Some(&b""[..]), Some(&b""[..])),
        (Some(b"\n#\n\0"), None),
    ] {
        let run = |text: &str| over(OsStr::new(text), passwd, group);
        assert_eq!(row(&run("root").unwrap()), (0, 0, &[0][..], "/"));
        assert_eq!(row(&run("0").unwrap()), (0, 0, &[0][..], "/"));
        assert_eq!(row(&run("root:root").unwrap()), (0, 0, &[0][..], "/"));
        assert_eq!(row(&run("7").unwrap()), (7, 0, &[0][..], "/"));
        assert_eq!(row(&run("7:8").unwrap()), (7, 8, &[8][..], "/"));
        for text in ["app", "app:1", "1:app", "Root"] {
            assert!(run(text).is_err(), "{text}");
        }
    }
    let error = over(OsStr::new("app"), None, None).unwrap_err().to_string();
    assert!(error.contains("has no /etc/passwd"), "{error}");
    let root = over(OsStr::new("root"), None, Some(b"wheel:x:10:root\n")).unwrap();
    assert_eq!(row(&root), (0, 0, &[0, 10][..], "/"));
}

#[test]
fn a_passwd_that_says_otherwise_about_root_is_believed() {
    let passwd = Some(&b"root:x:5:6::/r:\n"[..]);
    let found = over(OsStr::new("root:root"), passwd, Some(b"root:x:8:\n")).unwrap();
    assert_eq!(row(&found), (5, 8, &[8][..], "/r"));
}

#[test]
fn names_and_homes_are_bytes() {
    let found = over(
        OsStr::from_bytes(b"\xff\xfe"),
        Some(b"\xff\xfe:x:1:2::/h\xfd:\n"),
        Some(b"g:x:3:a,\xff\xfe\n"),
    )
    .unwrap();
    assert_eq!(found.home.as_bytes(), b"/h\xfd");
    assert_eq!(found.groups, [2, 3]);
}

#[test]
fn more_groups_than_a_process_can_have() {
    let groups = |count: u32| {
        let lines: Vec<_> = (1..=count)
            .map(|gid| format!("g{gid}:x:{gid}:app\n"))
            .collect();
        over(
            OsStr::new("app"),
            Some(b"app:x:1:0::/:"),
            Some(lines.concat().as_bytes()),
        )
    };
    assert_eq!(groups(65_535).unwrap().groups.len(), 65_536);
    let error = groups(65_536).unwrap_err().to_string();
    assert!(error.contains("more than 65536 groups"), "{error}");
}

/// Against a second, slow and simple reading of the same files, over many generated ones.
#[test]
fn generated_files_agree_with_a_simple_model() {
    let mut state = 7_u64;
    let mut pick = |choices: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % choices
    };
    let names = ["root", "a", "b", "c", "1001"];
    let numbers = ["0", "1", "5", "1001", "4294967294"];
    for _ in 0..3000 {
        let mut passwd = String::new();
        let mut group = String::new();
        let mut accounts = Vec::new();
        let mut members: Vec<(&str, &str, Vec<&str>)> = Vec::new();
        for _ in 0..pick(5) {
            let (name, uid, gid) = (names[pick(5)], numbers[pick(5)], numbers[pick(5)]);
            passwd.push_str(&format!("{name}:x:{uid}:{gid}::/{name}{uid}:\n"));
            accounts.push((name, uid, gid));
        }
        for _ in 0..pick(6) {
            let (name, gid) = (names[pick(5)], numbers[pick(5)]);
            let list: Vec<_> = (0..pick(4)).map(|_| names[pick(5)]).collect();
            group.push_str(&format!("{name}:x:{gid}:{}\n", list.join(",")));
            members.push((name, gid, list));
        }
        let all: Vec<_> = names.iter().chain(&numbers).collect();
        let who = all[pick(10)];
        let with = [None, Some(all[pick(10)])][pick(2)];
        let text = with.map_or((*who).to_string(), |with| format!("{who}:{with}"));

        let number = |text: &str| text.parse::<u32>().ok();
        let account = accounts.iter().find(|(name, uid, _)| match number(who) {
            Some(_) => uid == who,
            None => name == who,
        });
        let base = match (account, number(who)) {
            (Some((name, uid, gid)), _) => {
                Some((number(uid).unwrap(), number(gid).unwrap(), Some(*name)))
            }
            (None, Some(uid)) => Some((uid, 0, None)),
            (None, None) => (*who == "root").then_some((0, 0, Some("root"))),
        };
        let expected = base.and_then(|(uid, gid, name)| match with {
            Some(with) => {
                let gid = match number(with) {
                    Some(gid) => Some(gid),
                    None => {
                        let listed = members.iter().find(|(name, _, _)| name == with);
                        let listed = listed.and_then(|(_, gid, _)| number(gid));
                        listed.or((*with == "root").then_some(0))
                    }
                }?;
                Some((uid, gid, vec![gid]))
            }
            None => {
                let mut groups = BTreeMap::from([(gid, ())]);
                for (_, gid, list) in &members {
                    if name.is_some_and(|name| list.contains(&name)) {
                        groups.insert(number(gid).unwrap(), ());
                    }
                }
                Some((uid, gid, groups.into_keys().collect()))
            }
        });
        let found = over(
            OsStr::new(&text),
            Some(passwd.as_bytes()),
            Some(group.as_bytes()),
        )
        .ok();
        if let Some(found) = &found {
            assert!(found.groups.is_sorted_by(|a, b| a < b) && found.groups.contains(&found.gid));
        }
        let found = found.map(|found| (found.uid, found.gid, found.groups));
        assert_eq!(found, expected, "{text}\n{passwd}---\n{group}");
    }
}

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("runtime-users-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir_all(top.join("root/etc")).unwrap();
        Self(top)
    }

    fn file(&self, path: &str) -> PathBuf {
        self.0.join("root").join(path)
    }

    fn resolve(&self, text: &str) -> shim::Result<Identity> {
        let root = RootDir::open(&self.0.join("root")).unwrap();
        resolve(&root, OsStr::new(text))
    }

    fn refuses(&self, text: &str, path: &str, why: &str) {
        let error = self.resolve(text).unwrap_err();
        let message = error.to_string();
        let start = format!("read in the root filesystem \"{path}\": ");
        assert!(
            message.starts_with(&start) && message.contains(why),
            "{message}"
        );
        assert!(message.contains("hint:"), "{message}");
        assert_eq!(error.exit_status(), 125);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_in_the_root_filesystem() {
    let tree = Tree::new("plain");
    assert_eq!(row(&tree.resolve("5").unwrap()), (5, 0, &[0][..], "/"));
    fs::write(tree.file("etc/passwd"), PASSWD).unwrap();
    fs::write(tree.file("etc/group"), GROUP).unwrap();
    assert_eq!(tree.resolve("app").unwrap(), usual("app").unwrap());
}

#[test]
fn symlinks_resolve_in_the_root_filesystem() {
    let tree = Tree::new("links");
    fs::write(tree.0.join("outside"), "app:x:0:0::/outside:\n").unwrap();
    fs::write(tree.file("real"), "app:x:44:44::/inside:\n").unwrap();
    fs::create_dir(tree.file("usr")).unwrap();
    for target in ["/real", "../real", "../../../../../real", "/usr/../real"] {
        symlink(target, tree.file("etc/passwd")).unwrap();
        assert_eq!(tree.resolve("app").unwrap().uid, 44, "{target}");
        fs::remove_file(tree.file("etc/passwd")).unwrap();
    }
    // Leads outside, read from the host; inside there is no such file.
    let outside = tree.0.join("outside");
    for target in [outside.as_path(), Path::new("../../outside")] {
        symlink(target, tree.file("etc/passwd")).unwrap();
        let error = tree.resolve("app").unwrap_err().to_string();
        assert!(error.contains("has no /etc/passwd"), "{error}");
        assert_eq!(tree.resolve("root").unwrap().home, "/");
        fs::remove_file(tree.file("etc/passwd")).unwrap();
    }
    // The whole of etc.
    fs::remove_dir(tree.file("etc")).unwrap();
    symlink(&tree.0, tree.file("etc")).unwrap();
    assert_eq!(tree.resolve("7").unwrap().uid, 7);
    fs::remove_file(tree.file("etc")).unwrap();
    symlink("/", tree.file("etc")).unwrap();
    fs::rename(tree.file("real"), tree.file("passwd")).unwrap();
    assert_eq!(tree.resolve("app").unwrap().uid, 44);
}

#[test]
fn what_is_no_regular_file_is_named_and_does_not_block() {
    let tree = Tree::new("kinds");
    let [passwd, group] = ["etc/passwd", "etc/group"].map(|path| tree.file(path));

    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    tree.refuses("0", "/etc/passwd", "is a FIFO");
    fs::remove_file(&passwd).unwrap();

    fs::create_dir(&passwd).unwrap();
    tree.refuses("root", "/etc/passwd", "is a directory");
    fs::remove_dir(&passwd).unwrap();

    let listener = std::os::unix::net::UnixListener::bind(&passwd).unwrap();
    tree.refuses("1", "/etc/passwd", "is a socket");
    drop(listener);
    fs::remove_file(&passwd).unwrap();

    symlink("/etc/passwd", &passwd).unwrap();
    tree.refuses("1", "/etc/passwd", "ELOOP");
    fs::remove_file(&passwd).unwrap();

    nix::unistd::mkfifo(&group, nix::sys::stat::Mode::S_IRWXU).unwrap();
    tree.refuses("1:g", "/etc/group", "is a FIFO");
    tree.refuses("root", "/etc/group", "is a FIFO");
    // Not needed, not looked at.
    assert_eq!(tree.resolve("1:2").unwrap().gid, 2);
    fs::remove_file(&group).unwrap();

    fs::remove_dir(tree.file("etc")).unwrap();
    fs::write(tree.file("etc"), "").unwrap();
    tree.refuses("1", "/etc/passwd", "ENOTDIR");
}

#[test]
fn what_is_too_large_is_named() {
    let tree = Tree::new("large");
    let passwd = tree.file("etc/passwd");
    let sparse = fs::File::create(&passwd).unwrap();
    sparse.set_len(1 << 30).unwrap();
    tree.refuses("0", "/etc/passwd", "larger than 16777216 bytes");
    sparse.set_len(1 << 20).unwrap();
    tree.refuses("0", "/etc/passwd", "a line longer than 65536 bytes");

    let name = "n".repeat(60_000);
    fs::write(&passwd, format!("{name}:x:3:4::/h:\napp:x:5:6::/:\n")).unwrap();
    assert_eq!(tree.resolve("3").unwrap().home, "/h");
    assert_eq!(tree.resolve("app").unwrap().uid, 5);
}
