//! What an import reads from: finds out what a source is, chooses an image in it, and reads its configuration.
//!
//! `recognise` tells the forms apart by their content. `input` has the bytes, `bundle` the files of an archive, `pieces` the
//! blobs of an OCI image wherever they are, and `remote` is what a registry has to offer for that. `oci` and `docker` choose
//! an image; what they chose is a `chosen::Image`, with its `config`. `document` bounds what they read for that.

mod bundle;
mod chosen;
mod config;
mod docker;
mod document;
mod input;
pub(super) mod oci;
mod pieces;
mod recognise;
mod remote;

pub(super) use chosen::Image;
pub(super) use config::Config;
pub(super) use input::Input;
pub(super) use pieces::Pieces;
pub(super) use recognise::{Reading, Source, open};
pub use remote::{Piece, Remote};
