//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`: what the host's security module takes a container for.
//!
//! Engines give them where the host has such a module. Where it has not, what is asked for cannot be had, and is refused.

use std::ffi::CString;
use std::fs;

use oci_spec::runtime::{Linux, Process as Given};
use shim::plan::{Label, SecurityModule};
use shim::{Error, Result};

use super::config::wrong;

const APPARMOR: &str = "process.apparmorProfile";
const SELINUX: &str = "process.selinuxLabel";
const MOUNTS: &str = "linux.mountLabel";

/// The label of a process, if it is to have one.
///
/// # Errors
/// Names the field that asks for what the host has not.
pub(super) fn plan(given: &Given) -> Result<Option<Label>> {
    let profile = said(given.apparmor_profile().as_ref());
    let context = said(given.selinux_label().as_ref());
    if profile.is_some() && !has_apparmor() {
        return Err(lacking(APPARMOR, "AppArmor"));
    }
    if context.is_some() && !has_selinux() {
        return Err(lacking(SELINUX, "SELinux"));
    }
    // The kernel has one of the two at most.
    let (field, module, text) = match (profile, context) {
        (Some(profile), _) => {
            let word = match given.no_new_privileges() == Some(true) && is_confined() {
                // All that no_new_privs lets through: the caller's own profile stays in force as well.
                true => "stack",
                false => "exec",
            };
            let text = format!("{word} {profile}");
            (APPARMOR, SecurityModule::AppArmor, text)
        }
        (None, Some(context)) => (SELINUX, SecurityModule::Selinux, context.clone()),
        (None, None) => return Ok(None),
    };
    Ok(Some(Label {
        module,
        text: text_of(field, text)?,
    }))
}

/// The label of filesystems that are made for a container, if they are to have one.
///
/// # Errors
/// As [`plan`].
pub(super) fn of_mounts(linux: &Linux) -> Result<Option<CString>> {
    match said(linux.mount_label().as_ref()) {
        Some(_) if !has_selinux() => Err(lacking(MOUNTS, "SELinux")),
        Some(context) => text_of(MOUNTS, context.clone()).map(Some),
        None => Ok(None),
    }
}

/// What a process of a container says nothing of is as the container itself has it.
pub(super) fn inherit(given: &mut Given, own: &Given) {
    if said(given.apparmor_profile().as_ref()).is_none() {
        given.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if said(given.selinux_label().as_ref()).is_none() {
        given.set_selinux_label(own.selinux_label().clone());
    }
}

fn said(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

fn text_of(field: &'static str, text: String) -> Result<CString> {
    CString::new(text).map_err(|_| wrong(field, "contains a NUL byte"))
}

fn lacking(field: &'static str, module: &'static str) -> Error {
    Error::new("read config.json")
        .on(field)
        .because(format!("the kernel has no {module}, or it is switched off"))
        .hint("leave it out, or start the machine with it: lsm= on the kernel's command line")
}

fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Its filesystem is known where it is switched on, whether that is mounted or not.
fn has_selinux() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.ends_with("\tselinuxfs"))
}

/// Whether a profile of AppArmor's applies to the caller.
fn is_confined() -> bool {
    let of = |name| fs::read_to_string(name);
    let own = of("/proc/self/attr/apparmor/current").or_else(|_| of("/proc/self/attr/current"));
    own.is_ok_and(|own| own.trim() != "unconfined")
}
