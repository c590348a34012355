//! What else is done with images that are there, one file for each verb of `image`: `list` (and `rm`), `inspect`, `tag`,
//! `verify`, `gc`, `build-erofs`.

mod build_erofs;
mod gc;
mod inspect;
mod list;
mod tag;
mod verify;

pub use build_erofs::{BuiltErofs, ErofsRequest, ErofsSource, build_erofs};
pub use gc::{Collected, collect};
pub use inspect::{Described, inspect};
pub use list::{Listed, list, remove_image, size, table};
pub use tag::tag;
pub use verify::{Problem, Verified, verify};
