//! The OCI front-end, as engines call it.

mod cgroups;
mod config;
mod engines;
mod exec;
mod lifecycle;
mod refused;
