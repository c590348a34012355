//! A mount of type cgroup: what the container sees of the hierarchies that it is in.
//!
//! With version 2 alone it is the one filesystem. With version 1, or both side by side, there are several, which the host
//! has mounted in one directory: the container gets such a directory too, with a bind of its own cgroup in each. A new
//! mount of a hierarchy would show the same, but only in a cgroup namespace.

use std::ffi::{CString, OsString};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use procfs::process::Process;
use shim::mounts::{Attributes, Content, Mount, Target};
use shim::sys::mount::Propagation;
use shim::{Error, Result};

const PLACE: &str = "/sys/fs/cgroup";

/// The mounts at `target`. Where they are to be read-only, so must be what is between them: the caller sees to that.
///
/// # Errors
/// The host has none.
pub(super) fn plan(target: &Target, attributes: Attributes) -> Result<Vec<Mount>> {
    let unified = statfs(PLACE).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if unified {
        let content = Content::New {
            filesystem: c"cgroup2".to_owned(),
            options: Vec::new(),
        };
        return Ok(vec![mount(target.clone(), content, attributes)]);
    }
    let option =
        |key: &str, value: &str| Some((CString::new(key).ok()?, Some(CString::new(value).ok()?)));
    let directory = Content::New {
        filesystem: c"tmpfs".to_owned(),
        options: [option("mode", "755"), option("size", "64k")]
            .into_iter()
            .flatten()
            .collect(),
    };
    // Mount points are made in it, so it becomes read-only later.
    let own = attributes.without(Attributes::READONLY);
    let mut mounts = vec![mount(target.clone(), directory, own)];
    for (name, source) in own_cgroups()? {
        let inside = Path::new(&target.to_string()).join(&name);
        let inside = Target::new(&inside).map_err(|why| Error::new("mount cgroup").because(why))?;
        let content = Content::Bind {
            source,
            file: false,
            recursive: false,
            propagation: Propagation::Private,
            idmap: Vec::new(),
        };
        mounts.push(mount(inside, content, attributes));
    }
    Ok(mounts)
}

fn mount(target: Target, content: Content, attributes: Attributes) -> Mount {
    Mount {
        target,
        make_target: true,
        content,
        attributes,
        shallow: false,
    }
}

/// Each hierarchy that is mounted, by the name of its directory, and our own cgroup in it.
fn own_cgroups() -> Result<Vec<(OsString, PathBuf)>> {
    let failed = |why: String| {
        Error::new("find the cgroups of")
            .on("the caller")
            .because(why)
            .hint("cgroups must be mounted below /sys/fs/cgroup")
    };
    let own = Process::myself().map_err(|error| failed(error.to_string()))?;
    let memberships = own.cgroups().map_err(|error| failed(error.to_string()))?;
    let mounted = own.mountinfo().map_err(|error| failed(error.to_string()))?;
    let mut found = Vec::new();
    for mount in mounted {
        let is_below = mount.mount_point.parent() == Some(Path::new(PLACE));
        let (true, Some(name)) = (is_below, mount.mount_point.file_name()) else {
            continue;
        };
        let controllers = match mount.fs_type.as_str() {
            "cgroup" => Some(&mount.super_options),
            "cgroup2" => None,
            _ => continue,
        };
        let membership = memberships.0.iter().find(|one| match controllers {
            None => one.hierarchy == 0,
            Some(options) => {
                let mut names = one
                    .controllers
                    .iter()
                    .filter(|name| !name.is_empty())
                    .peekable();
                names.peek().is_some() && names.all(|name| has(options, name))
            }
        });
        let Some(membership) = membership else {
            continue;
        };
        let below = Path::new(&membership.pathname);
        let below = below.strip_prefix(&mount.root).unwrap_or(Path::new(""));
        found.push((name.to_owned(), mount.mount_point.join(below)));
    }
    if found.is_empty() {
        return Err(failed("there are none".to_owned()));
    }
    Ok(found)
}

/// Whether a hierarchy has this controller: `cpu`, or `name=systemd`.
fn has(options: &std::collections::HashMap<String, Option<String>>, controller: &str) -> bool {
    match controller.split_once('=') {
        Some((key, name)) => options
            .get(key)
            .is_some_and(|value| value.as_deref() == Some(name)),
        None => options.contains_key(controller),
    }
}
