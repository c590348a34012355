//! Makes a tree of the members of archives: a whole root filesystem, or one layer of it as overlay wants it.
//!
//! `layer` says what each member means and makes it, `hide` what a layer's whiteouts do, `tree` where things go, and `lower`
//! what the layers below show there. `borrow` and `copy` bring up what a layer needs of these. `meta` gives owners, modes,
//! times and attributes, `late` keeps what is set on directories at the end, `content` has the digest of a file.

mod borrow;
mod content;
mod copy;
mod hide;
mod late;
mod layer;
pub(super) mod lower;
mod meta;
mod tree;

pub(super) use content::Content;
pub(super) use layer::{LeftOut, Meaning, Unpacker};
pub use meta::Rights;
pub(super) use tree::Tree;
