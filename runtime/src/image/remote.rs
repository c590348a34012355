//! An image that is fetched piece by piece while it is chosen: what a registry serves, seen as an image layout.

use std::fs::File;

use shim::Result;

use super::import::{Chosen, finish, reading};
use super::layers::Layers;
use super::pieces::Pieces;
use super::store::Store;
use super::{Format, ImportRequest, Imported, layered, oci};

/// A piece of an image: `sha256:` and hex, what it is, and its size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Of its content.
    pub digest: String,
    /// As the document says that names it.
    pub media_type: String,
    /// The same.
    pub size: u64,
}

/// Where the pieces of one image come from. Nobody has to verify what is returned: whoever asks does.
pub trait Remote {
    /// The name of the image, for messages.
    fn name(&self) -> &str;

    /// What the name leads to: an index or a manifest.
    ///
    /// # Errors
    /// It cannot be had.
    fn top(&self) -> Result<Piece>;

    /// An index, a manifest or a configuration. At most as long as the piece says.
    ///
    /// # Errors
    /// It cannot be had.
    fn document(&self, piece: &Piece) -> Result<Vec<u8>>;

    /// All of these layers, in this order; those that the store has are not asked for.
    ///
    /// # Errors
    /// One of them cannot be had.
    fn layers(&self, layers: &[Piece]) -> Result<Vec<File>>;
}

/// Imports an image that is fetched in the course of it; `request.reference` means nothing here. What can be refused is
/// refused before a layer is fetched.
///
/// # Errors
/// As [`super::import`], and whatever `remote` fails with.
pub fn import_remote(request: &ImportRequest, remote: &dyn Remote) -> Result<Imported> {
    let store = Store::open(&request.base)?;
    let imported = import_into(&store, request, remote);
    if imported.is_err() {
        store.retract();
    }
    imported
}

fn import_into(store: &Store, request: &ImportRequest, remote: &dyn Remote) -> Result<Imported> {
    store.check_free(request.id.as_str(), request.replace)?;
    let reading = reading(request)?;
    let layers = match request.flat {
        true => None,
        false => Layers::open(&request.data)?,
    };
    // What is there now, and therefore not fetched, has to be there until a record names it.
    let _held = layers.as_ref().map(Layers::hold).transpose()?;
    let there = |diff_ids: &[String]| match &layers {
        Some(layers) => layered::there(layers, diff_ids, request.rights),
        None => Ok(vec![false; diff_ids.len()]),
    };
    let pieces = Pieces::Remote {
        remote,
        there: &there,
    };
    let image = oci::select(&pieces, None, &request.platform, &reading)?;
    finish(store, request, Chosen::Image(Format::Oci, Box::new(image)))
}
