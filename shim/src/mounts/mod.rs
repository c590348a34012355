//! Mounts that belong to one container: given to it at launch, or later while it runs.
//!
//! What comes from the host is opened and copied by the client, in the host's namespaces, and travels as a detached
//! mount (`prepare`). What is new (a tmpfs, a devpts) is made by the process that attaches it, so that it belongs to
//! the container's user namespace. Attaching (`apply`) happens in the container's mount namespace alone: the host's
//! table never has these mounts, and with the namespace they are gone.

// What a cloned child uses too: see where `child` is declared.
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod apply;
mod attributes;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod copy_up;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod dev;
mod join;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod node;
mod parcel;
mod place;
mod plan;
mod prepare;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod target;
#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod unpacking;

pub use attributes::{Attributes, Recursive};
pub use join::{add, remove};
pub use place::Target;
pub use plan::{Content, Covered, Mount, Setting, Upper};

pub(crate) use apply::{attach, write_resolv_conf};
pub(crate) use dev::{NODES, make_file, populate};
pub(crate) use node::make as make_node;
pub(crate) use parcel::Parcel;
pub(crate) use prepare::prepare;
pub(crate) use target::make_directory;
pub(crate) use unpacking::Unpacking;

/// Paths and numbers of the character devices that every container has.
pub fn usual_devices() -> impl Iterator<Item = (String, u64, u64)> {
    NODES.iter().map(|node| {
        let path = format!("/dev/{}", node.name.to_string_lossy());
        (path, node.major, node.minor)
    })
}
