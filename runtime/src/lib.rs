//! Decides: what the user asked for and what the image and the host say becomes a plan, which `shim` applies.

pub mod bind_mount;
pub mod dirs;
/// Image store: archives become root filesystems.
pub mod image;
pub mod rootfs;
