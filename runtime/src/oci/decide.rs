//! What `create` and `run` decide before anything is changed; a dry run prints it.

use shim::Result;
use shim::plan::{Launch, Plan, Program};

use super::affinity::Affinity;
use super::cgroups::Cgroups;
use super::config::{Config, wrong};
use super::globals::Globals;
use super::hooks::Hooks;
use super::log::{self, Log};
use super::passed::Passed;
use super::scheduling::Scheduling;
use super::state::Store;
use super::words::Create;
use super::{limits, oom, plan, readiness, rootless};
use crate::cli::{Format, Outcome};
use crate::dry_run;
use crate::process::Rootfs;

/// All that is known of a container that is going to be made.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) config: Config,
    pub(super) rootfs: Rootfs,
    pub(super) cgroups: Cgroups,
    pub(super) hooks: Hooks,
    pub(super) plan: Launch,
    pub(super) oom_score: Option<i32>,
    pub(super) scheduling: Scheduling,
    /// Whether the container has where to say that it is ready.
    pub(super) says_ready: bool,
    pub(super) warnings: Vec<String>,
}

/// Decides. A caller without root is in namespaces of its own afterwards, unless the container will be in no store: then the plan is
/// the one of root.
///
/// # Errors
/// What is wrong with the bundle, with the name of the field.
pub(super) fn decide(args: &Create, globals: &Globals, store: Option<&Store>) -> Result<Decided> {
    let dry = store.is_none();
    let mut config = Config::read(&args.bundle, &args.config)?;
    let mut warnings = std::mem::take(&mut config.warnings);
    let entered = match dry {
        true => None,
        false => rootless::enter(&config.spec.linux().clone().unwrap_or_default())?,
    };
    let cgroups = Cgroups::decide(&config, globals, &args.id)?;
    let rootfs = plan::rootfs(&config)?;
    let hooks = Hooks::of(&config)?;
    let passed = Passed::find(args.preserved, &mut warnings)?;
    let outside = plan::Outside {
        cgroups: &cgroups.places,
        entered: entered.as_ref(),
        has_all: dry,
        passed: &passed,
        pauses: hooks.of_create(),
        no_pivot: args.no_pivot,
        keeps_keyring: args.keeps_keyring,
    };
    let mut plan = plan::plan(&config, &rootfs, &outside, &mut warnings)?;
    let says_ready = match (store, &mut plan.program) {
        (Some(store), Program::Held(process)) => {
            let dir = store.0.join(args.id.as_str());
            readiness::add(&dir, &mut process.environment, &mut plan.mounts)?
        }
        _ => false,
    };
    let process = config.part(&["process"]);
    // What it says is about processes that join.
    Affinity::read(process)?;
    let scheduling = Scheduling::read(process)?;
    let given = config.spec.process().as_ref();
    let oom_score = oom::read(given.and_then(|process| process.oom_score_adj()))?;
    if !dry {
        check_end(&cgroups, &plan)?;
        limits::check(plan.program.process().map_or(&[], |one| &one.limits))?;
    }
    Ok(Decided {
        config,
        rootfs,
        cgroups,
        hooks,
        plan,
        oom_score,
        scheduling,
        says_ready,
        warnings,
    })
}

/// Without a PID namespace of its own the kernel does not end all when the first process ends.
fn check_end(cgroups: &Cgroups, plan: &Launch) -> Result<()> {
    if cgroups.places.is_empty() && !plan.namespaces.has_pid() {
        return Err(wrong(
            "linux.namespaces",
            "without a PID namespace of its own a container needs cgroups",
        )
        .hint("its processes are found there when it is deleted"));
    }
    Ok(())
}

/// Prints the plan.
///
/// # Errors
/// As [`decide`].
pub(super) fn print(
    args: &Create,
    globals: &Globals,
    format: Format,
    log: &mut Option<Log>,
) -> Result<Outcome> {
    let decided = decide(args, globals, None)?;
    for text in decided.warnings.iter().chain(&decided.cgroups.warnings) {
        log::warn(log, text);
    }
    dry_run::print(Plan::Launch(&decided.plan), format)
}
