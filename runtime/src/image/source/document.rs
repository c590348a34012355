//! What a JSON document of an image may take: indexes, manifests and configurations come from strangers, and a few bytes
//! of text may be a hundred in memory.

use std::borrow::Cow;

use shim::Error;

/// The most that a document may take, in bytes. Registries and podman take no larger ones.
const SIZE_MAX: u64 = 4 << 20;
/// How many names and values a document may have: an index of the most images that are taken has fewer.
const WORDS_MAX: usize = 1 << 17;

/// Why a document of this size is none; nothing where it may be one.
pub(super) fn too_large(size: u64) -> Option<&'static str> {
    (size > SIZE_MAX).then_some("it is larger than 4 MiB")
}

/// The same for its text.
pub(super) fn too_many_words(text: &[u8]) -> Option<Cow<'static, str>> {
    (words(text) > WORDS_MAX)
        .then(|| format!("it has more than {WORDS_MAX} names and values").into())
}

/// The error for what is no document.
pub(super) fn refused(error: Error, why: impl Into<Cow<'static, str>>) -> Error {
    error
        .because(why)
        .hint("this is no manifest or configuration of an image")
}

/// How many names and values a text has, if it is JSON: each but the first follows one of these signs.
fn words(text: &[u8]) -> usize {
    let mut words = 1;
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => words += 1,
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_counted_outside_of_strings() {
        for (text, count) in [
            (r#""a""#, 1),
            (r#"{"a": 1}"#, 3),
            (r#"{"a": [1, "b", {}]}"#, 7),
            (r#"["[,:{", "\"[,", "\\", 1]"#, 5),
        ] {
            assert_eq!(words(text.as_bytes()), count, "{text}");
        }
        let many = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(too_many_words(many(WORDS_MAX - 2).as_bytes()).is_none());
        assert!(too_many_words(many(WORDS_MAX - 1).as_bytes()).is_some());
    }
}
