//! What `exec` is told: a process.json, or a command with options that change the container's own process.

use std::ffi::OsString;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process as Given};
use serde::Deserialize as _;
use serde_json::{Value, json};
use shim::{Error, Result};

use super::config::wrong;
use super::id::ContainerId;

/// `exec`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exec {
    pub(super) id: ContainerId,
    pub(super) process: Option<PathBuf>,
    pub(super) command: Vec<OsString>,
    pub(super) changes: Changes,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) preserved: u32,
    pub(super) detach: bool,
    /// Below the container's own.
    pub(super) cgroup: Option<PathBuf>,
    pub(super) ignore_paused: bool,
}

/// What the options change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) tty: bool,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<String>,
    pub(super) user: Option<(u32, Option<u32>)>,
    pub(super) groups: Vec<u32>,
    pub(super) capabilities: Vec<String>,
    pub(super) no_new_privileges: bool,
    /// Of AppArmor.
    pub(super) profile: Option<String>,
    /// Of SELinux.
    pub(super) label: Option<String>,
}

impl Changes {
    /// Whether anything but a terminal is asked for.
    pub(super) fn is_empty(&self) -> bool {
        let tty = self.tty;
        *self
            == Self {
                tty,
                ..Self::default()
            }
    }

    /// Reads `UID[:GID]`.
    pub(super) fn set_user(&mut self, text: &str) -> Result<()> {
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (number("--user", uid)?, Some(number("--user", gid)?)),
            None => (number("--user", text)?, None),
        };
        self.user = Some((uid, gid));
        Ok(())
    }

    /// Reads `GID[,GID…]`.
    pub(super) fn add_groups(&mut self, text: &str) -> Result<()> {
        for gid in text.split(',') {
            self.groups.push(number("--additional-gids", gid)?);
        }
        Ok(())
    }

    /// The container's own process with another command.
    ///
    /// # Errors
    /// A capability that is none.
    pub(super) fn apply(&self, given: &mut Given, command: Vec<String>) -> Result<()> {
        given.set_args(Some(command));
        given.set_terminal(Some(self.tty));
        if let Some(cwd) = &self.cwd {
            given.set_cwd(cwd.clone());
        }
        let mut env = given.env().clone().unwrap_or_default();
        for line in &self.env {
            // Of two with one name getenv(3) finds the first.
            let name = line.split('=').next();
            env.retain(|old| old.split('=').next() != name);
            env.push(line.clone());
        }
        given.set_env(Some(env));
        if let Some((uid, gid)) = self.user {
            given.user_mut().set_uid(uid);
            if let Some(gid) = gid {
                given.user_mut().set_gid(gid);
            }
        }
        if !self.groups.is_empty() {
            let mut groups = given.user().additional_gids().clone().unwrap_or_default();
            groups.extend(&self.groups);
            given.user_mut().set_additional_gids(Some(groups));
        }
        if self.no_new_privileges {
            given.set_no_new_privileges(Some(true));
        }
        if self.profile.is_some() {
            given.set_apparmor_profile(self.profile.clone());
        }
        if self.label.is_some() {
            given.set_selinux_label(self.label.clone());
        }
        self.add_capabilities(given)
    }

    /// As runc has it: inheritable ones are added to none, and ambient ones only where the container has inheritable ones.
    fn add_capabilities(&self, given: &mut Given) -> Result<()> {
        if self.capabilities.is_empty() {
            return Ok(());
        }
        let mut more = Capabilities::new();
        for name in &self.capabilities {
            let one = Capability::deserialize(&Value::from(name.as_str()));
            more.insert(one.map_err(|_| {
                wrong("--cap", format!("{name:?} is no capability"))
                    .hint("give names of capabilities(7) such as CAP_NET_ADMIN")
            })?);
        }
        let none = || LinuxCapabilities::deserialize(&json!({})).unwrap_or_default();
        let mut sets = given.capabilities().clone().unwrap_or_else(none);
        let with = |set: &Option<Capabilities>| {
            let set = set.clone().unwrap_or_default();
            Some(set.union(&more).copied().collect())
        };
        let (bounding, effective, permitted) = (
            with(sets.bounding()),
            with(sets.effective()),
            with(sets.permitted()),
        );
        if sets
            .inheritable()
            .as_ref()
            .is_some_and(|set| !set.is_empty())
        {
            let ambient = with(sets.ambient());
            sets.set_ambient(ambient);
        }
        sets.set_bounding(bounding);
        sets.set_effective(effective);
        sets.set_permitted(permitted);
        given.set_capabilities(Some(sets));
        Ok(())
    }
}

fn number(option: &'static str, text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The last one, (uid_t)-1, is no id.
    let id = text.parse().ok().filter(|&id| digits && id != u32::MAX);
    id.ok_or_else(|| {
        Error::new("read option")
            .on(option)
            .because(format!("{text:?} is no id"))
            .hint("give numbers, such as 1000 or 1000:1000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_and_nothing_else() {
        for (text, user) in [("0", (0, None)), ("1000:5", (1000, Some(5)))] {
            let mut changes = Changes::default();
            changes.set_user(text).unwrap();
            assert_eq!(changes.user, Some(user));
        }
        for text in [
            "",
            ":",
            "1:",
            ":1",
            "+1",
            "-1",
            "root",
            "4294967295",
            "1:2:3",
            "0x1",
        ] {
            assert!(Changes::default().set_user(text).is_err(), "{text}");
        }
        let mut changes = Changes::default();
        changes.add_groups("1,2").unwrap();
        assert_eq!(changes.groups, [1, 2]);
        assert!(changes.add_groups("1,,2").is_err());
    }
}
