//! Mounts that belong to one container: given to it at launch, or later while it runs.
//!
//! What comes from the host is opened and copied by the client, in the host's namespaces, and travels as a detached
//! mount ([`prepare`]). What is new (a tmpfs, a devpts) is made by the process that attaches it, so that it belongs to
//! the container's user namespace. Attaching ([`apply`]) happens in the container's mount namespace alone: the host's
//! table never has these mounts, and with the namespace they are gone.

mod apply;
mod dev;
mod join;
mod parcel;
mod plan;
mod prepare;
mod target;

pub use join::{add, remove};
pub use plan::{Attributes, Content, Mount, Target, Upper};

pub(crate) use apply::{attach, write_resolv_conf};
pub(crate) use dev::NODES;
pub(crate) use parcel::{Parcel, Unpacking};
pub(crate) use prepare::prepare;
