//! What init decides, and what telling it costs.

#![allow(
    clippy::expect_used,
    reason = "a fixture that cannot be made ends the benchmark"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use init::policy;
use init::protocol::{ALL_CAPABILITIES, Role, Spec};

const SPEC: Spec = Spec {
    role: Role::Attend,
    report: 12,
    streams: [13, 14, 15],
    terminal: -1,
    liveness: 8,
    procfs: 7,
    drains: [16, 17],
    hold: [-1, -1],
    outlives: false,
    filter: -1,
    filter_flags: 0,
    label: -1,
    capabilities: ALL_CAPABILITIES,
    sets: None,
    no_new_privileges: false,
    set_groups: true,
    uid: 1000,
    gid: 1000,
    umask: 0o022,
    preserved: 0,
    tells_pid: false,
    candidates: 6,
};

fn protocol(criterion: &mut Criterion) {
    let groups = [1000, 2000];
    let mut line = String::new();
    SPEC.encode(&groups, &mut line)
        .expect("a String takes everything");
    criterion.bench_function("encode a specification", |bencher| {
        bencher.iter(|| {
            let mut line = String::new();
            SPEC.encode(black_box(&groups), &mut line).map(|()| line)
        });
    });
    criterion.bench_function("decode a specification", |bencher| {
        bencher.iter(|| {
            Spec::decode(black_box(line.as_bytes())).map(|(spec, groups)| (spec, groups.count()))
        });
    });
}

fn decisions(criterion: &mut Criterion) {
    let line = b"4711 (a name (with) brackets) S 1 4711 4711 0 -1 4194560 200 0 0 0 0 0 0 0 20 0 1 0 100 1000 20";
    criterion.bench_function("find the parent in a stat line", |bencher| {
        bencher.iter(|| policy::parent_in_stat(black_box(line)));
    });
    criterion.bench_function("turn a wait status into an exit code", |bencher| {
        bencher.iter(|| policy::exit_code(black_box(0x8b)));
    });
}

criterion_group!(benches, protocol, decisions);
criterion_main!(benches);
