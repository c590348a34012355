//! What several rooms do with directories and files on disk, always through descriptors: open, list and remove what is
//! below a directory, make files that appear complete or not at all or never have a name, keep there what does not fit the
//! memory, have it all written while there is still something to do, and say what to do where the disk fails.

pub(super) mod flush;
mod fresh;
mod hint;
pub(super) mod listing;
mod nameless;
mod names;
mod open;
pub(super) mod remove;
mod stack;

pub(super) use fresh::Fresh;
pub(super) use hint::disk_hint;
pub(super) use nameless::nameless;
pub(super) use names::Names;
pub(super) use open::{PATH_MAX, open_plain, resolve_in};
pub(super) use stack::Stack;
