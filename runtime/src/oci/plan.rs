//! A bundle's configuration becomes the plan of a launch that waits to be started. Looks at the host, changes nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use oci_spec::runtime::Linux;
use serde_json::Value;
use shim::Result;
use shim::mounts::{Content, Mount, Target};
use shim::plan::{IdMaps, Launch, Namespaces, Program, Sysctl, System, Views};
use shim::sys::mount::Propagation;

use super::cgroup_mount::View;
use super::config::{Config, wrong};
use super::devices::{self, Maker};
use super::passed::Passed;
use super::{labels, mounts, namespaces, net_devices, process, rootless};
use crate::cgroup;
use crate::host;
use crate::process::Rootfs;

/// What the configuration does not say.
#[derive(Debug)]
pub(super) struct Outside<'a> {
    /// The cgroups that it gets.
    pub(super) cgroups: &'a cgroup::Places,
    /// The ids of the user namespace that has been entered in order to mount, if one has.
    pub(super) entered: Option<&'a IdMaps>,
    /// Whether it may be granted all that the kernel knows, whatever the caller has: in a dry run.
    pub(super) has_all: bool,
    /// The caller's descriptors that it gets.
    pub(super) passed: &'a Passed,
    /// Whether there are hooks to be run when everything is mounted.
    pub(super) pauses: bool,
    /// Whether it does without pivot_root(2).
    pub(super) no_pivot: bool,
    /// Whether the caller's session keyring is the container's, too.
    pub(super) keeps_keyring: bool,
}

/// Opens the root filesystem that the configuration names.
///
/// # Errors
/// It says none, or there is none.
pub(super) fn rootfs(config: &Config) -> Result<Rootfs> {
    let root = config.spec.root().as_ref();
    let root = root.ok_or_else(|| wrong("root", "is missing"))?;
    Rootfs::open(&config.bundle.join(root.path())).map_err(|error| {
        error
            .flags("root.path")
            .hint("it is relative to the bundle")
    })
}

/// Decides.
///
/// # Errors
/// Names the field that is wrong or not supported.
pub(super) fn plan(
    config: &Config,
    rootfs: &Rootfs,
    outside: &Outside<'_>,
    warnings: &mut Vec<String>,
) -> Result<Launch> {
    let spec = &config.spec;
    let given = spec.process().as_ref();
    let given = given.ok_or_else(|| wrong("process", "is missing"))?;
    let set_groups = host::may_set_groups() && !rootless::keeps_groups(spec);
    rootless::check_groups(given, set_groups)?;
    let linux = spec.linux().clone().unwrap_or_default();
    let places = namespaces::plan(&linux, outside.entered)?;
    let has_new = |wanted| places.own.names().any(|name| name == wanted);
    let view = View {
        places: outside.cgroups,
        own_namespace: has_new("cgroup"),
    };
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let label = labels::of_mounts(&linux)?;
    let label = label.as_deref();
    let mut mounts = mounts::plan(mounts, &config.bundle, &view, &places, label, warnings)?;
    let mut masked = paths("linux.maskedPaths", linux.masked_paths().as_ref())?;
    masked.extend(mounts.masked);
    let mut readonly = paths("linux.readonlyPaths", linux.readonly_paths().as_ref())?;
    readonly.extend(mounts.readonly);
    let named =
        |field: &'static str, name: Option<&String>| match name.filter(|name| !name.is_empty()) {
            Some(_) if !places.has("uts") => {
                Err(wrong(field, "needs a uts namespace that is not the host's"))
            }
            name => Ok(name.cloned()),
        };
    let filter = match config.part(&["linux", "seccomp"]) {
        Value::Null => None,
        filter => Some(filter.to_string().into_bytes()),
    };
    let own_dev = !mounts.list.iter().any(is_whole_dev);
    let devices = linux.devices().as_deref().unwrap_or_default();
    let devices = devices::plan(devices, own_dev, Maker::of(&places)?, warnings)?;
    mounts.list.extend(devices.binds);
    let mut program = process::plan(given, config, &rootfs.dir)?;
    let preserved = outside.passed.tell(&mut program.environment);
    Ok(Launch {
        rootfs: rootfs.path.clone(),
        bind_rootfs: false,
        hidden: true,
        cgroups: outside.cgroups.paths().collect(),
        pauses: outside.pauses,
        no_pivot: outside.no_pivot,
        shared_root: match places.own.has_mount() {
            true => None,
            false => Some(path_of(rootfs)?),
        },
        keeps_keyring: outside.keeps_keyring,
        propagation: propagation(&linux)?,
        system: System {
            host_name: named("hostname", spec.hostname().as_ref())?,
            domain_name: named("domainname", spec.domainname().as_ref())?,
            time_offsets: namespaces::time_offsets(&linux, places.own)?,
            loopback: has_new("network"),
            net_devices: net_devices::plan(&linux, &places)?,
            sysctls: sysctls(&linux, places.all(), spec.domainname().as_ref())?,
            devices: own_dev,
            workdir: Target::new(given.cwd()).ok(),
            nodes: devices.nodes,
        },
        namespaces: places.own,
        profile: "oci".to_owned(),
        privileges: process::privileges(
            given,
            filter.as_deref(),
            &config.file,
            places.has("user") || outside.has_all,
            warnings,
        )?,
        joined: places.joined,
        id_maps: places.id_maps,
        views: Views {
            masked,
            readonly,
            closed_devices: false,
            readonly_dev: mounts.readonly_dev,
            readonly_root: spec.root().as_ref().and_then(|root| root.readonly()) == Some(true),
        },
        set_groups,
        resolv_conf: None,
        mounts: mounts.list,
        program: Program::Held(program),
        stop_signal: None,
        stdio: process::stdio(given, preserved)?,
    })
}

