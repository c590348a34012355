//! Values as JSON: what verbs print for programs, and the documents beside an image. A newline is at the end.

use serde::Serialize;
use shim::{Error, Result};

/// On lines of its own for each key.
///
/// # Errors
/// None that is known: every key of ours is text.
pub(crate) fn pretty<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    finish(serde_json::to_string_pretty(value))
}

/// On one line.
///
/// # Errors
/// None that is known: every key of ours is text.
pub(crate) fn line<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    finish(serde_json::to_string(value))
}

fn finish(text: serde_json::Result<String>) -> Result<String> {
    match text {
        Ok(text) => Ok(text + "\n"),
        Err(error) => Err(failed(&error)),
    }
}

/// The failure of which none is known.
pub(crate) fn failed(error: &serde_json::Error) -> Error {
    Error::new("write JSON")
        .because(error.to_string())
        .hint("this is a fault of start-container")
}
