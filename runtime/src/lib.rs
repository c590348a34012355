//! Decides: what the user asked for and what the image and the host say becomes a plan, which `shim` applies.

/// Image store: archives become root filesystems.
pub mod image;
