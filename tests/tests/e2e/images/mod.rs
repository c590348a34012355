//! Images as they come: what unpacking makes of them, compared with another program's work and with golden lists, and
//! what is left when something goes wrong.

mod debian;
mod faults;
mod filesystems;
mod full;
mod good;
mod hostile;
mod killed;
mod memory;
mod on_overlay;
mod packed;
mod same_tree;
mod store;
pub(crate) mod ways;
