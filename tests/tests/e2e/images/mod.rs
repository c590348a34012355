//! Images as they come: what unpacking makes of them, compared with another program's work and with golden lists, and
//! what is left when something goes wrong.

mod debian;
mod faults;
mod filesystems;
mod hostile;
mod packed;
mod same_tree;
pub(crate) mod ways;
