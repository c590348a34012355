//! Root filesystems and bind mounts on the running kernel. Needs root, mksquashfs and mkfs.erofs.
//!
//! Every test runs in a thread with a mount namespace of its own, from which nothing reaches the host.

// Clippy's allow-unwrap-in-tests covers test functions, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bind;
mod create;
mod destroy;
mod host;
mod idmap;
mod killed;
