//! `cargo xtask contract`: docs/contract.md pairs each clause of the contract with the test that holds it, and
//! docs/isolation.md each promise; this checks that the tests exist, so that a renamed or deleted one is noticed.
//!
//! A row is `| clause | path/to/file.rs::test_name |` or `| clause | tests/sdk/x.test.mjs::test title |`, with more cells
//! in between or none; several tests for one clause are separated by `<br>`. Whether a test proves its clause is for a reader to judge.

use std::collections::HashMap;
use std::path::Path;

use crate::{Result, programs, rust_source};

const PATHS: [&str; 2] = ["docs/contract.md", "docs/isolation.md"];

/// Checks every row.
pub(crate) fn run() -> Result<()> {
    let top = programs::top();
    let mut files = HashMap::new();
    let mut wrong = Vec::new();
    let (mut clauses, mut tests) = (0, 0);
    for path in PATHS {
        let text = std::fs::read_to_string(top.join(path))
            .map_err(|error| format!("read {path}: {error}"))?;
        for row in rows(path, &text)? {
            clauses += 1;
            for name in &row.tests {
                tests += 1;
                if let Err(why) = exists(&top, name, &mut files) {
                    wrong.push(format!("{path}:{}: {name}: {why}", row.line));
                }
            }
        }
    }
    if wrong.is_empty() {
        println!("{clauses} clauses, {tests} tests, all there");
        Ok(())
    } else {
        Err(format!(
            "{} of {tests} tests cannot be found:\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        ))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    tests: Vec<String>,
}

/// The rows of every table whose head ends with `| test |`.
fn rows(path: &str, text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // How many cells a row has.
    let mut width = None;
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let Some(cells) = cells(line) else {
            width = None;
            continue;
        };
        let lower: Vec<String> = cells.iter().map(|cell| cell.to_lowercase()).collect();
        if lower.last().is_some_and(|last| last == "test") {
            width = Some(cells.len());
        } else if let Some(width) = width
            && !cells.iter().all(|cell| is_rule(cell))
        {
            let Some(tests) = cells.last().filter(|_| cells.len() == width) else {
                return Err(format!(
                    "{path}:{line_number}: {} cells where {width} belong; a | in a cell is written \\|",
                    cells.len()
                ));
            };
            let tests = tests
                .split("<br>")
                .map(|name| name.trim().trim_matches('`').to_string())
                .collect();
            rows.push(Row {
                line: line_number,
                tests,
            });
        }
    }
    if rows.is_empty() {
        return Err(format!("{path} has no rows under a head | … | test |"));
    }
    Ok(rows)
}

/// The cells of a table line, with escaped bars made plain.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(
        inner
            .replace("\\|", "\u{0}")
            .split('|')
            .map(|cell| cell.trim().replace('\u{0}', "|"))
            .collect(),
    )
}

fn is_rule(cell: &str) -> bool {
    !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':'))
}

/// Whether the named test is in the named file. `files` remembers what was read.
fn exists(top: &Path, name: &str, files: &mut HashMap<String, String>) -> Result<()> {
    let (path, test) = name
        .split_once("::")
        .ok_or("a test is named path/to/file::test")?;
    if !files.contains_key(path) {
        let source = std::fs::read_to_string(top.join(path)).map_err(|error| error.to_string())?;
        files.insert(path.to_string(), source);
    }
    let source = &files[path];
    let found = if path.ends_with(".rs") {
        has_rust_test(source, test.rsplit("::").next().unwrap_or(test))
    } else {
        has_title(source, test)
    };
    if found {
        Ok(())
    } else {
        Err("the file has no such test".into())
    }
}

/// Whether there is a `#[test] fn name`, with other attributes in between or not, and not one that is ignored.
fn has_rust_test(source: &str, name: &str) -> bool {
    let tokens = rust_source::tokens(source);
    tokens.windows(2).enumerate().any(|(at, pair)| {
        if pair != ["fn", name] {
            return false;
        }
        // The attributes stand between the end of the item before and this one.
        let start = tokens[..at]
            .iter()
            .rposition(|token| matches!(*token, "}" | ";" | "{"))
            .map_or(0, |end| end + 1);
        let before = &tokens[start..at];
        before
            .windows(4)
            .any(|attribute| attribute == ["#", "[", "test", "]"])
            && !before.contains(&"ignore")
    })
}

/// Whether a JavaScript file has this text as a whole string.
fn has_title(source: &str, title: &str) -> bool {
    ['"', '\'', '`']
        .iter()
        .any(|quote| source.contains(&format!("{quote}{title}{quote}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_right_tables() {
        let text = "| a | b |\n|---|---|\n| x | y |\n\n| Clause | Test |\n|:--|---|\n\
                    | one \\| two | `a.rs::b` |\n| two | a.rs::c<br>`d.rs::e` |\n";
        let expected = [
            Row {
                line: 7,
                tests: vec!["a.rs::b".into()],
            },
            Row {
                line: 8,
                tests: vec!["a.rs::c".into(), "d.rs::e".into()],
            },
        ];
        assert_eq!(rows(PATHS[0], text), Ok(expected.into()));
        assert!(rows(PATHS[0], "| a | b |\n").is_err());
        assert!(rows(PATHS[0], "| clause | test |\n|--|--|\n| a | b | c |\n").is_err());
    }

    #[test]
    fn only_a_test_that_runs_counts() {
        let source = "fn plain() {}\n#[test]\nfn good() {}\n#[test]\n#[should_panic]\nfn odd() {}\n\
                      #[test]\n#[ignore]\nfn idle() {}\n// #[test] fn talked_about() {}\n";
        assert!(has_rust_test(source, "good"));
        assert!(has_rust_test(source, "odd"));
        for name in ["plain", "idle", "talked_about", "goo"] {
            assert!(!has_rust_test(source, name), "{name}");
        }
    }

    #[test]
    fn a_title_is_a_whole_string() {
        assert!(has_title(
            "test('of and exec', async () => {})",
            "of and exec"
        ));
        assert!(!has_title("test('of and exec', async () => {})", "of"));
    }

    #[test]
    fn files_are_looked_up_from_the_top() {
        let top = programs::top();
        let mut files = HashMap::new();
        let here = "xtask/src/task_contract.rs::tests::files_are_looked_up_from_the_top";
        assert_eq!(exists(&top, here, &mut files), Ok(()));
        assert!(exists(&top, "xtask/src/none.rs::x", &mut files).is_err());
        assert!(exists(&top, "xtask/src/task_contract.rs", &mut files).is_err());
    }
}
