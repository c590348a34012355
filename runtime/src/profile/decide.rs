//! Facts, configuration and flags become what one container may do and see.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use shim::plan::{Capabilities, Privileges, Views};
use shim::{Error, Result};

use super::{ProfileName, SeccompChoice, views};
use crate::capabilities::{Request, Set};
use crate::cli::ConfinementArgs;
use crate::config::Settings;
use crate::seccomp;

/// What the host and the caller's situation allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether the caller was called in the machine's own user namespace: nobody else has drawn a boundary yet.
    pub bare_host: bool,
    /// Whether the container has a user namespace of its own.
    pub own_user_namespace: bool,
    /// The capabilities that a container can have at all.
    pub available: Set,
    /// `/sys/devices/system/cpu/cpuN/thermal_throttle` of each processor that has one.
    pub thermal: Vec<CString>,
}

impl Facts {
    /// Looks at the host. In a user namespace of its own, a container can have every capability that the kernel knows;
    /// otherwise only what the caller has. `bare_host` is as in [`Facts`]; it may not be true any more of where the
    /// caller is now (see [`crate::rootless`]).
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn read(own_user_namespace: bool, bare_host: bool) -> Result<Self> {
        let failed = |path: &str, why: String| {
            Error::new("read")
                .on(path)
                .because(why)
                .hint("/proc must be mounted")
        };
        const LAST: &str = "/proc/sys/kernel/cap_last_cap";
        let last = fs::read_to_string(LAST).map_err(|error| failed(LAST, error.to_string()))?;
        let last = last
            .trim()
            .parse()
            .map_err(|_| failed(LAST, last.clone()))?;
        let all = Set::up_to(last);
        let available = if own_user_namespace {
            all
        } else {
            let status = procfs::process::Process::myself()
                .and_then(|own| own.status())
                .map_err(|error| failed("/proc/self/status", error.to_string()))?;
            let bounding = status.capbnd.map_or(all, Set::from_bits);
            all & bounding & Set::from_bits(status.capprm)
        };
        Ok(Self {
            bare_host,
            own_user_namespace,
            available,
            thermal: thermal(),
        })
    }
}

fn thermal() -> Vec<CString> {
    let processors = fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten();
    let mut found: Vec<CString> = processors
        .filter_map(|entry| Some(entry.ok()?.path().join("thermal_throttle")))
        .filter(|path| path.is_dir())
        .filter_map(|path| CString::new(path.into_os_string().into_vec()).ok())
        .collect();
    found.sort_unstable();
    found
}

/// What one container may do and see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where it starts from.
    pub profile: ProfileName,
    /// The most that any process may have; none leaves it as it is.
    pub capabilities: Option<Set>,
    /// Whether `execve` never gives more than a process has.
    pub no_new_privileges: bool,
    /// Which system calls.
    pub seccomp: SeccompChoice,
    /// What of /proc and /sys, and whether the root filesystem is read-only.
    pub views: Views,
}

impl Decision {
    /// What the plan says of it, with the filter compiled.
    ///
    /// # Errors
    /// As [`seccomp::from_file`].
    pub fn privileges(&self, facts: &Facts) -> Result<Privileges> {
        let bounding = self.capabilities.unwrap_or(facts.available).bits();
        Ok(Privileges {
            capabilities: self.capabilities.map(|set| Capabilities(set.bits())),
            sets: None,
            no_new_privileges: self.no_new_privileges,
            seccomp: match &self.seccomp {
                SeccompChoice::Default => Some(seccomp::default(bounding)?),
                SeccompChoice::Unconfined => None,
                SeccompChoice::File(path) => Some(seccomp::from_file(path, bounding)?),
            },
            label: None,
        })
    }
}

/// Decides: the flags over the configuration over the profile.
///
/// # Errors
/// A capability that is asked for by name and that the container cannot have.
pub fn decide(facts: &Facts, settings: &Settings, args: &ConfinementArgs) -> Result<Decision> {
    let default = if facts.bare_host {
        ProfileName::Confined
    } else {
        ProfileName::Outer
    };
    let profile = args.profile.or(settings.profile).unwrap_or(default);
    let (hardened, confines) = match profile {
        ProfileName::Hardened => (true, true),
        ProfileName::Confined => (false, true),
        ProfileName::Outer | ProfileName::None => (false, false),
    };
    let seccomp = args.seccomp.clone().or_else(|| settings.seccomp.clone());
    let views = if confines {
        views::confined(&facts.thermal)
    } else {
        Views::default()
    };
    Ok(Decision {
        profile,
        capabilities: capabilities(profile, facts, settings, args)?,
        no_new_privileges: args.no_new_privileges || settings.no_new_privileges.unwrap_or(hardened),
        seccomp: seccomp.unwrap_or(if confines {
            SeccompChoice::Default
        } else {
            SeccompChoice::Unconfined
        }),
        views: Views {
            readonly_root: args.read_only || settings.read_only.unwrap_or(hardened),
            ..views
        },
    })
}

