//! The end-to-end tests: every clause of the contract and every invariant of the design against the real binary.
//!
//! One program, so that it links once. `docs/contract.md` says which test belongs to which clause.

mod auto_ids;
mod auto_places;
mod bad_image;
mod bad_input;
mod bare_host;
mod bind_mount;
mod capabilities;
mod config;
mod deaths;
mod dry_run;
mod environment;
mod escape;
mod escape_privileges;
mod exec;
mod exit;
mod forms;
mod hostile;
mod identity;
mod inspect;
mod invariants;
mod kills;
mod launch;
mod launch_mount_options;
mod launch_mounts;
mod launch_mounts_hostile;
mod launch_resolv_conf;
mod launch_share;
mod lifecycle;
mod matrix;
mod mount_verbs;
mod mounts;
mod namespaces;
mod nested;
mod pipe_wrap;
mod rootfs;
mod rootless;
mod rootless_refused;
mod seccomp;
mod signals;
mod stdio;
mod storm;
mod terminal;
mod user_files;
mod users;
