//! What building a plan costs.
fn main() {}
