//! SIGKILL at each system call of a verb that may change something, of the runtime and of what it forks: whatever is half made
//! then, `delete --force` takes it away, and the id can be used again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Run, Snapshot, World, tool};

/// Calls that change nothing which lasts longer than the process: to be killed before one of them is to be killed before
/// the next that is not among them.
const HARMLESS: [&str; 33] = [
    "access",
    "brk",
    "close",
    "epoll_create1",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "poll",
    "prlimit64",
    "read",
    "readlink",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "statx",
];

/// Each of the calls in the list that counts, as its name and the how-manieth of that name it is.
fn calls(list: &Path) -> Vec<(String, usize)> {
    let text = fs::read_to_string(list).expect("list of system calls");
    let mut counts = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once('(') else {
            continue;
        };
        let count = counts.entry(name.to_owned()).or_insert(0_usize);
        *count += 1;
        let reads = name.starts_with("open") && !rest.contains("O_CREAT");
        if !HARMLESS.contains(&name) && !reads {
            calls.push((name.to_owned(), *count));
        }
    }
    calls
}

/// The verb under strace, which writes a list for each process that it follows. It is not waited for, but for the verb:
/// what that leaves may stay for long.
fn traced(bundle: &Bundle<'_>, verb: &[&str], lists: &Path, options: &[&str]) -> Run {
    let strace = tool("strace");
    let words = [strace.as_os_str(), "-Do".as_ref(), lists.as_os_str()];
    bundle.call(verb).wrap(words).wrap(options)
}

/// Kills `verb` of a container that the calls of `before` have brought about, before each of its calls. `follow` is for
/// strace: whether to go along into what is forked.
fn killed_anywhere(before: &[&[&str]], verb: &[&str], follow: &[&str], at_least: usize) {
    killed_anywhere_with(|_| (), before, verb, follow, at_least);
}

/// The same with another configuration.
fn killed_anywhere_with(
    change: impl FnOnce(&mut Value),
    before: &[&[&str]],
    verb: &[&str],
    follow: &[&str],
    at_least: usize,
) {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "exec sleep 1000", |config: &mut Value| {
        change(config);
        config["linux"]["resources"] = json!({ "pids": { "limit": 50 } });
        if verb == ["run", "one"] {
            config["process"]["args"] = json!(["true"]);
        }
    });
    fs::create_dir_all(bundle.root()).unwrap();
    let lists = world.dir.join("lists");
    fs::create_dir(&lists).unwrap();
    let host = Snapshot::of(&world);
    let prepare = || {
        for words in before {
            bundle.ok(words);
        }
    };
    let remove = || {
        bundle.ok(&["delete", "--force", "one"]);
        host.assert_same(&world);
    };
    prepare();
    let list = lists.join("calls");
    traced(&bundle, verb, &list, follow).done().expect_code(0);
    remove();
    let mut all = Vec::new();
    for entry in fs::read_dir(&lists).unwrap() {
        all.extend(calls(&entry.unwrap().path()));
    }
    all.sort();
    all.dedup();
    assert!(all.len() >= at_least, "{} calls: {all:?}", all.len());
    for (name, count) in &all {
        prepare();
        let inject = format!("--inject={name}:signal=KILL:when={count}");
        let mut options = follow.to_vec();
        options.push(&inject);
        let _ = traced(&bundle, verb, &list, &options).done();
        remove();
    }
}

const CREATE: &[&str] = &["create", "one"];
const RUN: &[&str] = &["run", "-d", "one"];

#[test]
fn a_create_that_is_killed_anywhere_leaves_what_delete_force_removes() {
    killed_anywhere(&[], CREATE, &[], 40);
}

#[test]
fn a_run_that_is_killed_anywhere_with_what_it_forks_likewise() {
    killed_anywhere(&[], &["run", "one"], &["-ff"], 80);
}

/// What a container without a mount namespace mounts is in the host's mount table.
fn shared_mounts(config: &mut Value) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|one| one["type"] != "mount");
}

#[test]
fn a_run_among_the_mounts_of_the_host_likewise() {
    killed_anywhere_with(shared_mounts, &[], &["run", "one"], &["-ff"], 80);
}

#[test]
fn a_delete_among_the_mounts_of_the_host_likewise() {
    let delete = ["delete", "--force", "one"];
    killed_anywhere_with(shared_mounts, &[RUN], &delete, &["-ff"], 10);
}

#[test]
fn a_start_that_is_killed_anywhere_likewise() {
    killed_anywhere(&[CREATE], &["start", "one"], &[], 5);
}

#[test]
fn an_exec_that_is_killed_anywhere_likewise() {
    let exec = ["exec", "-d", "one", "sleep", "999"];
    killed_anywhere(&[RUN], &exec, &[], 20);
}

#[test]
fn a_delete_that_is_killed_anywhere_likewise() {
    killed_anywhere(&[RUN], &["delete", "--force", "one"], &[], 10);
}

#[test]
fn a_signal_to_all_that_is_killed_anywhere_leaves_nothing_frozen() {
    killed_anywhere(&[RUN], &["kill", "--all", "one", "USR1"], &[], 5);
}
