//! The OCI front-end, as engines call it.

mod capabilities;
mod cgroups;
mod cgroups_second;
mod config;
mod control;
mod devices;
mod engines;
mod exec;
mod exec_words;
mod hooks;
mod lifecycle;
mod moments;
mod mount_options;
mod mounts;
mod namespaces;
mod notify;
mod own_ids;
mod peers;
mod places;
mod podman;
mod podman_rootless;
mod refused;
mod rootless;
mod scarce;
mod systemd;
mod terminal;
