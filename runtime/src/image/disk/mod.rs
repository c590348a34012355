//! What several rooms do with directories and files on disk, always through descriptors: list and remove trees, make
//! files that appear complete or not at all, and have it all written while there is still something to do.

pub(super) mod flush;
mod fresh;
pub(super) mod listing;
pub(super) mod remove;

pub(super) use fresh::Fresh;
