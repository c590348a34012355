//! `hooks` of config.json: which programs are run when, and what becomes of the container when one of them fails.
//!
//! | hook | run by | where | when it fails |
//! |---|---|---|---|
//! | `prestart`, `createRuntime` | `create` | where the caller is | there is no container |
//! | `createContainer` | `create` | in the container's namespaces, before it leaves the host's tree | likewise |
//! | `startContainer` | `start` | inside, as a process of the container | the container is ended |
//! | `poststart` | `start` | where the caller is | likewise |
//! | `poststop` | `delete` | where the caller is | a warning; the others are run |

use std::ffi::{CString, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{Hook as Given, Hooks as Lists};
use shim::hook::Hook;
use shim::plan::{Namespaces, Process};
use shim::{Error, Result};

use super::config::{Config, wrong};
use super::log::{self, Log};
use super::record::Record;
use super::state::{CONFIG, Container};

/// All hooks of a container, in their order.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub(super) prestart: Vec<Hook>,
    pub(super) create_runtime: Vec<Hook>,
    pub(super) create_container: Vec<Hook>,
    pub(super) start_container: Vec<Hook>,
    pub(super) poststart: Vec<Hook>,
    pub(super) poststop: Vec<Hook>,
}

impl Hooks {
    /// Those of a container that has been made, by the configuration that was kept.
    ///
    /// # Errors
    /// As [`Hooks::of`].
    pub(super) fn kept(container: &Container, record: &Record) -> Result<Self> {
        if !record.hooks {
            return Ok(Self::default());
        }
        let kept = container.dir.join(CONFIG);
        Self::of(&Config::of(&kept, record.bundle.clone())?)
    }

    /// Those of a configuration.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(super) fn of(config: &Config) -> Result<Self> {
        let Some(lists) = config.spec.hooks() else {
            return Ok(Self::default());
        };
        let text = |path: &Path| {
            CString::new(path.as_os_str().as_bytes())
                .map_err(|_| wrong("bundle", "contains a NUL byte"))
        };
        let workdir = text(&config.bundle)?;
        let read = |kind: &str, list: fn(&Lists) -> &Option<Vec<Given>>| {
            let given = list(lists).iter().flatten().enumerate();
            given
                .map(|(index, given)| hook(format!("hooks.{kind}[{index}]"), given, &workdir))
                .collect::<Result<Vec<_>>>()
        };
        let outside = |kind: &str, list: fn(&Lists) -> &Option<Vec<Given>>| {
            let mut hooks = read(kind, list)?;
            let without = hooks.iter_mut().filter(|hook| hook.environment.is_empty());
            without.for_each(|hook| hook.environment = callers_environment());
            Ok::<_, Error>(hooks)
        };
        let mut create_container = outside("createContainer", Lists::create_container)?;
        if let Some(root) = config.spec.root() {
            // As with runc, they begin in what they are about.
            let rootfs = text(&config.bundle.join(root.path()))?;
            for hook in &mut create_container {
                hook.workdir = Some(rootfs.clone());
            }
        }
        Ok(Self {
            prestart: outside("prestart", Lists::prestart)?,
            create_runtime: outside("createRuntime", Lists::create_runtime)?,
            create_container,
            start_container: read("startContainer", Lists::start_container)?,
            poststart: outside("poststart", Lists::poststart)?,
            poststop: outside("poststop", Lists::poststop)?,
        })
    }

    /// Whether `create` has any to run.
    pub(super) fn of_create(&self) -> bool {
        !(self.prestart.is_empty()
            && self.create_runtime.is_empty()
            && self.create_container.is_empty())
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.of_create()
            || !(self.start_container.is_empty()
                && self.poststart.is_empty()
                && self.poststop.is_empty())
    }

    /// Those of `create`, for the process that waits to leave the host's tree.
    ///
    /// # Errors
    /// The first that fails.
    pub(super) fn create(
        &self,
        state: &[u8],
        process: BorrowedFd<'_>,
        namespaces: Namespaces,
    ) -> Result<()> {
        for hook in self.prestart.iter().chain(&self.create_runtime) {
            hook.run(state, None)?;
        }
        let mut inside = self.create_container.iter();
        inside.try_for_each(|hook| hook.run(state, Some((process, namespaces))))
    }

    /// Those of `start` when the program has been executed.
    ///
    /// # Errors
    /// The first that fails.
    pub(super) fn poststart(&self, state: &[u8]) -> Result<()> {
        self.poststart
            .iter()
            .try_for_each(|hook| hook.run(state, None))
    }

    /// Those of `delete`: all of them.
    pub(super) fn poststop(&self, state: &[u8], log: &mut Option<Log>) {
        for hook in &self.poststop {
            if let Err(error) = hook.run(state, None) {
                let text = error.to_string();
                log::warn(log, text.lines().next().unwrap_or_default());
            }
        }
    }
}

/// The process that a `startContainer` hook is, where `own` is the container's.
pub(super) fn process(hook: &Hook, own: Process) -> Process {
    Process {
        arguments: hook.arguments.clone(),
        candidates: vec![hook.path.clone()],
        environment: match hook.environment.as_slice() {
            [] => own.environment,
            given => given.to_vec(),
        },
        ..own
    }
}

/// What a hook has that is given no variables of its own, as with other runtimes.
fn callers_environment() -> Vec<CString> {
    let line = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    std::env::vars_os().filter_map(line).collect()
}

fn hook(name: String, given: &Given, workdir: &CString) -> Result<Hook> {
    let text =
        |text: &[u8]| CString::new(text).map_err(|_| wrong(name.clone(), "contains a NUL byte"));
    let texts = |list: &Option<Vec<String>>| {
        let list = list.iter().flatten();
        list.map(|one| text(one.as_bytes()))
            .collect::<Result<Vec<_>>>()
    };
    if !given.path().is_absolute() {
        return Err(wrong(format!("{name}.path"), "is not absolute"));
    }
    let timeout = match given.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(wrong(format!("{name}.timeout"), "is not above zero")),
        },
    };
    let path = text(given.path().as_os_str().as_bytes())?;
    let mut arguments = texts(given.args())?;
    if arguments.is_empty() {
        arguments.push(path.clone());
    }
    Ok(Hook {
        environment: texts(given.env())?,
        workdir: Some(workdir.clone()),
        name,
        path,
        arguments,
        timeout,
    })
}
