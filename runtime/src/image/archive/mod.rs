//! Reads tar archives: what the members are, what they are called, where their data goes.
//!
//! `reader` goes from member to member; `member`, `pax` and `sparse` read what a header says, `path` what a name means, and
//! `squash` changes owners that the caller does not have. Nothing here opens a file: `unpack` does.

mod member;
mod path;
mod pax;
mod reader;
mod sparse;
mod squash;

pub(super) use member::{Kind, Member, checksum_holds, corrupt, read_failed};
pub(super) use path::{Mark, Place, mark, show};
pub(super) use reader::Archive;
pub(super) use squash::Squash;
