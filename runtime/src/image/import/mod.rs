//! `image import`: from a source to an image that has a name.
//!
//! `way` is the whole way, for one image; `several` takes all images of a source, `remote` one from who fetches it. An image
//! becomes layers (`layered`, each by `one_layer`), one directory, or the copy of a file that is a filesystem (`mounted`).

mod layered;
mod mounted;
mod one_layer;
mod remote;
mod several;
mod way;

pub use remote::import_remote;
pub use several::import_all;
pub use way::import;
