//! `cargo xtask conformance DIR [SUITE…]`: runs the public test-suites of OCI runtimes against ours and against crun, runc
//! and youki, as far as these are installed, and compares.
//!
//! DIR has the suites, each in a directory of its name, fetched and built by hand: nothing of them belongs to this
//! repository. What one of the others passes, ours has to pass, or docs/conformance.md names it and says why not.

mod suite;
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::suite::{Job, SUITES, Suite};
use self::tap::Outcome;
use crate::{Result, children, programs, task_build};

/// The other runtimes.
const PEERS: [&str; 3] = ["crun", "runc", "youki"];
/// How many seconds one file may take; it is killed then.
const FILE_SECONDS: u16 = 300;
/// The page that names what ours does not pass.
const PAGE: &str = "docs/conformance.md";

/// What a suite's tests ended with, by `FILE: TEST`, under one runtime.
type Outcomes = BTreeMap<String, Outcome>;

/// A program, and what it is called.
struct Runtime {
    name: &'static str,
    path: PathBuf,
}

/// Runs them.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let [directory, wanted @ ..] = words else {
        return Err("where are the suites? give their directory; see docs/conformance.md".into());
    };
    if let Some(unknown) = wanted
        .iter()
        .find(|name| SUITES.iter().all(|suite| suite.name != **name))
    {
        let known = SUITES.map(|suite| suite.name).join(", ");
        return Err(format!("no suite is called {unknown}; there are {known}"));
    }
    let directory =
        fs::canonicalize(directory).map_err(|error| format!("find {directory}: {error}"))?;
    let mut runtimes = vec![Runtime {
        name: "start-container",
        path: task_build::release_binary()?,
    }];
    runtimes.extend(PEERS.into_iter().filter_map(|name| {
        Some(Runtime {
            name,
            path: programs::find(name)?,
        })
    }));
    let excepted = exceptions(&fs::read_to_string(programs::top().join(PAGE)).unwrap_or_default());
    let mut report = Report::new(&runtimes);
    for suite in SUITES {
        if !wanted.is_empty() && !wanted.contains(&suite.name) {
            continue;
        }
        let Some(top) = suite.top(&directory)? else {
            println!(
                "{} is not there: skipped",
                directory.join(suite.name).display()
            );
            continue;
        };
        for (file, why) in suite.left_out {
            println!("{}/{file} is left out: {why}", suite.name);
        }
        let outcomes = of_suite(&suite, &top, &runtimes)?;
        report.add(suite.name, &outcomes);
    }
    println!("\n{}", report.table);
    report.judge(&excepted)
}

/// The outcomes of a suite under each runtime.
fn of_suite(suite: &Suite, top: &Path, runtimes: &[Runtime]) -> Result<Vec<Outcomes>> {
    let empty = std::env::temp_dir().join(format!("conformance-{}", std::process::id()));
    let failed = |error| format!("make {}: {error}", empty.display());
    let mut all: Vec<Outcomes> = runtimes.iter().map(|_| Outcomes::new()).collect();
    for job in suite.jobs(top)? {
        // One after the other on the same file, so that what changes on the machine changes for all.
        for (runtime, outcomes) in runtimes.iter().zip(&mut all) {
            fs::create_dir_all(&empty).map_err(failed)?;
            let found = of_file(suite, (top, &empty), &job, runtime)?;
            // What a test has left mounted there stays for a look.
            let _ = fs::remove_dir_all(&empty);
            let passed = found
                .values()
                .filter(|outcome| **outcome == Outcome::Passed)
                .count();
            println!(
                "{}/{} {}: {passed} of {}",
                suite.name,
                job.name,
                runtime.name,
                found.len()
            );
            outcomes.extend(found);
        }
    }
    Ok(all)
}

/// The outcomes of one file. One that says nothing of any test is itself the test.
fn of_file(
    suite: &Suite,
    places: (&Path, &Path),
    job: &Job,
    runtime: &Runtime,
) -> Result<Outcomes> {
    let (words, environment, place) = suite.command(places, job, &runtime.path);
    let mut command = programs::program("timeout");
    command
        .arg("--kill-after=5")
        .arg(FILE_SECONDS.to_string())
        .args(words);
    command.envs(environment).current_dir(place);
    // timeout(1) ends the whole process group; this is for what has left it and holds the output.
    let deadline = Duration::from_secs(u64::from(FILE_SECONDS) + 60);
    let output = children::run(command, b"", deadline)?;
    let ended = output.status.success();
    let found = tap::read(&String::from_utf8_lossy(&output.stdout));
    let whole = match (found.is_empty(), ended) {
        (true, true) => Some(Outcome::Passed),
        // It was killed, or gave up in the middle.
        (true, false) => Some(Outcome::Failed),
        (false, _) if output.status.code() == Some(124) => Some(Outcome::Failed),
        (false, _) => None,
    };
    let named = found
        .into_iter()
        .map(|(test, outcome)| (format!("{}: {test}", job.name), outcome));
    Ok(named
        .chain(whole.map(|outcome| (format!("{}: as a whole", job.name), outcome)))
        .collect())
}

