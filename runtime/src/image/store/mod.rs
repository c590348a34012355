//! What is on disk of images: under `BASE/images` their names and what each says about itself, under the data directory the
//! layers that they share and what has come of a pull.
//!
//! `images` is the directory of names, `form` tells what an image in it is, `record` and `about` are the documents beside
//! it, and `publish` gives names. `layers` is the store of layers, `parts` that of blobs which are being fetched.

mod about;
mod form;
mod images;
pub mod layers;
pub mod parts;
mod publish;
pub mod record;

pub use about::{About, Healthcheck};
pub use form::Form;
pub(super) use form::Found;
pub(super) use images::{Staging, Store, temporary};
pub(super) use publish::{Beside, give_name, undo};
pub(super) use record::{Document, LayerRef, Record};
