//! Fixtures that the benchmarks share.
