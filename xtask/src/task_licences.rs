//! `cargo xtask licences`: each dependency must be usable under licences from one list, which stands here.
//!
//! Read from `cargo metadata --locked`, so a lock file that does not fit the manifests fails as well. A static binary
//! contains all of its dependencies, so copyleft is refused by not being on the list.

use serde_json::Value;

use crate::{Result, programs};

/// What a static binary may contain on the terms MIT OR Apache-2.0 promise: notices are kept, nothing more is asked.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// What start-container is built for; what a library needs elsewhere is in no binary of ours.
const TARGETS: &[&str] = &[
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "riscv64gc-unknown-linux-gnu",
];

/// Checks every package of the lock file that is built for one of these.
pub(crate) fn run() -> Result<()> {
    let mut command = programs::cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]);
    for target in TARGETS {
        command.args(["--filter-platform", target]);
    }
    let metadata = programs::output_of(&mut command)?;
    let metadata: Value = serde_json::from_slice(&metadata)
        .map_err(|error| format!("cannot read the output of cargo metadata: {error}"))?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    if refused.is_empty() {
        println!(
            "{} packages, all usable under {}",
            packages.len(),
            ALLOWED.join(", ")
        );
        Ok(())
    } else {
        Err(format!(
            "not usable under the licences in xtask/src/task_licences.rs:\n  {}",
            refused.join("\n  ")
        ))
    }
}

/// Why this package is refused, if it is.
fn refusal(package: &Value) -> Option<String> {
    let name = format!(
        "{} {}",
        package["name"].as_str().unwrap_or("?"),
        package["version"].as_str().unwrap_or("?")
    );
    let Some(expression) = package["license"].as_str() else {
        return Some(format!("{name}: names no licence"));
    };
    match is_satisfiable(expression) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name}: {expression}")),
        Err(why) => Some(format!("{name}: {expression}: {why}")),
    }
}

/// Whether a choice from [`ALLOWED`] fulfils an SPDX expression (annex D of the SPDX specification), or the older form
/// with a slash for OR. AND binds closer than OR, WITH closer than both.
fn is_satisfiable(expression: &str) -> Result<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words };
    let satisfiable = reader.any()?;
    match reader.words.first() {
        None => Ok(satisfiable),
        Some(word) => Err(format!("\"{word}\" was not expected")),
    }
}

/// Recursive descent over the words of an expression. Both sides are always read, so that errors are always found.
struct Reader<'a> {
    words: &'a [&'a str],
}

impl<'a> Reader<'a> {
    fn take(&mut self, word: &str) -> bool {
        let there = self.words.first() == Some(&word);
        if there {
            self.words = &self.words[1..];
        }
        there
    }

    fn next(&mut self) -> Result<&'a str> {
        let (first, rest) = self.words.split_first().ok_or("it ends too early")?;
        self.words = rest;
        Ok(first)
    }

    fn any(&mut self) -> Result<bool> {
        let mut value = self.all()?;
        while self.take("OR") {
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool> {
        let mut value = self.single()?;
        while self.take("AND") {
            value &= self.single()?;
        }
        Ok(value)
    }

    fn single(&mut self) -> Result<bool> {
        if self.take("(") {
            let value = self.any()?;
            return if self.take(")") {
                Ok(value)
            } else {
                Err("a parenthesis is not closed".into())
            };
        }
        let licence = self.next()?;
        if matches!(licence, "OR" | "AND" | "WITH" | ")") {
            return Err(format!("\"{licence}\" was not expected"));
        }
        if self.take("WITH") {
            let whole = format!("{licence} WITH {}", self.next()?);
            return Ok(ALLOWED.contains(&whole.as_str()));
        }
        Ok(ALLOWED.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_enough_for_or_and_all_are_needed_for_and() {
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("MIT OR GPL-3.0-only", true),
            ("GPL-3.0-only", false),
            ("LGPL-2.1-or-later", false),
            ("MIT AND GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only AND MPL-2.0", true),
            ("(MIT OR GPL-3.0-only) AND MPL-2.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0-only WITH Classpath-exception-2.0", false),
            ("Apache-2.0 WITH Some-exception", false),
        ] {
            assert_eq!(is_satisfiable(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND MIT"] {
            assert!(is_satisfiable(expression).is_err(), "{expression:?}");
        }
    }

    #[test]
    fn a_package_without_a_licence_is_refused() {
        let package = serde_json::json!({"name": "x", "version": "1.0.0", "license": null});
        assert_eq!(
            refusal(&package),
            Some("x 1.0.0: names no licence".to_string())
        );
    }
}
