//! `cargo xtask unsafe`: counts `unsafe` per package and refuses it outside the two rooms that may have it.
//!
//! The compiler's lint `unsafe_code` denies it too; this also catches a file that allows the lint for itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Result, programs, rust_source};

/// The rooms that talk to the kernel with their own hands.
const ROOMS: &[&str] = &["shim/src/sys", "init"];

/// What one package has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    blocks: usize,
    declarations: usize,
}

/// Counts, prints, and fails if anything stands where it may not.
pub(crate) fn run() -> Result<()> {
    let top = programs::top();
    let mut packages: BTreeMap<String, Count> = BTreeMap::new();
    let mut stray = Vec::new();
    for file in rust_source::files_below(&top)? {
        let source = std::fs::read_to_string(&file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let path = file.strip_prefix(&top).unwrap_or(&file);
        let found = count(&source);
        if found != Count::default() && !may_be_unsafe(path) {
            stray.push(path.display().to_string());
        }
        let package = path
            .iter()
            .next()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let total = packages.entry(package).or_default();
        total.blocks += found.blocks;
        total.declarations += found.declarations;
    }
    for (package, count) in &packages {
        println!(
            "{package:<8} {:>4} unsafe blocks, {:>3} unsafe declarations and attributes",
            count.blocks, count.declarations
        );
    }
    if stray.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "unsafe outside {}: {}",
            ROOMS.join(" and "),
            stray.join(", ")
        ))
    }
}

fn may_be_unsafe(path: &Path) -> bool {
    ROOMS.iter().any(|room| path.starts_with(room))
}

fn count(source: &str) -> Count {
    let tokens = rust_source::tokens(source);
    let mut count = Count::default();
    for (at, token) in tokens.iter().enumerate() {
        if *token == "unsafe" {
            match tokens.get(at + 1) {
                Some(&"{") => count.blocks += 1,
                _ => count.declarations += 1,
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_declarations_are_told_apart() {
        let source = "unsafe fn f() {} // unsafe\n#[unsafe(no_mangle)] fn g() { unsafe{ f() } }";
        let expected = Count {
            blocks: 1,
            declarations: 2,
        };
        assert_eq!(count(source), expected);
        assert_eq!(
            count("#![allow(unsafe_code)] const S: &str = \"unsafe {\";"),
            Count::default()
        );
    }

    #[test]
    fn only_two_rooms_may() {
        assert!(may_be_unsafe(Path::new("shim/src/sys/clone.rs")));
        assert!(may_be_unsafe(Path::new("init/src/main.rs")));
        for path in [
            "shim/src/launch.rs",
            "shim/src/system.rs",
            "initial/x.rs",
            "tests/init/x.rs",
        ] {
            assert!(!may_be_unsafe(Path::new(path)), "{path}");
        }
    }
}
