//! The public test-suites: where each has its files, and how one of them is run against a runtime.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Result, children, programs};

/// How long a suite may take to tell what is in it.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

/// A suite that was fetched and built by hand: `DIR/NAME`.
pub(super) struct Suite {
    pub(super) name: &'static str,
    files: Files,
    /// What must be there, and how it gets there.
    needs: &'static [(&'static str, &'static str)],
    /// The words that run a file: FILE, RUNTIME and TOP (the suite's directory) are replaced.
    words: &'static [&'static str],
    /// Variables of its environment, likewise.
    environment: &'static [(&'static str, &'static str)],
    /// What has it ask for cgroups of systemd's; nothing where it cannot.
    systemd: Option<(&'static str, &'static str)>,
    /// Whether it is run where it is, and not in an empty directory.
    in_place: bool,
    /// Files that are left out, and why.
    pub(super) left_out: &'static [(&'static str, &'static str)],
    /// Files with tests that may wait for ever, which are run one by one.
    alone: Alone,
}

/// How tests of a file are run one by one.
struct Alone {
    files: &'static [&'static str],
    /// The words that print the names of a file's tests: FILE is replaced.
    names: &'static [&'static str],
    /// The variable that says which of them is to be run.
    variable: &'static str,
}

impl Alone {
    const NOTHING: Self = Self {
        files: &[],
        names: &[],
        variable: "",
    };
}

/// What is run one after the other.
enum Files {
    /// The test files of a directory and those below it, by their prefix and suffix.
    In(&'static str, &'static str, &'static str),
    /// The lines that this command prints: tests of one program that ends all when one of them goes wrong.
    Told(&'static [&'static str]),
}

/// In the order of the table.
pub(super) const SUITES: [Suite; 4] = [
    Suite {
        name: "runtime-tools",
        files: Files::In("validation", "", ".t"),
        needs: &[
            ("runtimetest", "make runtimetest"),
            ("validation/create/create.t", "make validation-executables"),
        ],
        words: &["FILE"],
        environment: &[("RUNTIME", "RUNTIME")],
        systemd: None,
        in_place: true,
        left_out: &[],
        alone: Alone::NOTHING,
    },
    Suite {
        name: "crun",
        files: Files::In("tests", "test_", ".py"),
        needs: &[(
            "tests/init",
            "touch config.h; gcc -static -I. -o tests/init tests/init.c",
        )],
        words: &["python3", "FILE"],
        environment: &[("OCI_RUNTIME", "RUNTIME"), ("INIT", "TOP/tests/init")],
        systemd: Some(("CGROUP_MANAGER", "systemd")),
        in_place: false,
        left_out: &[
            ("test_checkpoint_restore.py", "checkpoint is out of scope"),
            ("test_custom_handler.py", "crun's own handlers"),
        ],
        alone: Alone {
            files: &["test_seccomp.py"],
            names: &[
                "python3",
                "-c",
                "import sys, os, runpy; sys.path.append(os.path.dirname(sys.argv[1])); \
                 print(*runpy.run_path(sys.argv[1])['all_tests'], sep='\\n')",
                "FILE",
            ],
            variable: "RUN_TESTS",
        },
    },
    Suite {
        name: "runc",
        files: Files::In("tests/integration", "", ".bats"),
        needs: &[
            ("tests/cmd/_bin/recvtty", "make test-binaries"),
            (
                "tests/integration/testdata/busybox-amd64.tar.xz",
                "see docs/conformance.md",
            ),
        ],
        // runc opens /dev/tty, so there has to be a terminal; and one whose other side never ends.
        words: &[
            "sh",
            "-c",
            "mkfifo \"$TMPDIR/in\" && exec script --quiet --return --command \"bats --tap $0\" /dev/null <> \"$TMPDIR/in\"",
            "FILE",
        ],
        environment: &[("RUNC", "RUNTIME")],
        systemd: Some(("RUNC_USE_SYSTEMD", "yes")),
        in_place: true,
        left_out: &[("checkpoint.bats", "checkpoint is out of scope")],
        alone: Alone::NOTHING,
    },
    Suite {
        name: "youki",
        files: Files::Told(&["./contest", "list"]),
        needs: &[
            ("contest", "just youki-contest"),
            ("runtimetest", "just youki-contest"),
            ("bundle.tar.gz", "cp tests/contest/contest/bundle.tar.gz ."),
        ],
        words: &[
            "./contest",
            "run",
            "--runtime",
            "RUNTIME",
            "--runtimetest",
            "./runtimetest",
            "-t",
            "FILE",
        ],
        environment: &[],
        systemd: None,
        in_place: true,
        left_out: &[],
        alone: Alone::NOTHING,
    },
];

