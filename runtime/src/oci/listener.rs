//! `linux.seccomp.listenerPath`: the socket of whoever is asked about system calls (`SCMP_ACT_NOTIFY`), and what is sent there:
//! the "Container process state" of the specification, with the listener attached.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::Pid;
use serde_json::{Value, json};
use shim::plan::Privileges;
use shim::sys::socket;
use shim::{Error, Result};

use super::config::{Config, wrong};
use super::show;
use super::state::{Container, Status};
use super::{SPECIFICATION, console};

const FIELD: &str = "linux.seccomp.listenerPath";

/// A connection to whoever is asked.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixStream,
    metadata: Option<String>,
}

impl Listener {
    /// Connects, where the filter asks somebody. Each process with a filter of its own has a connection of its own.
    ///
    /// # Errors
    /// Nobody is named; nobody listens.
    pub(super) fn connect(config: &Config, privileges: &Privileges) -> Result<Option<Self>> {
        let text = |name| {
            let text = config.part(&["linux", "seccomp", name]).as_str();
            text.filter(|text| !text.is_empty())
        };
        let (path, metadata) = (text("listenerPath"), text("listenerMetadata"));
        let Some(path) = path else {
            if metadata.is_some() {
                return Err(wrong(
                    "linux.seccomp.listenerMetadata",
                    "needs listenerPath",
                ));
            }
            return match listens(privileges) {
                true => Err(wrong(FIELD, "is missing, for SCMP_ACT_NOTIFY")),
                false => Ok(None),
            };
        };
        if !listens(privileges) {
            return Ok(None);
        }
        if !path.starts_with('/') {
            return Err(wrong(FIELD, "is not absolute"));
        }
        Ok(Some(Self {
            socket: console::open(Path::new(path), FIELD)?,
            metadata: metadata.map(str::to_owned),
        }))
    }

    /// Sends the listener of a process of the container on.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn send(
        &self,
        container: &Container,
        status: Status,
        pid: Pid,
        fd: &OwnedFd,
    ) -> Result<()> {
        let state = show::for_hooks(container, status)?;
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        let mut all = json!({
            "ociVersion": SPECIFICATION,
            "fds": ["seccompFd"],
            "pid": pid.as_raw(),
            "state": state,
        });
        if let Some(metadata) = &self.metadata {
            all["metadata"] = metadata.as_str().into();
        }
        let sent = socket::send(
            &self.socket,
            all.to_string().as_bytes(),
            Some(fd.as_raw_fd()),
        );
        sent.map_err(|errno| {
            Error::new("send the listener to")
                .on(FIELD)
                .errno(errno)
                .hint("somebody must listen there and take it")
        })
    }
}

fn listens(privileges: &Privileges) -> bool {
    privileges
        .seccomp
        .as_ref()
        .is_some_and(|seccomp| seccomp.listens())
}

/// Sends a listener on, where somebody waits for it: otherwise there is none.
///
/// # Errors
/// As [`Listener::send`].
pub(super) fn pass_on(
    listener: Option<&Listener>,
    container: &Container,
    status: Status,
    pid: Pid,
    fd: &OwnedFd,
) -> Result<()> {
    listener.map_or(Ok(()), |listener| listener.send(container, status, pid, fd))
}
