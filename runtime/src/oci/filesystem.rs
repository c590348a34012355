//! Mounts of config.json that are filesystems of their own, and changes of what is mounted already.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;

use oci_spec::runtime::Mount as Given;
use shim::Result;
use shim::mounts::{Content, Covered, Mount, Setting, Target};
use shim::sys::mount::Propagation;

use super::config::{unsupported, wrong};
use super::mount_options::Options;
use super::mounts::only_for;

/// The most that fsconfig(2) takes as a value, without its NUL byte.
const VALUE_MAX: usize = 255;

/// A new filesystem of type `kind`. Which types there are is the kernel's affair.
///
/// # Errors
/// Names what is missing, or for a bind only.
pub(super) fn new(given: &Given, kind: &str, options: &Options, field: &str) -> Result<Content> {
    if options.idmap.is_some() || given.uid_mappings().is_some() || given.gid_mappings().is_some() {
        return Err(unsupported(format!("{field}.uidMappings")).hint("only a bind can have them"));
    }
    if kind.is_empty() || kind == "none" {
        return Err(wrong(format!("{field}.type"), "is missing"));
    }
    if options.copy_up && kind != "tmpfs" {
        return Err(only_for(field, "tmpcopyup", "a tmpfs"));
    }
    // It may name nothing, but it is what the mount table shows.
    let source = given.source().as_ref();
    let source = source.filter(|source| !source.as_os_str().is_empty());
    let source = source.map(|source| CString::new(source.as_os_str().as_bytes()));
    let source = source.transpose();
    let source = source.map_err(|_| wrong(format!("{field}.source"), "contains a NUL byte"))?;
    let named = source.map(|source| (c"source".to_owned(), Some(source)));
    let settings: Vec<Setting> = named.into_iter().chain(options.data.clone()).collect();
    short_enough(&settings, field)?;
    Ok(Content::New {
        filesystem: CString::new(kind)
            .map_err(|_| wrong(format!("{field}.type"), "contains a NUL byte"))?,
        covered: covered(kind, options),
        options: settings,
        propagation: options.propagation.unwrap_or(Propagation::Private),
    })
}

/// All files of a new filesystem get one label of SELinux's, unless its options say which. Those of the kernel's own are for its
/// policy to label; runc and crun leave them out likewise.
pub(super) fn label(kind: &str, label: &CStr, options: &mut Vec<Setting>) {
    let labelled = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2");
    let given = |(name, _): &Setting| name.to_bytes().ends_with(b"context");
    if labelled && !options.iter().any(given) {
        options.push((c"context".to_owned(), Some(label.to_owned())));
    }
}

/// As runc and crun have it: a tmpfs looks like the directory that it covers, unless its options say otherwise.
fn covered(kind: &str, options: &Options) -> Covered {
    let says = |name: &CStr| options.data.iter().any(|(key, _)| key.as_c_str() == name);
    match kind {
        "tmpfs" if options.copy_up => Covered::Content {
            mode: !says(c"mode"),
            owner: !says(c"uid") && !says(c"gid"),
        },
        "tmpfs" if !says(c"mode") => Covered::Mode,
        _ => Covered::Nothing,
    }
}

fn short_enough(settings: &[Setting], field: &str) -> Result<()> {
    let long = settings.iter().find(|(_, value)| {
        value
            .as_ref()
            .is_some_and(|value| value.count_bytes() > VALUE_MAX)
    });
    match long {
        Some((key, _)) => Err(wrong(
            format!("{field}.options: {}", key.to_string_lossy()),
            format!("its value is longer than the {VALUE_MAX} bytes that fsconfig(2) takes"),
        )),
        None => Ok(()),
    }
}

/// A change of what is mounted at `target` already, by an entry before this one or in the root filesystem. What is not named
/// stays as it is.
///
/// # Errors
/// It has options for a filesystem that no entry before it has made: that filesystem may be the host's.
pub(super) fn again(
    target: &Target,
    options: &Options,
    before: &[Mount],
    field: &str,
) -> Result<Content> {
    if options.copy_up || options.idmap.is_some() {
        return Err(only_for(field, "tmpcopyup or idmap", "a new mount"));
    }
    let there = before
        .iter()
        .rev()
        .find(|mount| mount.target == *target && !matches!(mount.content, Content::Remount { .. }));
    let own = there.is_some_and(|mount| matches!(mount.content, Content::New { .. }));
    if let (Some((key, _)), false) = (options.data.first(), own) {
        let key = key.to_string_lossy();
        return Err(only_for(
            field,
            &key,
            "a filesystem that an entry before has made",
        ));
    }
    short_enough(&options.data, field)?;
    Ok(Content::Remount {
        cleared: options.cleared,
        options: options.data.clone(),
        propagation: options.propagation.map(|kind| (kind, options.recursive)),
    })
}