/// One file of a suite, ready to be run.
pub(super) struct Job {
    /// What it is called in the tables.
    pub(super) name: String,
    file: PathBuf,
    /// The one test of it that is run.
    pub(super) test: Option<String>,
}

/// A command that is going to run: its words, its environment, and where.
pub(super) struct Run {
    pub(super) words: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) place: PathBuf,
}

impl Suite {
    /// The suite's directory below `all`; nothing where that has none.
    pub(super) fn top(&self, all: &Path) -> Result<Option<PathBuf>> {
        let top = all.join(self.name);
        if !top.is_dir() {
            return Ok(None);
        }
        match self.needs.iter().find(|(file, _)| !top.join(file).exists()) {
            Some((file, how)) => Err(format!("{} has no {file}; make it: {how}", top.display())),
            None => Ok(Some(top)),
        }
    }

    /// Its files, in order.
    pub(super) fn jobs(&self, top: &Path) -> Result<Vec<Job>> {
        let (directory, prefix, suffix) = match self.files {
            Files::In(directory, prefix, suffix) => (directory, prefix, suffix),
            Files::Told(words) => return told(top, words),
        };
        let mut files = Vec::new();
        list(&top.join(directory), &mut files)?;
        files.sort();
        let mut jobs = Vec::new();
        for file in files {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let is_left_out = self.left_out.iter().any(|(left_out, _)| *left_out == name);
            if name.starts_with(prefix) && name.ends_with(suffix) && !is_left_out {
                for test in self.tests(top, &name, &file)? {
                    let (name, file) = (name.clone(), file.clone());
                    jobs.push(Job { name, file, test });
                }
            }
        }
        Ok(jobs)
    }

    /// What is run of a file: all of it, or one test after the other.
    fn tests(&self, top: &Path, name: &str, file: &Path) -> Result<Vec<Option<String>>> {
        if !self.alone.files.contains(&name) {
            return Ok(vec![None]);
        }
        let path = file.to_string_lossy();
        let words = self.alone.names.iter();
        let words: Vec<_> = words.map(|word| word.replace("FILE", &path)).collect();
        Ok(printed(top, &words)?.into_iter().map(Some).collect())
    }

    /// The variables that have it ask for cgroups of systemd's.
    pub(super) fn with_systemd(&self) -> Option<(String, String)> {
        let (name, value) = self.systemd?;
        Some((name.to_string(), value.to_string()))
    }

    /// What runs a file.
    pub(super) fn command(&self, (top, empty): (&Path, &Path), job: &Job, runtime: &Path) -> Run {
        let fill = |word: &str| {
            word.replace("FILE", &job.file.to_string_lossy())
                .replace("RUNTIME", &runtime.to_string_lossy())
                .replace("TOP", &top.to_string_lossy())
        };
        let environment = self.environment.iter().copied();
        let test = job.test.as_deref().map(|test| (self.alone.variable, test));
        Run {
            words: self.words.iter().map(|word| fill(word)).collect(),
            environment: environment
                .chain(test)
                .map(|(name, value)| (name.to_string(), fill(value)))
                .collect(),
            place: if self.in_place { top } else { empty }.to_path_buf(),
        }
    }
}

/// The lines that a command prints.
fn printed<S: AsRef<str>>(top: &Path, words: &[S]) -> Result<Vec<String>> {
    let mut words = words.iter().map(AsRef::as_ref);
    let mut command = programs::program(words.next().unwrap_or_default());
    command.args(words).current_dir(top);
    let output = children::run(command, b"", LIST_DEADLINE)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

fn told(top: &Path, words: &[&str]) -> Result<Vec<Job>> {
    let job = |line: String| Job {
        file: line.clone().into(),
        name: line,
        test: None,
    };
    Ok(printed(top, words)?.into_iter().map(job).collect())
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error| format!("list {}: {error}", directory.display());
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.is_dir() {
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
