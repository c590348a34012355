//! What several rooms do with directories and files on disk, always through descriptors: list and remove trees, and make
//! files that appear complete or not at all.

mod fresh;
pub(super) mod listing;
pub(super) mod remove;

pub(super) use fresh::Fresh;
