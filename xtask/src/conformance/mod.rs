//! `cargo xtask conformance DIR [OPTION…] [SUITE[/FILE]…]`: runs the public test-suites of OCI runtimes against ours and against
//! crun, runc and youki, as far as these are installed, and compares. `START_CONTAINER_BIN` is ours, instead of the release
//! binary. With `--systemd-cgroup` those suites that can, crun's and runc's, have systemd make the cgroups; `--beside=NAME` leaves
//! the other runtimes out; `--seconds=N` is what one file may take, for slow machines; `--tell` prints all that a file says in which
//! ours fails.
//!
//! DIR has the suites, each in a directory of its name, fetched and built by hand: nothing of them belongs to this
//! repository. What one of the others passes, ours has to pass, or docs/conformance.md names it and says why not.

mod options;
mod suite;
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::options::{Options, Wanted};
use self::suite::{Job, SUITES, Suite};
use self::tap::Outcome;
use crate::{Result, children, programs, task_build};

/// How many one test may take that is run by itself, as a part of them.
const TEST_PART: u16 = 5;
/// Keeps a file's cgroups, processes and mounts apart, and ends what it leaves.
const ROOM: &str = include_str!("room.sh");
/// What timeout(1) ends with when it has killed a file: at once, or for not ending of itself.
const KILLED: [i32; 2] = [124, 128 + 9];
/// The page that names what ours does not pass.
const PAGE: &str = "docs/conformance.md";
/// Its part that is about hosts with cgroups of version 2 alone.
const SECOND: &str = "## On cgroup version 2";

/// What a suite's tests ended with, by `FILE: TEST`, under one runtime.
type Outcomes = BTreeMap<String, Outcome>;

/// A program, and what it is called.
struct Runtime {
    name: &'static str,
    path: PathBuf,
}

/// Runs them.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (options, words): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with("--"));
    let options = Options::read(&options)?;
    let [directory, wanted @ ..] = &words[..] else {
        return Err("where are the suites? give their directory; see docs/conformance.md".into());
    };
    let wanted = Wanted::read(wanted)?;
    let directory =
        fs::canonicalize(directory).map_err(|error| format!("find {directory}: {error}"))?;
    let mut runtimes = vec![Runtime {
        name: "start-container",
        path: task_build::release_binary_or_named()?,
    }];
    runtimes.extend(options.peers().filter_map(|name| {
        Some(Runtime {
            name,
            path: programs::find(name)?,
        })
    }));
    let page = fs::read_to_string(programs::top().join(PAGE)).unwrap_or_default();
    let second = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (excepted, failing) = exceptions(&page, second);
    let mut report = Report::new(&runtimes);
    for suite in SUITES {
        let Some(files) = wanted.of(suite.name) else {
            continue;
        };
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
        let mut jobs = suite.jobs(&top)?;
        jobs.retain(|job| files.is_empty() || files.contains(&job.name.as_str()));
        let outcomes = of_suite(&suite, &options, &top, jobs, &runtimes)?;
        report.add(suite.name, &outcomes);
    }
    println!("\n{}", report.table);
    report.judge(&excepted, &failing)
}

