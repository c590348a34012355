//! `spec`: a config.json to start from.

use std::path::Path;

use nix::unistd::{Gid, Uid};
use serde_json::{Value, json};
use shim::{Error, Result};

use super::SPECIFICATION;
use crate::cgroup::Hierarchies;
use crate::json;

/// Writes a configuration that runs a shell; `rootless`: with nothing in it that takes root.
///
/// # Errors
/// There is a config.json already; it cannot be written.
pub(super) fn write(bundle: &Path, rootless: bool) -> Result<()> {
    let path = bundle.join("config.json");
    let cgroups = Hierarchies::find().unwrap_or_default();
    let mut config = example(cgroups.is_unified());
    if rootless {
        adapt(&mut config);
    }
    if cgroups.iter().next().is_none() {
        without_cgroups(&mut config);
    }
    let text = json::pretty(&config)?;
    let mut options = std::fs::File::options();
    let opened = options.write(true).create_new(true).open(&path);
    opened
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| {
            Error::io("write", path.display(), &error)
                .hint("a config.json that is there already is not replaced")
        })
}

/// The same as runc's, whose words and tools people have: they add to it and take from it. So a cgroup namespace is in it
/// only where the host has version 2 alone.
fn example(unified: bool) -> Value {
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    namespaces.extend(unified.then_some("cgroup"));
    let namespaces: Vec<_> = namespaces
        .iter()
        .map(|name| json!({ "type": name }))
        .collect();
    let usual = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": SPECIFICATION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": usual, "effective": usual, "permitted": usual },
            "noNewPrivileges": true,
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024 }],
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "container",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// The caller is root inside and has no other id; the network is the host's, and so is the sysfs that shows it.
fn adapt(config: &mut Value) {
    let linux = &mut config["linux"];
    without_resources(linux);
    if let Some(list) = linux["namespaces"].as_array_mut() {
        list.retain(|one| one["type"] != "network");
        list.push(json!({ "type": "user" }));
    }
    let only = |own: u32| json!([{ "containerID": 0, "hostID": own, "size": 1 }]);
    linux["uidMappings"] = only(Uid::effective().as_raw());
    linux["gidMappings"] = only(Gid::effective().as_raw());
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "sysfs" {
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
            *mount = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": options });
        } else if let Some(options) = mount["options"].as_array_mut() {
            // There is no such group.
            options.retain(|option| option != "gid=5");
        }
    }
}

/// The host has none.
fn without_cgroups(config: &mut Value) {
    without_resources(&mut config["linux"]);
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
}

fn without_resources(linux: &mut Value) {
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
}
