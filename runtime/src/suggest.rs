//! "Did you mean": the nearest of a few known words, and text of the user's shortened for a message.

use std::ffi::OsStr;

/// Longest text of the user's that a message repeats, in characters.
const SHOWN: usize = 100;

/// The known word that `text` is most likely a misspelling of, if one is near enough to be worth naming.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance costs the product of both lengths, and arguments may be 128 KiB long.
    if text.len() > 64 {
        return None;
    }
    let text = text.to_lowercase();
    known
        .into_iter()
        .map(|word| (distance(&text, word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn distance(text: &str, word: &str) -> usize {
    // "env-fil" and "work" are beginnings rather than misspellings: as near as one wrong letter.
    if text.len() >= 3 && word.starts_with(text) {
        return 1;
    }
    strsim::damerau_levenshtein(text, word)
}

/// The text as a message may repeat it: at most 100 characters, bytes that are not UTF-8 replaced.
pub(crate) fn shown(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    match text.char_indices().nth(SHOWN) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_near_and_nothing_else() {
        let known = ["env", "env-file", "user", "workdir", "pty-size"];
        for (text, answer) in [
            ("envfile", Some("env-file")),
            ("env-fil", Some("env-file")),
            ("ENV-FILE", Some("env-file")),
            ("evn", Some("env")),
            ("usr", Some("user")),
            ("work", Some("workdir")),
            ("workdri", Some("workdir")),
            ("ptysize", Some("pty-size")),
            ("privileged", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(text, known), answer, "{text:?}");
        }
        assert_eq!(nearest(&"env".repeat(50_000), known), None);
    }

    #[test]
    fn long_text_is_shortened_between_characters() {
        assert_eq!(shown(OsStr::new("short")), "short");
        let long = "\u{e4}".repeat(200);
        assert_eq!(
            shown(OsStr::new(&long)),
            format!("{}...", "\u{e4}".repeat(100))
        );
    }
}
