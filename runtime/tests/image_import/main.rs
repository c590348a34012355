//! Imports archives made in code, well-formed and hostile, and looks at what is on disk afterwards.
//!
//! Nothing here is simulated: every import is written to a real filesystem, next to a tree that must not change.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get is a failure of the test"
)]

mod documents;
mod failures;
mod headers;
mod hostile;
mod images;
mod inputs;
mod layers;
mod limits;
mod place;
mod rootfs;
mod truths;
mod twin;
mod verbs;
mod verdict;

use tests::pack;
