//! What a container around us forbids, and the option of its engine that would lift it: words for errors. Looks at files
//! and decides nothing; where it is wrong, only a hint is.

use std::fmt::Write as _;
use std::path::Path;

/// CAP_SYS_ADMIN of capabilities(7), as its bit.
const SYS_ADMIN: u64 = 1 << 21;

/// Whose container it is, by the file that the engine puts into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Podman,
    Docker,
    Kubernetes,
}

impl Engine {
    const MARKS: [(&'static str, Self); 3] = [
        ("/run/secrets/kubernetes.io", Self::Kubernetes),
        ("/run/.containerenv", Self::Podman),
        ("/.dockerenv", Self::Docker),
    ];

    fn of_surroundings() -> Option<Self> {
        let found = |(path, engine): (&str, Self)| Path::new(path).exists().then_some(engine);
        Self::MARKS.into_iter().find_map(found)
    }
}

/// The caller's process as `/proc/self/status` shows it.
#[derive(Debug, Clone, Copy, Default)]
struct Status {
    effective: u64,
    seccomp: bool,
}

impl Status {
    fn read() -> Self {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches(':').trim())
        };
        let effective = value("CapEff").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        Self {
            effective: effective.unwrap_or(0),
            seccomp: value("Seccomp") == Some("2"),
        }
    }
}

/// What to do about namespaces that may not be made or entered, or a root that may not be changed.
#[must_use]
pub fn namespaces_hint() -> String {
    namespaces_words(
        Engine::of_surroundings(),
        Status::read(),
        apparmor().as_deref(),
    )
}

fn namespaces_words(engine: Option<Engine>, status: Status, apparmor: Option<&str>) -> String {
    let mut text = match (engine, status.seccomp, status.effective & SYS_ADMIN != 0) {
        // The capability alone does not help: Docker's filter then lets namespaces be made, but not pivot_root.
        (Some(Engine::Docker | Engine::Podman), true, _) => {
            "the filter of the surrounding container forbids it: run it with --security-opt seccomp=unconfined, or \
             --privileged"
        }
        (Some(Engine::Kubernetes), true, _) => {
            "the filter of the surrounding pod forbids it: give its securityContext the seccompProfile Unconfined"
        }
        (None, true, _) => {
            "a seccomp filter around us may forbid it: start what is around us without (start-container: \
             --seccomp=unconfined or --profile=outer)"
        }
        (_, false, false) => {
            "this needs root (CAP_SYS_ADMIN), or user namespaces for everybody (sysctl user.max_user_namespaces)"
        }
        (_, false, true) => "a security module of the host forbids it",
    }
    .to_owned();
    if let Some(profile) = apparmor {
        let option = match engine {
            Some(Engine::Docker | Engine::Podman) => "; with --security-opt apparmor=unconfined",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "; the AppArmor profile {profile} applies{option}");
    }
    text
}

/// What to do about a procfs that the kernel does not let be mounted because parts of the one that is there are covered
/// (`mount_too_revealing` in fs/namespace.c).
#[must_use]
pub fn proc_hint() -> &'static str {
    proc_words(Engine::of_surroundings())
}

fn proc_words(engine: Option<Engine>) -> &'static str {
    match engine {
        Some(Engine::Podman) => {
            "the surrounding container covers parts of /proc: run it with podman's --security-opt unmask=ALL"
        }
        Some(Engine::Docker) => {
            "the surrounding container covers parts of /proc: run it with docker's --security-opt systempaths=unconfined"
        }
        Some(Engine::Kubernetes) => {
            "the surrounding pod covers parts of /proc: give its securityContext procMount: Unmasked"
        }
        None => {
            "the surrounding container covers parts of /proc, and the kernel does not let that be uncovered; unmask it there"
        }
    }
}

/// The AppArmor profile that confines us, if one does: `docker-default (enforce)`.
fn apparmor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/attr/apparmor/current").ok()?;
    let name = text.trim().strip_suffix("(enforce)")?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filtered_container_is_told_the_options_of_its_engine() {
        let status = Status::parse("CapEff:\t00000000a80425fb\nSeccomp:\t2\nSeccomp_filters:\t1\n");
        assert!(status.seccomp);
        assert_eq!(status.effective & SYS_ADMIN, 0);
        for engine in [Engine::Docker, Engine::Podman] {
            let text = namespaces_words(Some(engine), status, Some("docker-default"));
            for option in ["seccomp=unconfined", "--privileged", "apparmor=unconfined"] {
                assert!(text.contains(option), "{text}");
            }
        }
        assert!(proc_words(Some(Engine::Podman)).contains("unmask=ALL"));
        assert!(proc_words(Some(Engine::Docker)).contains("systempaths=unconfined"));
    }

    #[test]
    fn without_a_filter_nobody_is_told_to_lift_one() {
        let status = Status::parse("CapEff:\t0000000000000000\nSeccomp:\t0\n");
        let text = namespaces_words(Some(Engine::Docker), status, None);
        assert!(
            text.contains("max_user_namespaces") && !text.contains("seccomp"),
            "{text}"
        );
        let status = Status::parse("CapEff:\t000001ffffffffff\nSeccomp:\t0\n");
        assert!(namespaces_words(None, status, None).contains("security module"));
    }
}
