//! `pull`: an image that is fetched piece by piece while it is chosen.

use shim::Result;

use super::layered;
use super::way::{Chosen, finish, reading};
use crate::image::source::{Pieces, Remote, oci};
use crate::image::store::Store;
use crate::image::store::layers::Layers;
use crate::image::{Format, ImportRequest, Imported};

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
        Some(layers) if diff_ids.len() == 1 || layers.can_hide() => {
            layered::there(layers, diff_ids, request.rights)
        }
        // Where it is going to be one directory, all of it is needed.
        _ => Ok(vec![false; diff_ids.len()]),
    };
    let pieces = Pieces::Remote {
        remote,
        there: &there,
    };
    let image = oci::select(&pieces, None, &request.platform, &reading)?;
    finish(store, request, Chosen::Image(Format::Oci, Box::new(image)))
}
