//! Rust source as a row of words and signs, without comments and without the insides of literals: enough to count
//! `unsafe` and to find a test function, without taking a mention in a comment or a string for the thing itself.

use std::path::{Path, PathBuf};

use crate::Result;

/// The words (identifiers, keywords, numbers) and signs of a source text in order. A string or character literal is one
/// `"` sign, a lifetime is its name behind a `'` sign.
pub(crate) fn tokens(source: &str) -> Vec<&str> {
    let mut rest = source;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            tokens.push("\"");
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(&rest[..length]);
            length
        } else {
            tokens.push(&rest[..first.len_utf8()]);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The length of a block comment, which may contain others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of the string or character literal that `text` begins with, if it begins with one.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(['"', '#', '\'']))
    })?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let inside = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' && !is_character(body) {
        return None;
    }
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// All `.rs` files below a directory of the repository, sorted; without build output and installed packages.
pub(crate) fn files_below(top: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let unreadable = |error| format!("cannot read {}: {error}", dir.display());
        for entry in std::fs::read_dir(&dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let kind = entry.file_type().map_err(unreadable)?;
            let name = name.to_string_lossy();
            if kind.is_dir() && !matches!(&*name, "target" | "node_modules" | ".git") {
                todo.push(entry.path());
            } else if kind.is_file() && name.ends_with(".rs") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_hide_what_is_in_them() {
        let source = r####"
            // unsafe
            /* unsafe /* unsafe */ unsafe */
            let a = "unsafe \" unsafe"; let b = r#"unsafe " unsafe"#; let c = b"unsafe"; let d = c"unsafe";
            let e = '"'; let f = '\''; fn g<'a>(x: &'a str) {}
            unsafe { h() }
        "####;
        let tokens = tokens(source);
        assert_eq!(tokens.iter().filter(|t| **t == "unsafe").count(), 1);
        assert_eq!(tokens[tokens.len() - 7..].join(" "), "} unsafe { h ( ) }");
    }

    #[test]
    fn words_that_begin_like_literals_stay_words() {
        assert_eq!(
            tokens("bring(c, r, b, break_)").join(" "),
            "bring ( c , r , b , break_ )"
        );
        assert_eq!(tokens("r#type + br"), ["r", "#", "type", "+", "br"]);
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_file() {
        assert_eq!(tokens("a \"b"), ["a", "\""]);
        assert_eq!(tokens("a /* b"), ["a"]);
        assert_eq!(tokens("a r#\"b"), ["a", "\""]);
    }
}
