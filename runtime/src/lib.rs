//! Decides: what the user asked for and what the image and the host say becomes a plan, which `shim` applies.

/// The command line: words become an [`cli::Invocation`], and an invocation is carried out.
pub mod cli;
/// Where things are: flags over `/etc/start-container/config.toml` over defaults.
pub mod config;
/// The environment of a command, and where it is searched.
pub mod environment;
/// Names that become file names: image ids and guids.
pub mod ids;
/// Image store: archives become root filesystems.
pub mod image;
/// Who a command runs as, by the root filesystem's own passwd and group.
pub mod users;

mod decimal;
mod regular;
mod suggest;
