//! `cargo xtask COMMAND`: everything that is done with this repository besides writing it. One `task_*.rs` per command.
//!
//! Nothing here is part of the product, and nothing here knows more about it than its command line and its files.

mod bench;
mod children;
mod conformance;
mod demo_image;
mod demo_oci;
mod demo_stage;
mod elf;
mod oci_layout;
mod programs;
mod rust_source;
mod task_build;
mod task_ci;
mod task_contract;
mod task_demo;
mod task_fuzz;
mod task_guest;
mod task_licences;
mod task_test;
mod task_unsafe;
mod traces;
mod vm;

use std::process::ExitCode;

/// What a task ends with; the text is the one line (or paragraph) that `main` prints.
type Result<T, E = String> = std::result::Result<T, E>;

struct Task {
    name: &'static str,
    /// What may follow the name; most take nothing.
    words: &'static str,
    about: &'static str,
    run: fn(&[&str]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "build",
        words: "",
        about: "build the release binaries and check that each is one static file",
        run: |_| task_build::run(),
    },
    Task {
        name: "guest",
        words: "",
        about: "build the static program that test images contain",
        run: |_| task_guest::run(),
    },
    Task {
        name: "demo",
        words: "",
        about: "image, container, commands, and nothing left; needs cargo and root",
        run: |_| task_demo::run(),
    },
    Task {
        name: "test",
        words: "",
        about: "install what the tests need and run them all; REQUIRE=all makes a skipped test a failure",
        run: |_| task_test::run(),
    },
    Task {
        name: "vm",
        words: "[--kernel 6.1|6.12] [--system bookworm|trixie] [FILTER... | --conformance DIR [SUITE...]]",
        about: "run end-to-end tests, or the public suites, in an emulated Debian with systemd and cgroups of version 2",
        run: vm::run,
    },
    Task {
        name: "bench",
        words: "[NAME...] [RUNS] [--json FILE] [--dir DIR]",
        about: "measure beside the peers that are installed: unpack",
        run: bench::run,
    },
    Task {
        name: "fuzz",
        words: "archive|config [SECONDS] [SEED]",
        about: "import almost right archives and documents, and look at what must always hold",
        run: task_fuzz::run,
    },
    Task {
        name: "conformance",
        words: "DIR [--systemd-cgroup] [--beside=NAME] [--seconds=N] [SUITE[/FILE]...]",
        about: "run the public test-suites of OCI runtimes, fetched to DIR, beside crun, runc and youki",
        run: conformance::run,
    },
    Task {
        name: "licences",
        words: "",
        about: "check the licence of every dependency against the list in xtask",
        run: |_| task_licences::run(),
    },
    Task {
        name: "unsafe",
        words: "",
        about: "count `unsafe` per package and refuse it outside shim/src/sys and init",
        run: |_| task_unsafe::run(),
    },
    Task {
        name: "contract",
        words: "",
        about: "check that docs/contract.md names only tests that exist",
        run: |_| task_contract::run(),
    },
    Task {
        name: "ci",
        words: "",
        about: "all of these, with formatting, lints and documentation",
        run: |_| task_ci::run(),
    },
];

impl Task {
    /// Its name and what may follow.
    fn line(&self) -> String {
        format!("{} {}", self.name, self.words)
            .trim_end()
            .to_string()
    }
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND\n");
    for task in TASKS {
        text.push_str(&format!("  {:<11} {}\n", task.name, task.about));
    }
    text.push_str("  help        this list");
    text
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(code) = bench::measured_child(&words) {
        return code;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["help" | "--help" | "-h"] => {
            println!("{}", usage());
            ExitCode::SUCCESS
        }
        [] => {
            eprintln!("{}", usage());
            ExitCode::from(2)
        }
        [name, rest @ ..] => match TASKS.iter().find(|task| task.name == *name) {
            None => {
                eprintln!("xtask: unknown command \"{name}\"\n{}", usage());
                ExitCode::from(2)
            }
            Some(task) if matches!(rest, ["--help" | "-h"]) => {
                println!("usage: cargo xtask {}\n  {}", task.line(), task.about);
                ExitCode::SUCCESS
            }
            Some(task) if !rest.is_empty() && task.words.is_empty() => {
                eprintln!(
                    "xtask {name}: takes no arguments, got {rest:?}\nusage: cargo xtask {}",
                    task.name
                );
                ExitCode::from(2)
            }
            Some(task) => match (task.run)(rest) {
                Ok(()) => ExitCode::SUCCESS,
                Err(message) => {
                    eprintln!("xtask {name}: {message}");
                    ExitCode::FAILURE
                }
            },
        },
    }
}
