//! What engines write before the verb: where the state is, where the log goes, and who makes cgroups.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;
use shim::{Error, Result};

use super::rootless::Rootless;
use super::table::VERBS;

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum CgroupDriver {
    #[default]
    Cgroupfs,
    Systemd,
    /// Nobody: there shall be none.
    Disabled,
}

/// What is said before the verb.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Globals {
    pub(super) root: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
    pub(super) log_format: LogFormat,
    pub(super) cgroups: CgroupDriver,
    pub(super) rootless: Rootless,
}

/// Whether a command line is of this front-end: it begins with a verb of it, or with one of its options.
pub(super) fn is_meant(first: &str) -> bool {
    const GLOBALS: [&str; 6] = [
        "--root",
        "--log",
        "--log-format",
        "--systemd-cgroup",
        "--cgroup-manager",
        "--rootless",
    ];
    let name = first.split('=').next().unwrap_or_default();
    GLOBALS.contains(&name) || first == "--debug" || VERBS.iter().any(|verb| verb.name == first)
}

/// Reads what stands before the verb into `globals`, as far as it is right, and gives the verb and all after it.
pub(super) fn read(words: Vec<OsString>, globals: &mut Globals) -> Result<Vec<OsString>> {
    let mut parser = lexopt::Parser::from_args(words);
    let bad = |option: &str, why: &'static str, hint: &'static str| {
        Error::new("read option").on(option).because(why).hint(hint)
    };
    loop {
        let option = match parser.next() {
            Ok(Some(Arg::Value(verb))) => {
                let rest = parser.raw_args().map(Iterator::collect::<Vec<_>>);
                return Ok(std::iter::once(verb)
                    .chain(rest.unwrap_or_default())
                    .collect());
            }
            Ok(Some(Arg::Long(name))) => format!("--{name}"),
            Ok(Some(Arg::Short(letter))) => format!("-{letter}"),
            Ok(None) => {
                let names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
                return Err(Error::new("read command line")
                    .because("a verb is missing")
                    .hint(format!("give one of: {}", names.join(", "))));
            }
            Err(_) => return Err(bad("--", "takes no value", "leave the value out")),
        };
        let mut value = || {
            parser
                .value()
                .map_err(|_| bad(&option, "its value is missing", "see docs/oci.md"))
        };
        match option.as_str() {
            "--root" => globals.root = Some(value()?.into()),
            "--log" => globals.log = Some(value()?.into()),
            "--log-format" => {
                globals.log_format = match value()?.to_str() {
                    Some("text") => LogFormat::Text,
                    Some("json") => LogFormat::Json,
                    _ => return Err(bad(&option, "unknown format", "give text or json")),
                }
            }
            "--systemd-cgroup" => globals.cgroups = CgroupDriver::Systemd,
            "--cgroup-manager" => {
                globals.cgroups = match value()?.to_str() {
                    Some("cgroupfs") => CgroupDriver::Cgroupfs,
                    Some("systemd") => CgroupDriver::Systemd,
                    Some("disabled") => CgroupDriver::Disabled,
                    _ => {
                        return Err(bad(
                            &option,
                            "unknown",
                            "give cgroupfs, systemd or disabled",
                        ));
                    }
                }
            }
            "--rootless" => match Rootless::read(value()?.to_str()) {
                Some(rootless) => globals.rootless = rootless,
                None => return Err(bad(&option, "unknown", "give auto, true or false")),
            },
            "--debug" => {}
            "--version" | "-v" => return Ok(vec!["--version".into()]),
            "--help" | "-h" => return Ok(vec!["--help".into()]),
            _ => {
                return Err(bad(
                    &option,
                    "no such option before the verb",
                    "known are --root, --log, --log-format, --systemd-cgroup, --cgroup-manager, --rootless, --debug",
                ));
            }
        }
    }
}
