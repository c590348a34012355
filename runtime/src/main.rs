//! The `start-container` binary: parses, decides, applies; prints the one error there may be.

fn main() {}
