//! What a test-suite says of its tests: lines of the Test Anything Protocol (<https://testanything.org>), or youki's.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It found that it cannot be tried here.
    Skipped,
}

/// The outcomes by the tests' names. A name that occurs again gets a number, so that of several assertions with one name
/// the first is compared with the first.
pub(super) fn read(text: &str) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    let mut group = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# Start group ") {
            group = name;
        }
        let Some((name, outcome)) = tap(line).or_else(|| contest(line, group)) else {
            continue;
        };
        let mut unique = name.clone();
        let mut count = 1;
        while outcomes.contains_key(&unique) {
            count += 1;
            unique = format!("{name} ({count})");
        }
        outcomes.insert(unique, outcome);
    }
    outcomes
}

/// `ok 3 - NAME`, `not ok 3 - NAME # SKIP why`.
fn tap(line: &str) -> Option<(String, Outcome)> {
    let (rest, passed) = match line.strip_prefix("not ok ") {
        Some(rest) => (rest, false),
        None => (line.strip_prefix("ok ")?, true),
    };
    let (number, name) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<u32>().ok()?;
    let name = name.strip_prefix("- ").unwrap_or(name);
    let (name, remark) = name.split_once('#').unwrap_or((name, ""));
    let outcome = match passed {
        _ if is_skipped(remark) => Outcome::Skipped,
        true => Outcome::Passed,
        false => Outcome::Failed,
    };
    Some((name.trim().to_string(), outcome))
}

fn is_skipped(remark: &str) -> bool {
    remark
        .trim_start()
        .get(..4)
        .is_some_and(|word| word.eq_ignore_ascii_case("skip"))
}

/// `3 / 11 : NAME : ok`, behind a line that names the group.
fn contest(line: &str, group: &str) -> Option<(String, Outcome)> {
    let mut parts = line.splitn(3, " : ");
    let (place, name, outcome) = (parts.next()?, parts.next()?, parts.next()?);
    place
        .split('/')
        .try_for_each(|number| number.trim().parse::<u32>().map(drop))
        .ok()?;
    let outcome = match outcome.split_whitespace().next()? {
        "ok" => Outcome::Passed,
        "skipped" => Outcome::Skipped,
        _ => Outcome::Failed,
    };
    Some((format!("{group}: {}", name.trim()), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_outcomes() {
        let text = "TAP version 13\n1..5\nok 1 - first # 0.02s\nnot ok 2 - second\n  ---\n  ok 3 - inside\nok 3 - third #SKIP no root\n\
                    ok 4 - first\nnot ok 5\nok then\n# Start group one\n1 / 3 : good : ok\n 2 / 3 : bad : not ok\n\t3 / 3 : no : skipped\n";
        let outcomes = read(text);
        let expected = [
            ("", Outcome::Failed),
            ("first", Outcome::Passed),
            ("first (2)", Outcome::Passed),
            ("one: bad", Outcome::Failed),
            ("one: good", Outcome::Passed),
            ("one: no", Outcome::Skipped),
            ("second", Outcome::Failed),
            ("third", Outcome::Skipped),
        ];
        let expected = expected.map(|(name, outcome)| (name.to_string(), outcome));
        assert_eq!(outcomes, BTreeMap::from(expected));
    }
}