fn path_of(rootfs: &Rootfs) -> Result<CString> {
    let path = rootfs.path.as_os_str().as_bytes();
    CString::new(path).map_err(|_| wrong("root.path", "contains a NUL byte"))
}

/// `linux.rootfsPropagation`: slaves of the host's are what mounts are anyway.
fn propagation(linux: &Linux) -> Result<Option<(Propagation, bool)>> {
    Ok(Some(match linux.rootfs_propagation().as_deref() {
        None | Some("" | "slave" | "rslave") => return Ok(None),
        Some("private") => (Propagation::Private, false),
        Some("rprivate") => (Propagation::Private, true),
        Some("shared") => (Propagation::Shared, false),
        Some("rshared") => (Propagation::Shared, true),
        Some("unbindable") => (Propagation::Unbindable, false),
        Some("runbindable") => (Propagation::Unbindable, true),
        Some(_) => return Err(wrong("linux.rootfsPropagation", "is none that is known")),
    }))
}

/// Whether /dev is somebody's whole directory, which nothing is to be put into.
fn is_whole_dev(mount: &Mount) -> bool {
    matches!(mount.content, Content::Bind { .. }) && mount.target.to_string() == "/dev"
}

/// Only what belongs to a namespace of the container's own; all others are the host's. `named`: what its domain is called anyway.
fn sysctls(linux: &Linux, namespaces: Namespaces, named: Option<&String>) -> Result<Vec<Sysctl>> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut sysctls = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let field = format!("linux.sysctl.{name}");
        let parts = sysctl_parts(name);
        // RESOLVE_BENEATH lets `..` through as long as it stays in the procfs.
        if parts
            .iter()
            .any(|part| matches!(part.as_str(), "" | "." | "..") || part.contains('/'))
        {
            return Err(wrong(field, "is no path below /proc/sys"));
        }
        let (dotted, path) = (parts.join("."), parts.join("/"));
        let needed = match dotted.as_str() {
            "kernel.hostname" => return Err(wrong(field, "there is the field hostname for it")),
            "kernel.domainname" if named.is_some_and(|name| name != value) => {
                return Err(wrong(field, "the field domainname says something else"));
            }
            "kernel.domainname" => "uts",
            text if IPC.contains(&text) || text.starts_with("fs.mqueue.") => "ipc",
            text if text.starts_with("net.") => "network",
            _ => {
                return Err(wrong(
                    field,
                    "it belongs to no namespace, so it would be the host's",
                ));
            }
        };
        if !namespaces.names().any(|own| own == needed) {
            return Err(wrong(
                field,
                format!("needs a {needed} namespace that is not the host's"),
            ));
        }
        sysctls.push(Sysctl {
            path: CString::new(format!("sys/{path}"))
                .map_err(|_| wrong(field, "contains a NUL byte"))?,
            value: value.clone(),
        });
    }
    sysctls.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sysctls)
}

/// The names on the way to a sysctl, as sysctl(8) takes it: the separator that comes first is the one between them, and the
/// other one stands for it within a name (`net.ipv4.conf.eth0/1.forwarding`).
fn sysctl_parts(name: &str) -> Vec<String> {
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some(".") => name.split('.').map(|part| part.replace('/', ".")).collect(),
        _ => name.split('/').map(str::to_owned).collect(),
    }
}

fn paths(field: &'static str, given: Option<&Vec<String>>) -> Result<Vec<CString>> {
    let list = given.into_iter().flatten();
    list.map(|path| match CString::new(path.as_str()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(path),
        _ => Err(wrong(field, "a path is not absolute")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn planned(name: &str) -> Result<String> {
        let mut linux = Linux::default();
        let map = HashMap::from([(name.to_owned(), "1".to_owned())]);
        linux.set_sysctl(Some(map));
        let own = Namespaces::from_names(["network", "ipc"]).unwrap();
        let sysctls = sysctls(&linux, own, None)?;
        Ok(sysctls[0].path.to_string_lossy().into_owned())
    }

    #[test]
    fn a_sysctl_belongs_to_a_namespace_of_the_containers_own() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "sys/net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "sys/net/ipv4/conf/eth0.1/forwarding",
            ),
            ("kernel.shm_rmid_forced", "sys/kernel/shm_rmid_forced"),
            ("fs/mqueue/msg_max", "sys/fs/mqueue/msg_max"),
        ] {
            assert_eq!(planned(name).unwrap(), path);
        }
        for name in [
            "kernel.core_pattern",
            "kernel.hostname",
            "kernel.shmall.x",
            "net/../kernel/core_pattern",
            "net.//.kernel.core_pattern",
            "net.//.//.kernel.panic",
            "net..ipv4",
            "net/./ipv4",
            "net.",
            "/net/ipv4/ip_forward",
            "net",
            "",
            "fs.mqueue./.x",
        ] {
            assert!(planned(name).is_err(), "{name}");
        }
    }
}
