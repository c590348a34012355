//! An image that is fetched piece by piece while it is chosen: what a registry serves, seen as an image layout.

use std::fs::File;

use shim::Result;

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
