//! What is printed: state, list, features.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;
use shim::Result;

use super::execution;
use super::state::{Container, Status, Store};
use super::{SPECIFICATION, rootless};
use crate::json;

/// The state of the specification, and what list adds to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    oci_version: &'static str,
    id: String,
    pid: i32,
    status: Status,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl State {
    fn of(container: &Container) -> Result<Self> {
        let seen = container.look()?;
        let record = seen.record;
        let (bundle, rootfs, created, annotations) = record
            .map(|record| {
                (
                    record.bundle,
                    record.rootfs,
                    record.created,
                    record.annotations,
                )
            })
            .unwrap_or_default();
        Ok(Self {
            oci_version: SPECIFICATION,
            id: container.id.to_string(),
            pid: seen.pid.unwrap_or(0),
            status: seen.status,
            bundle,
            rootfs,
            created,
            annotations,
            owner: rootless::owner(&container.dir),
        })
    }
}

/// The state as hooks get it, when it is this.
///
/// # Errors
/// As [`state`].
pub(super) fn for_hooks(container: &Container, status: Status) -> Result<Vec<u8>> {
    let state = State {
        status,
        ..State::of(container)?
    };
    json::pretty(&state).map(String::into_bytes)
}

/// `state`
///
/// # Errors
/// /proc is not mounted.
pub(super) fn state(container: &Container) -> Result<String> {
    json::pretty(&State::of(container)?)
}

/// `list`
///
/// # Errors
/// As [`state`], and those of reading the directory.
pub(super) fn list(store: &Store, json: bool, quiet: bool) -> Result<String> {
    let mut states = Vec::new();
    for id in store.ids()? {
        // One that has been deleted meanwhile.
        if let Ok(container) = store.find(&id) {
            states.push(State::of(&container)?);
        }
    }
    if json {
        return json::line(&states);
    }
    let mut text = String::new();
    if !quiet {
        text.push_str("ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }
    for state in states {
        // Writing to a String cannot fail.
        let _ = if quiet {
            writeln!(text, "{}", state.id)
        } else {
            writeln!(
                text,
                "{:<11} {:<11} {:<11} {} {} {}",
                state.id,
                state.pid,
                state.status.name(),
                state.bundle.display(),
                state.created,
                state.owner
            )
        };
    }
    Ok(text)
}

/// `features`: what this version does, and nothing that comes later.
///
/// # Errors
/// None is expected.
pub(super) fn features() -> Result<String> {
    let (modes, flags) = execution::memory_policies();
    json::pretty(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "idmap", "iversion", "lazytime",
            "loud", "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
            "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime",
            "remount", "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime",
            "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
            "rsuid", "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "symfollow",
            "sync", "tmpcopyup", "unbindable",
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities(),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": { "enabled": true },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "mountExtensions": { "idmap": { "enabled": true } },
            "memoryPolicy": { "modes": modes, "flags": flags },
            "netDevices": { "enabled": true },
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    }))
}

fn capabilities() -> Vec<String> {
    crate::capabilities::Set::up_to(40).names().collect()
}
