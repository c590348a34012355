//! Imports archives made in code, well-formed and hostile, and looks at what is on disk afterwards.
//!
//! Nothing here is simulated: every import is written to a real filesystem, next to a tree that must not change.

mod failures;
mod hostile;
mod images;
mod layers;
mod pack;
mod place;
mod rootfs;
