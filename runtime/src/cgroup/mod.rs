//! Cgroups (cgroups(7), Documentation/admin-guide/cgroup-v2.rst): those of a container are made, limited, entered, frozen,
//! emptied and removed here.
//!
//! A host has one hierarchy of version 2, several of version 1, or both side by side. A container gets a cgroup in each
//! of them, and each controller is spoken to in the language of the hierarchy that has it. What shall hold is decided
//! ([`Settings`]) before anything is changed; directories are opened once, from the mount of their hierarchy, without
//! following anything.

mod change;
mod devices;
mod dir;
mod filter;
mod freezer;
mod group;
mod hierarchies;
mod memory_event;
mod place;
mod processes;
mod remove;
mod settings;
mod stats;
mod systemd;
mod v1;
mod v2;

pub(crate) use group::Group;
pub(crate) use hierarchies::Hierarchies;
pub(crate) use memory_event::OutOfMemory;
pub(crate) use place::Places;
pub(crate) use settings::Settings;
pub(crate) use systemd::{Property, Scope, asked as asked_of_systemd};