fn capabilities(
    profile: ProfileName,
    facts: &Facts,
    settings: &Settings,
    args: &ConfinementArgs,
) -> Result<Option<Set>> {
    let available = facts.available;
    let of_profile = match profile {
        // With the host's own root, the node of a disk is the disk: others keep a device cgroup in front of it.
        ProfileName::Confined if facts.bare_host && !facts.own_user_namespace => {
            (Set::USUAL - Set::MKNOD) & available
        }
        ProfileName::Confined => Set::USUAL & available,
        ProfileName::Hardened => Set::EMPTY,
        ProfileName::Outer | ProfileName::None => available,
    };
    let requests = settings.caps.iter().chain([&args.caps]);
    let set = requests.fold(of_profile, |set, request: &Request| {
        request.apply(set, available)
    });
    let missing = set - available;
    if !missing.is_empty() {
        return Err(Error::new("give the container")
            .on(missing)
            .because("neither the caller nor a new user namespace has it to give")
            .hint(
                "see CapBnd in /proc/self/status; --userns=identity has all that the kernel knows",
            ));
    }
    let everything = set == available && of_profile == available;
    Ok((!everything).then_some(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::List;

    fn facts(bare_host: bool) -> Facts {
        Facts {
            bare_host,
            own_user_namespace: true,
            available: Set::up_to(40),
            thermal: vec![c"/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned()],
        }
    }

    fn list(text: &str) -> List {
        List::parse(text).unwrap()
    }

    fn args(profile: Option<ProfileName>) -> ConfinementArgs {
        ConfinementArgs {
            profile,
            ..ConfinementArgs::default()
        }
    }

    /// The golden table: profile, capabilities, no_new_privileges, seccomp, masked paths, read-only root.
    #[test]
    fn what_each_profile_grants() {
        use ProfileName::{Confined, Hardened, None as Nothing, Outer};
        for (bare_host, asked, profile, caps, no_new, filter, masks, readonly_root) in [
            (
                true,
                None,
                Confined,
                Some(0xa804_25fb),
                false,
                true,
                true,
                false,
            ),
            (false, None, Outer, None, false, false, false, false),
            (
                false,
                Some(Confined),
                Confined,
                Some(0xa804_25fb),
                false,
                true,
                true,
                false,
            ),
            (
                true,
                Some(Hardened),
                Hardened,
                Some(0),
                true,
                true,
                true,
                true,
            ),
            (true, Some(Outer), Outer, None, false, false, false, false),
            (
                true,
                Some(Nothing),
                Nothing,
                None,
                false,
                false,
                false,
                false,
            ),
        ] {
            let decision = decide(&facts(bare_host), &Settings::default(), &args(asked)).unwrap();
            let seccomp = if filter {
                SeccompChoice::Default
            } else {
                SeccompChoice::Unconfined
            };
            assert_eq!(decision.profile, profile);
            assert_eq!(decision.capabilities.map(Set::bits), caps, "{profile:?}");
            assert_eq!(decision.no_new_privileges, no_new, "{profile:?}");
            assert_eq!(decision.seccomp, seccomp, "{profile:?}");
            assert_eq!(!decision.views.masked.is_empty(), masks, "{profile:?}");
            assert_eq!(!decision.views.readonly.is_empty(), masks, "{profile:?}");
            assert_eq!(decision.views.readonly_root, readonly_root, "{profile:?}");
        }
    }

    #[test]
    fn the_hosts_own_root_makes_no_devices_in_a_confined_container() {
        let decided = |bare_host, own_user_namespace| {
            let facts = Facts {
                own_user_namespace,
                ..facts(bare_host)
            };
            let confined = args(Some(ProfileName::Confined));
            let decision = decide(&facts, &Settings::default(), &confined).unwrap();
            let set = decision.capabilities.unwrap();
            set.to_string().contains("MKNOD")
        };
        assert!(!decided(true, false));
        assert!(decided(true, true) && decided(false, false) && decided(false, true));
    }

    #[test]
    fn flags_win_over_the_configuration_and_that_over_the_profile() {
        let settings = Settings {
            profile: Some(ProfileName::Hardened),
            seccomp: Some(SeccompChoice::File("/etc/p.json".into())),
            no_new_privileges: Some(false),
            read_only: Some(false),
            ..Settings::default()
        };
        let decision = decide(&facts(true), &settings, &args(None)).unwrap();
        assert_eq!(decision.profile, ProfileName::Hardened);
        assert_eq!(decision.seccomp, SeccompChoice::File("/etc/p.json".into()));
        assert!(!decision.no_new_privileges && !decision.views.readonly_root);

        let flags = ConfinementArgs {
            profile: Some(ProfileName::Confined),
            seccomp: Some(SeccompChoice::Unconfined),
            read_only: true,
            no_new_privileges: true,
            ..ConfinementArgs::default()
        };
        let decision = decide(&facts(true), &settings, &flags).unwrap();
        assert_eq!(decision.profile, ProfileName::Confined);
        assert_eq!(decision.seccomp, SeccompChoice::Unconfined);
        assert!(decision.no_new_privileges && decision.views.readonly_root);
    }

    #[test]
    fn capabilities_are_changed_from_level_to_level() {
        let request = |exact: Option<&str>, add: &str, drop: &str| Request {
            exact: exact.map(list),
            add: if add.is_empty() {
                List::default()
            } else {
                list(add)
            },
            drop: if drop.is_empty() {
                List::default()
            } else {
                list(drop)
            },
        };
        let decided = |profile, configured: &[Request], flags: Request| {
            let settings = Settings {
                caps: configured.to_vec(),
                ..Settings::default()
            };
            let args = ConfinementArgs {
                profile: Some(profile),
                caps: flags,
                ..ConfinementArgs::default()
            };
            let decision = decide(&facts(true), &settings, &args).unwrap();
            decision.capabilities.map(|set| set.to_string())
        };
        let nothing = Request::default();
        let only_kill = [request(None, "kill", "ALL")];
        let some = |text: &str| Some(text.to_owned());
        use ProfileName::{Confined, Hardened, Outer};
        assert_eq!(decided(Confined, &only_kill, nothing), some("CAP_KILL"));
        assert_eq!(
            decided(Confined, &only_kill, request(None, "chown", "")),
            some("CAP_CHOWN,CAP_KILL")
        );
        assert_eq!(
            decided(Confined, &only_kill, request(Some("chown"), "", "")),
            some("CAP_CHOWN")
        );
        assert_eq!(
            decided(Hardened, &[], request(None, "net_bind_service", "")),
            some("CAP_NET_BIND_SERVICE")
        );
        assert_eq!(decided(Outer, &[], request(None, "net_admin", "")), None);
        assert_eq!(decided(Outer, &[], request(None, "", "ALL")), some(""));
        let all = decided(Confined, &[], request(None, "ALL", "sys_admin"));
        assert!(all.is_some_and(|names| !names.contains("SYS_ADMIN") && names.contains("MKNOD")));
    }

    #[test]
    fn what_is_not_there_is_left_out_unless_it_was_asked_for_by_name() {
        let narrow = Facts {
            available: Set::up_to(40) - list("sys_resource,mknod").named,
            ..facts(true)
        };
        let decision = decide(&narrow, &Settings::default(), &args(None)).unwrap();
        let names = decision.capabilities.unwrap().to_string();
        assert!(
            !names.contains("MKNOD") && names.contains("CHOWN"),
            "{names}"
        );
        let with = |caps| ConfinementArgs {
            caps,
            ..ConfinementArgs::default()
        };
        let all = Request {
            exact: Some(list("ALL")),
            ..Request::default()
        };
        let decision = decide(&narrow, &Settings::default(), &with(all)).unwrap();
        assert_eq!(decision.capabilities, Some(narrow.available));
        let named = Request {
            add: list("sys_resource"),
            ..Request::default()
        };
        let error = decide(&narrow, &Settings::default(), &with(named)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("\"CAP_SYS_RESOURCE\": "), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn views_are_sorted_paths_of_proc_and_sys() {
        let views = views::confined(&facts(true).thermal);
        for list in [&views.masked, &views.readonly] {
            let texts: Vec<_> = list.iter().map(|path| path.to_str().unwrap()).collect();
            assert!(texts.iter().all(|path| {
                (path.starts_with("/proc/") || path.starts_with("/sys/")) && !path.contains("..")
            }));
        }
        for needed in [c"/proc/kcore", c"/proc/kpageflags", c"/proc/timer_list"] {
            assert!(views.masked.iter().any(|path| path.as_c_str() == needed));
        }
        for needed in [
            c"/proc/sys",
            c"/proc/irq",
            c"/proc/sysrq-trigger",
            c"/proc/bus",
        ] {
            assert!(views.readonly.iter().any(|path| path.as_c_str() == needed));
        }
        assert_eq!(views.masked.len(), 22);
    }
}
