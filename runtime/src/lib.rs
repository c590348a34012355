//! Decides: what the user asked for and what the image and the host say becomes a plan, which `shim` applies.

/// `bind-mount`: one call for what a client would otherwise do with mount(8).
pub mod bind_mount;
/// Capabilities by name and as masks.
pub mod capabilities;
/// The command line: words become an [`cli::Invocation`], and an invocation is carried out.
pub mod cli;
/// Where things are: flags over `/etc/start-container/config.toml` over defaults.
pub mod config;
/// The environment of a command, and where it is searched.
pub mod environment;
/// `subcontainer exec`.
pub mod exec;
/// Facts about the caller's situation.
pub mod host;
/// Where the ids of containers come from.
pub mod idrange;
/// Names that become file names: image ids and guids.
pub mod ids;
/// Image store: archives become root filesystems.
pub mod image;
/// `subcontainer inspect`.
pub mod inspect;
/// `subcontainer launch`.
pub mod launch;
/// Which process is the leader of a root filesystem.
pub mod leader;
/// `--mount`, `--share`, `--resolv-conf`, `subcontainer mount`.
pub mod mounts;
/// The OCI command line: create, start, state, kill, delete and the like.
pub mod oci;
/// What launch and exec decide in the same way.
pub mod process;
/// What a container is kept from.
pub mod profile;
/// `image pull`, which a program of its own does.
pub mod pull;
/// Files that somebody else may have put there.
pub mod regular;
/// `subcontainer create-fs` and `destroy-fs`.
pub mod rootfs;
/// Without root: a user namespace of the caller's own.
pub mod rootless;
/// `subcontainer run`.
pub mod run;
/// What a container's processes may ask the kernel for.
pub mod seccomp;
/// Who a command runs as, by the root filesystem's own passwd and group.
pub mod users;
/// fs-verity digests.
pub mod verity;
/// What is no failure and has to be said.
pub mod warning;

mod attributes;
mod cgroup;
mod decimal;
mod defaults;
mod discover;
mod dry_run;
mod identity;
mod json;
mod lock;
mod suggest;
mod userns;