/// What there is to say in the end.
struct Report {
    table: String,
    names: Vec<&'static str>,
    /// What ours does not pass although another does: the test, and who passes it.
    behind: BTreeMap<String, Vec<&'static str>>,
    /// What ours does pass.
    passed: BTreeSet<String>,
}

impl Report {
    fn new(runtimes: &[Runtime]) -> Self {
        let names: Vec<_> = runtimes.iter().map(|runtime| runtime.name).collect();
        let table = format!(
            "| suite | tests | {} |\n|---|---|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        Self {
            table,
            names,
            behind: BTreeMap::new(),
            passed: BTreeSet::new(),
        }
    }

    fn add(&mut self, suite: &str, all: &[Outcomes]) {
        let tests: BTreeSet<&String> = all.iter().flat_map(BTreeMap::keys).collect();
        let passes =
            |outcomes: &Outcomes, test: &String| outcomes.get(test) == Some(&Outcome::Passed);
        let counts = all.iter().map(|outcomes| {
            let count = |wanted| {
                outcomes
                    .values()
                    .filter(|outcome| **outcome == wanted)
                    .count()
            };
            format!(
                "{} ({} skipped)",
                count(Outcome::Passed),
                count(Outcome::Skipped)
            )
        });
        let counts: Vec<_> = counts.collect();
        self.table += &format!("| {suite} | {} | {} |\n", tests.len(), counts.join(" | "));
        let Some((own, peers)) = all.split_first() else {
            return;
        };
        for test in tests {
            let name = format!("{suite}/{test}");
            if passes(own, test) {
                self.passed.insert(name);
                continue;
            }
            let who = self.names.iter().skip(1).zip(peers);
            let who: Vec<_> = who
                .filter(|(_, peer)| passes(peer, test))
                .map(|(name, _)| *name)
                .collect();
            if !who.is_empty() {
                self.behind.insert(name, who);
            }
        }
    }

    /// Fails where ours is behind in something that the page does not name, or the page names what is passed.
    fn judge(&self, excepted: &BTreeSet<String>) -> Result<()> {
        let mut unnamed = 0;
        for (test, who) in &self.behind {
            if !excepted.contains(test) {
                unnamed += 1;
                println!(
                    "passed by {}, not by start-container: {test}",
                    who.join(", ")
                );
            }
        }
        let stale: Vec<_> = excepted.intersection(&self.passed).collect();
        for test in &stale {
            println!("{PAGE} names it, and it is passed: {test}");
        }
        match (unnamed, stale.len()) {
            (0, 0) => Ok(()),
            (unnamed, stale) => Err(format!(
                "{unnamed} tests that another runtime passes, and {stale} exceptions that are none"
            )),
        }
    }
}

/// The tests that the page names: `SUITE/FILE: TEST` in the first column of a table, as code.
fn exceptions(page: &str) -> BTreeSet<String> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    cells
        .filter_map(|rest| Some(rest.split_once("` |")?.0.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(name: &'static str) -> Runtime {
        Runtime {
            name,
            path: name.into(),
        }
    }

    #[test]
    fn what_a_peer_passes_has_to_be_passed_or_named() {
        use Outcome::{Failed, Passed, Skipped};
        let outcomes = |list: &[(&str, Outcome)]| -> Outcomes {
            list.iter()
                .map(|(name, outcome)| ((*name).to_string(), *outcome))
                .collect()
        };
        let own = outcomes(&[
            ("f: a", Passed),
            ("f: b", Failed),
            ("f: c", Failed),
            ("f: d", Skipped),
        ]);
        let peer = outcomes(&[
            ("f: a", Failed),
            ("f: b", Passed),
            ("f: c", Failed),
            ("f: d", Passed),
        ]);
        let mut report = Report::new(&[runtime("start-container"), runtime("crun")]);
        report.add("s", &[own, peer]);
        assert!(
            report
                .table
                .ends_with("| s | 4 | 1 (1 skipped) | 2 (0 skipped) |\n")
        );
        let page = "text\n| test | why |\n|---|---|\n| `s/f: b` | it asserts a text |\n";
        let named = exceptions(page);
        assert_eq!(named, BTreeSet::from(["s/f: b".to_string()]));
        assert!(
            report
                .judge(&named)
                .is_err_and(|why| why.starts_with("1 tests"))
        );
        let both = format!("{page}| `s/f: d` | why |\n");
        assert_eq!(report.judge(&exceptions(&both)), Ok(()));
        let stale = exceptions(&format!("{both}| `s/f: a` | why |\n"));
        assert!(
            report
                .judge(&stale)
                .is_err_and(|why| why.ends_with("1 exceptions that are none"))
        );
    }
}
