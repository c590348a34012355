//! The OCI front-end: what podman, Docker and containerd call a low-level runtime by. See docs/oci.md.
//!
//! It fills the same plan as `subcontainer launch` and applies it through `shim`, as everything does.

mod affinity;
mod bits;
mod capabilities;
mod cgroup_mount;
mod cgroups;
mod config;
mod console;
mod decide;
mod devices;
mod events;
mod example;
mod exec;
mod exec_words;
mod execution;
mod filesystem;
mod globals;
mod hooks;
mod id;
mod intel_rdt;
mod labels;
mod lifecycle;
mod limit_flags;
mod limits;
mod listener;
mod log;
mod making;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod oom;
mod passed;
mod piped;
mod plan;
mod process;
mod ps;
mod readiness;
mod record;
mod rootless;
mod scheduling;
mod shared_root;
mod show;
mod start;
mod state;
mod table;
mod update;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;

use shim::error::EXIT_OWN;
use shim::{Result, signals};

use self::globals::Globals;
use self::log::{Level, Log};
use self::state::Store;
use self::words::Request;
use crate::cli::Outcome;

/// The release of the runtime specification that is followed.
const SPECIFICATION: &str = "1.3.0";
/// What a failure of our own is to engines.
const EXIT_FAILED: u8 = 1;
/// The same of `exec`, whose command may end with anything else: so it is with runc.
const EXIT_EXEC_FAILED: u8 = 255;

/// Whether a command line is of this front-end.
#[must_use]
pub fn is_meant(words: &[OsString]) -> bool {
    let first = words.first().and_then(|word| word.to_str());
    first.is_some_and(globals::is_meant)
}

/// The verbs and what they are about, for the help text.
pub(crate) fn verbs() -> impl Iterator<Item = (&'static str, &'static str)> {
    table::VERBS.iter().map(|verb| (verb.name, verb.about))
}

/// Does what a command line asks for. An error is the last line of the log, too.
///
/// # Errors
/// The one error to print; its exit status is 1, or 126 or 127 where a program cannot be executed, and 255 where `exec`
/// has failed before its command has begun.
pub fn main(words: Vec<OsString>) -> Result<Outcome> {
    let mut globals = Globals::default();
    let rest = globals::read(words, &mut globals);
    // Before anything else, because an engine learns from the log alone why we have ended.
    let mut log = match &globals.log {
        Some(path) => Some(Log::open(path, globals.log_format)?),
        None => None,
    };
    let done = rest
        .and_then(words::request)
        .and_then(|request| run(request, &globals, &mut log));
    done.map_err(|error| {
        if let Some(log) = &mut log {
            log.say(Level::Error, &error.to_string());
        }
        match error.exit_status() {
            EXIT_OWN => error.exit(EXIT_FAILED),
            _ => error,
        }
    })
}

fn run(request: Request, globals: &Globals, log: &mut Option<Log>) -> Result<Outcome> {
    match &request {
        Request::Help(text) => return Ok(Outcome::text(text.clone())),
        Request::Version => return Ok(Outcome::text(version())),
        Request::Features => return show::features().map(Outcome::text),
        Request::Spec { bundle, rootless } => {
            return example::write(bundle, *rootless).map(|()| Outcome::SILENT);
        }
        Request::Create(args) if let Some(format) = args.dry_run => {
            return decide::print(args, globals, format, log);
        }
        _ => {}
    }
    crate::rootless::refuse_elevated()?;
    let root = globals.root.clone().map_or_else(rootless::state_root, Ok)?;
    let store = Store::new(absolute(root)?);
    match request {
        Request::Create(args) => {
            lifecycle::create(&store, &args, globals, log)?;
            Ok(Outcome::SILENT)
        }
        Request::Start(id) => start::start(&store.find(&id)?, log).map(|()| Outcome::SILENT),
        Request::Run(args) => {
            let signals = signals::block_all()?;
            lifecycle::run(&store, &args, globals, log, &signals)
        }
        Request::State(id) => show::state(&store.find(&id)?).map(Outcome::text),
        Request::Kill { id, signal, all } => {
            lifecycle::kill(&store.find(&id)?, signal, all).map(|()| Outcome::SILENT)
        }
        Request::Pause(id) => lifecycle::pause(&store.find(&id)?).map(|()| Outcome::SILENT),
        Request::Resume(id) => lifecycle::resume(&store.find(&id)?).map(|()| Outcome::SILENT),
        Request::Update(id, limits) => {
            let container = store.find(&id)?;
            let _lock = container.lock()?;
            update::update(&container, &limits).map(|()| Outcome::SILENT)
        }
        Request::Events { id, once, interval } => {
            events::events(&store.find(&id)?, once, interval).map(|()| Outcome::SILENT)
        }
        Request::Delete(id, force) => {
            lifecycle::delete(&store, &id, force, log).map(|()| Outcome::SILENT)
        }
        Request::DeleteMatching(pattern, force) => {
            lifecycle::delete_matching(&store, &pattern, force, log).map(|()| Outcome::SILENT)
        }
        Request::Exec(args) => {
            let signals = signals::block_all()?;
            let ended = store
                .find(&args.id)
                .and_then(|container| exec::exec(&container, &args, log, &signals));
            ended.map_err(|error| error.exit(EXIT_EXEC_FAILED))
        }
        Request::List { json, quiet } => show::list(&store, json, quiet).map(Outcome::text),
        Request::Ps { id, json, options } => {
            ps::processes(&store.find(&id)?, json, &options).map(Outcome::text)
        }
        Request::Help(_) | Request::Version | Request::Features | Request::Spec { .. } => {
            Ok(Outcome::SILENT)
        }
    }
}

/// The working directory may be left before the path is used.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| {
        shim::Error::io("find", path.display(), &error)
            .hint("is the working directory still there?")
    })
}

/// In the form that engines take apart.
fn version() -> String {
    format!(
        "start-container version {}\ncommit: unknown\nspec: {SPECIFICATION}\n+SYSTEMD +SECCOMP +EBPF\n",
        env!("CARGO_PKG_VERSION")
    )
}
