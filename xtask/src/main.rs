//! `cargo xtask`: build, demo, test, ci.
fn main() {}
