//! "Did you mean": the nearest of a few known words, and text of the user's shortened for a message.
//!
//! What is wrong with a value is said here once, for the command line and for the configuration file.

use std::ffi::OsStr;

use shim::Error;

/// Longest text of the user's that a message repeats, in characters.
const SHOWN: usize = 100;

/// What is wrong with a value, and what to give instead. Who knows where the value stood makes an error of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The value, and the rule it breaks.
    pub why: String,
    /// What to do.
    pub hint: String,
}

impl Wrong {
    pub(crate) fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: hint.into(),
        }
    }

    /// The cause and the hint of `error`, which says where.
    pub(crate) fn at(self, error: Error) -> Error {
        error.because(self.why).hint(self.hint)
    }
}

impl From<&Error> for Wrong {
    /// What the error says, with its hint.
    fn from(error: &Error) -> Self {
        let text = error.to_string();
        let (why, hint) = text.split_once("\n  hint: ").unwrap_or((&text, ""));
        Self::new(why, hint)
    }
}

/// What one of a few words means; `hint` says what may be given where nothing is near.
pub(crate) fn word<T: Clone>(
    text: &str,
    words: &[(&'static str, T)],
    hint: &'static str,
) -> Result<T, Wrong> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| text == *word) {
        return Ok(meaning.clone());
    }
    let hint = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => format!("did you mean {word}?"),
        None => hint.to_owned(),
    };
    let text = shown(text.as_ref());
    Err(Wrong::new(format!("{text} is not one of its values"), hint))
}

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
