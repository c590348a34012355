//! Every archive of the hostile corpus, in each way, as root and as an ordinary user: what comes of it is in the golden
//! list, the tree outside is the same afterwards, and a failed import leaves nothing.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use tests::hostile::archives;
use tests::tree::Tree;
use tests::{Done, Run, World, assert_golden, binary, write_file};

use super::ways::{Way, top, world_in_memory};
use crate::rootless::User;

/// Who imports: the words before the binary, and the uid.
struct Caller {
    name: &'static str,
    wrap: Vec<String>,
    uid: u32,
}

#[test]
fn what_comes_of_each_archive_is_in_the_golden_list() {
    let Some(world) = world_in_memory() else {
        return;
    };
    // Its mount namespace is a copy of ours that has the world's memory already.
    let Some(user) = User::granted() else { return };
    let callers = [
        Caller {
            name: "root",
            wrap: Vec::new(),
            uid: 0,
        },
        Caller {
            name: "user",
            wrap: user.wrap(user.uid),
            uid: user.uid,
        },
    ];
    let outside = top(&world).join("outside");
    let archives = archives(&outside);
    assert!(archives.len() >= 100, "{}", archives.len());
    let mut text = String::new();
    for archive in &archives {
        let outcomes: Vec<(String, String)> = callers
            .iter()
            .flat_map(|caller| Way::ALL.map(|way| (caller, way)))
            .map(|(caller, way)| {
                let name = format!("{}, {}", caller.name, way.id());
                println!("{}: {name}", archive.name);
                let outcome = outcome(&world, caller, way, &archive.data, &outside);
                (name, outcome)
            })
            .collect();
        writeln!(text, "{}", archive.name).expect("text");
        let (_, first) = &outcomes[0];
        if outcomes.iter().all(|(_, outcome)| outcome == first) {
            writeln!(text, "  {first}").expect("text");
        } else {
            for (name, outcome) in outcomes {
                writeln!(text, "  {name}: {outcome}").expect("text");
            }
        }
    }
    assert_golden("hostile.txt", &text);
}

/// Imports an archive and gives the error, or the tree that it became.
fn outcome(world: &World, caller: &Caller, way: Way, data: &[u8], outside: &Path) -> String {
    let top = top(world);
    prepare(world, caller, outside);
    let source = top.join("input.tar");
    write_file(&source, data);
    let before = (Tree::of(outside), changes(outside));
    let import = Run::new(binary())
        .wrap(&caller.wrap)
        .verb(["image", "import"])
        .verb(world.places())
        .opts(way.options())
        .cwd(top)
        .cmd([&source]);
    let done = import.done();
    before.0.assert_same("before", &Tree::of(outside), "after");
    assert_eq!(
        before.1,
        changes(outside),
        "something was set to what it was"
    );
    if done.code() == Some(0) {
        return format!("imported: {}", shape(&way.tree(world), outside));
    }
    done.expect_refused(&[125]);
    let left = names(&world.base.join("images"));
    assert!(left.is_empty(), "left of an import that failed: {left:?}");
    let temporary: Vec<String> = names(&world.data.join("layers"))
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(temporary.is_empty(), "left of a layer: {temporary:?}");
    refusal(&done, world)
}

/// The tree in a line. The path of the tree outside, which differs from run to run, is `@`, and below the root `(@)`.
fn shape(tree: &Tree, outside: &Path) -> String {
    let outside = outside.to_str().expect("path");
    let inside = outside.trim_start_matches('/');
    let leads_there = |line: &String| {
        let name = line.split(' ').next().unwrap_or_default();
        inside.starts_with(&format!("{name}/"))
    };
    let mut lines = tree.shape();
    lines.retain(|line| !leads_there(line));
    let line = lines.join("; ");
    line.replace(outside, "@").replace(inside, "(@)")
}

/// When each name of the tree outside was changed last, its mode and owner included.
fn changes(outside: &Path) -> [(i64, i64); 6] {
    [".", "victim", "sub", "sub/inner", "passwd", "link"].map(|name| {
        let found = fs::symlink_metadata(outside.join(name)).expect("a name outside");
        (found.ctime(), found.ctime_nsec())
    })
}

/// The tree outside, and empty directories of the store, all of them the caller's own.
fn prepare(world: &World, caller: &Caller, outside: &Path) {
    let _ = fs::remove_dir_all(outside);
    write_file(outside.join("victim"), "untouched");
    write_file(outside.join("sub/inner"), "untouched");
    write_file(outside.join("passwd"), "untouched");
    symlink("victim", outside.join("link")).expect("link");
    for directory in [&world.base, &world.state, &world.data] {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir(directory).expect("directory");
    }
    let own = [".", "victim", "sub", "sub/inner", "passwd"].map(|name| outside.join(name));
    let store = [&world.base, &world.state, &world.data];
    for path in own.iter().chain(store) {
        chown(path, Some(caller.uid), Some(caller.uid)).expect("chown");
    }
    // A root filesystem may be entered by everybody, and so may what leads to it.
    fs::set_permissions(top(world), fs::Permissions::from_mode(0o755)).expect("mode");
}

/// The first line of the error, without what differs from run to run.
fn refusal(done: &Done, world: &World) -> String {
    let text = done.err_text();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("start-container: ").unwrap_or(line);
    let top = top(world).to_str().expect("path");
    format!("refused: {}", line.replace(top, ""))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
