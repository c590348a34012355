//! What deciding costs, from the words of an exec to its plan, before the first system call that changes anything.

#![allow(
    clippy::expect_used,
    reason = "a fixture that cannot be made ends the benchmark"
)]

use std::ffi::{CString, OsStr, OsString};
use std::hint::black_box;
use std::path::Path;

use benches::{Rootfs, exec_words};
use criterion::{Criterion, criterion_group, criterion_main};
use runtime::{cli, environment, users};
use shim::RootDir;
use shim::plan::{Exec, Namespaces, Plan, Privileges, Process};
use shim::stdio::{StreamKind, TerminalWish};

fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    (0..30).map(|number| {
        (
            format!("VARIABLE_{number}").into(),
            "a value of some length".into(),
        )
    })
}

fn parse(criterion: &mut Criterion) {
    let words = exec_words(Path::new("/media/startos/subcontainers/0123456789abcdef"));
    criterion.bench_function("parse the command line", |bencher| {
        bencher.iter(|| cli::parse(black_box(words.clone())));
    });
}

fn resolve(criterion: &mut Criterion) {
    let rootfs = Rootfs::new().expect("a temporary directory");
    let dir = RootDir::open(rootfs.path()).expect("it was just made");
    for user in ["root", "app", "1000:2000"] {
        criterion.bench_function(&format!("resolve the user {user}"), |bencher| {
            bencher
                .iter(|| users::resolve(&dir, OsStr::new(black_box(user))).expect("it is listed"));
        });
    }
}

fn compose(criterion: &mut Criterion) {
    let explicit = [(
        OsString::from("PATH"),
        OsString::from("/usr/local/bin:/usr/bin:/bin"),
    )];
    criterion.bench_function("compose the environment", |bencher| {
        bencher.iter(|| {
            environment::compose(inherited(), None, black_box(&explicit), OsStr::new("/root"))
        });
    });
    let environment = environment::compose(inherited(), None, &explicit, OsStr::new("/root"))
        .expect("no file to read");
    criterion.bench_function("join the command with PATH", |bencher| {
        bencher.iter(|| environment::candidates(black_box(&environment), c"curl"));
    });
}

fn steps(criterion: &mut Criterion) {
    let plan = Exec {
        rootfs: "/media/startos/subcontainers/0123456789abcdef".into(),
        namespaces: Namespaces::SUBCONTAINER.with_user(),
        privileges: Privileges::default(),
        set_groups: true,
        detached: false,
        shared_root: false,
        keeps_keyring: false,
        process: Process {
            arguments: vec![CString::from(c"true")],
            candidates: vec![CString::from(c"/bin/true")],
            environment: Vec::new(),
            workdir: CString::from(c"/"),
            uid: 0,
            gid: 0,
            groups: vec![0],
            umask: 0o022,
            limits: Vec::new(),
            personality: None,
            memory_policy: None,
        },
        stdio: shim::stdio::plan([StreamKind::Socket; 3], &TerminalWish::default()),
    };
    criterion.bench_function("list the steps", |bencher| {
        bencher.iter(|| Plan::Exec(black_box(&plan)).steps())
    });
}

criterion_group!(benches, parse, resolve, compose, steps);
criterion_main!(benches);