/// The outcomes of a suite under each runtime.
fn of_suite(
    suite: &Suite,
    options: &Options<'_>,
    top: &Path,
    jobs: Vec<Job>,
    runtimes: &[Runtime],
) -> Result<Vec<Outcomes>> {
    let empty = std::env::temp_dir().join(format!("conformance-{}", std::process::id()));
    let failed = |error| format!("make {}: {error}", empty.display());
    let mut all: Vec<Outcomes> = runtimes.iter().map(|_| Outcomes::new()).collect();
    for job in jobs {
        // One after the other on the same file, so that what changes on the machine changes for all.
        for (runtime, outcomes) in runtimes.iter().zip(&mut all) {
            fs::create_dir_all(&empty).map_err(failed)?;
            let mut run = suite.command((top, &empty), &job, &runtime.path);
            if options.systemd {
                run.environment.extend(suite.with_systemd());
            }
            run.environment
                .push(("TMPDIR".to_owned(), empty.display().to_string()));
            let seconds = match job.test {
                Some(_) => options.seconds / TEST_PART,
                None => options.seconds,
            };
            let (found, text) = of_file(&job, run, seconds, options.systemd)?;
            let is_own = std::ptr::eq(runtime, &runtimes[0]);
            if options.tell && is_own && found.values().any(|outcome| *outcome == Outcome::Failed) {
                println!("{text}");
            }
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

/// The outcomes of one file, and what it said. One that says nothing of any test is itself the test.
fn of_file(job: &Job, run: suite::Run, seconds: u16, systemd: bool) -> Result<(Outcomes, String)> {
    let mut command;
    let limit = seconds.to_string();
    if systemd {
        // systemd does not see the cgroups of another namespace as its own.
        command = programs::program("timeout");
        command.args(["--kill-after=5", &limit]);
    } else {
        command = programs::program("sh");
        command.args(["-c", ROOM, "room.sh", &limit]);
    }
    command
        .args(run.words)
        .envs(run.environment)
        .current_dir(run.place);
    // timeout(1) has the deadline; this is for what it cannot end, and what has left its group and holds the output.
    let deadline = Duration::from_secs(u64::from(seconds) + 60);
    let output = children::run(command, b"", deadline)?;
    let ended = output.status.success();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = tap::read(&text);
    let whole = match (found.is_empty(), ended) {
        (true, true) => Some(Outcome::Passed),
        // It was killed, or gave up in the middle.
        (true, false) => Some(Outcome::Failed),
        (false, _) => {
            let killed = output.status.code().filter(|code| KILLED.contains(code));
            killed.map(|_| Outcome::Failed)
        }
    };
    let unnamed = job.test.as_deref().unwrap_or("as a whole");
    let named = found
        .into_iter()
        .map(|(test, outcome)| (format!("{}: {test}", job.name), outcome));
    let outcomes = named.chain(whole.map(|outcome| (format!("{}: {unnamed}", job.name), outcome)));
    Ok((outcomes.collect(), text))
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

    /// Fails where ours is behind in something that the page does not except, or passes what the page says that it does not.
    fn judge(&self, excepted: &BTreeSet<String>, failing: &BTreeSet<String>) -> Result<()> {
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
        let stale: Vec<_> = failing.intersection(&self.passed).collect();
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

/// The tests that the page names, `SUITE/FILE: TEST` in the first column of a table, as code: those that need not be passed
/// on this host, and those of them that are not passed for certain. Where there is version 2 alone, what the page says of
/// other hosts may hold or not.
fn exceptions(page: &str, second: bool) -> (BTreeSet<String>, BTreeSet<String>) {
    let (first_part, second_part) = page.split_once(SECOND).unwrap_or((page, ""));
    let named = |part: &str| -> BTreeSet<String> {
        let cells = part.lines().filter_map(|line| line.strip_prefix("| `"));
        cells
            .filter_map(|rest| Some(rest.split_once("` |")?.0.to_string()))
            .collect()
    };
    let (first, here) = (named(first_part), named(second_part));
    if second {
        (first.union(&here).cloned().collect(), here)
    } else {
        (first.clone(), first)
    }
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
        let (named, failing) = exceptions(page, false);
        assert_eq!(named, BTreeSet::from(["s/f: b".to_string()]));
        assert!(
            report
                .judge(&named, &failing)
                .is_err_and(|why| why.starts_with("1 tests"))
        );
        let judged = |page: &str, second| {
            let (named, failing) = exceptions(page, second);
            report.judge(&named, &failing)
        };
        let both = format!("{page}| `s/f: d` | why |\n");
        assert_eq!(judged(&both, false), Ok(()));
        let stale = format!("{both}| `s/f: a` | why |\n");
        let told = "1 exceptions that are none";
        assert!(judged(&stale, false).is_err_and(|why| why.ends_with(told)));
        // What is said of hosts of one kind is not said of the others.
        assert_eq!(judged(&stale, true), Ok(()));
        let apart = format!("{page}{SECOND}\n| `s/f: d` | why |\n");
        assert_eq!(judged(&apart, true), Ok(()));
        assert!(judged(&apart, false).is_err_and(|why| why.starts_with("1 tests")));
        let stale = format!("{apart}| `s/f: a` | why |\n");
        assert!(judged(&stale, true).is_err_and(|why| why.ends_with(told)));
    }
}
