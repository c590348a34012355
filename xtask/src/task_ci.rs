//! `cargo xtask ci`: every check there is, one stage after the other. A stage that fails does not keep the next ones from
//! running, so that one run tells everything; the last line counts them.

use std::time::{Duration, Instant};

use crate::{
    Result, programs, task_build, task_contract, task_demo, task_licences, task_test, task_unsafe,
};

type Stage = (&'static str, fn() -> Result<()>);

/// Cheap ones first.
const STAGES: &[Stage] = &[
    ("format", || {
        programs::run(programs::cargo().args(["fmt", "--all", "--check"]))
    }),
    ("unsafe", task_unsafe::run),
    ("contract", task_contract::run),
    ("licences", task_licences::run),
    ("clippy", || {
        let what = ["clippy", "--workspace", "--all-targets"];
        programs::run(programs::cargo().args(what).args(["--", "-D", "warnings"]))
    }),
    // The program that is PID 1 is built by shim/build.rs with rustc alone, so the stage above does not see it.
    ("clippy of init", || {
        let what = ["clippy", "--package", "start-container-init"];
        let bin = ["--bin", "init", "--features", "freestanding"];
        let mut command = programs::cargo();
        programs::run(command.args(what).args(bin).args(["--", "-D", "warnings"]))
    }),
    ("documentation", || {
        let mut command = programs::cargo();
        command.args(["doc", "--workspace", "--no-deps"]);
        programs::run(command.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("build", task_build::run),
    ("test", task_test::run),
    ("demo", task_demo::run),
];

/// Runs all stages.
pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    let mut failed = Vec::new();
    let mut times = Vec::new();
    for (name, stage) in STAGES {
        println!("\n=== {name}");
        let begun = Instant::now();
        let outcome = stage();
        let verdict = match &outcome {
            Ok(()) => "passed",
            Err(_) => "FAILED",
        };
        println!("=== {name} {verdict} in {}", seconds(begun.elapsed()));
        times.push((*name, verdict, begun.elapsed()));
        if let Err(why) = outcome {
            eprintln!("{name}: {why}");
            failed.push(*name);
        }
    }
    println!();
    for (name, verdict, time) in times {
        println!("{name:<16} {verdict} {:>9}", seconds(time));
    }
    println!("{:<16}        {:>9}", "all", seconds(start.elapsed()));
    println!(
        "{} passed, {} failed",
        STAGES.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
