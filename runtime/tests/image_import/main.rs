//! Imports archives made in code, and looks at what is on disk afterwards. Those that are made to do harm are a corpus of
//! their own, `tests/src/hostile`, which the binary itself is given.
//!
//! Nothing here is simulated: every import is written to a real filesystem, next to a tree that must not change.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get is a failure of the test"
)]

mod documents;
mod failures;
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
