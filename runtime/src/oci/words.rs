//! The OCI command line from the verb on, as engines write it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use shim::{Error, Result};

use super::events;
use super::exec_words::{Changes, Exec};
use super::id::ContainerId;
use super::passed;
use super::state;
use super::table::{Action, Id, Row, VERBS};
use super::update::Limits;
use crate::cli::Format;
use crate::cli::help;
use crate::cli::scan::{Scan, Stop, Word};
use crate::cli::table::Flag;
use crate::suggest::shown;

/// How often `events` tells what is used.
const INTERVAL: Duration = Duration::from_secs(5);

/// A verb with its operand and options.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Help(String),
    Version,
    Create(Create),
    Start(ContainerId),
    Run(Create),
    State(ContainerId),
    Kill {
        id: ContainerId,
        signal: i32,
        all: bool,
    },
    Pause(ContainerId),
    Resume(ContainerId),
    Update(ContainerId, Limits),
    Events {
        id: ContainerId,
        once: bool,
        interval: Duration,
    },
    Delete(ContainerId, bool),
    /// Those whose ids match a regular expression.
    DeleteMatching(String, bool),
    Exec(Exec),
    List {
        json: bool,
        quiet: bool,
    },
    Ps {
        id: ContainerId,
        json: bool,
        /// Those of ps(1).
        options: Vec<OsString>,
    },
    Features,
    Spec {
        bundle: PathBuf,
        rootless: bool,
    },
}

/// `create` and `run`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Create {
    pub(super) id: ContainerId,
    pub(super) bundle: PathBuf,
    pub(super) config: PathBuf,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
    pub(super) preserved: u32,
    /// Whether the caller stays with it: `run` without `--detach`.
    pub(super) foreground: bool,
    pub(super) keep: bool,
    /// Whether it does without pivot_root(2).
    pub(super) no_pivot: bool,
    /// Whether the caller's session keyring is the container's, too.
    pub(super) keeps_keyring: bool,
    /// `create --dry-run`: print the plan and do nothing.
    pub(super) dry_run: Option<Format>,
}

/// Reads the verb and what follows it.
pub(super) fn request(words: Vec<OsString>) -> Result<Request> {
    let mut words = words.into_iter();
    let first = words.next().unwrap_or_default();
    if first == "--version" {
        return Ok(Request::Version);
    }
    if first == "--help" {
        return Ok(Request::Help(help::all()));
    }
    let Some(verb) = VERBS.iter().find(|verb| first == verb.name) else {
        let names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        return Err(Error::new("read command line")
            .on(shown(&first))
            .because("no such verb")
            .hint(format!("give one of: {}", names.join(", "))));
    };
    match read(verb, words) {
        Ok(request) => Ok(request),
        Err(Stop::Help) => Ok(Request::Help(help::verb(verb))),
        Err(Stop::Error(error)) => Err(error),
    }
}

/// All options and operands of a verb.
#[derive(Default)]
struct Given {
    bundle: Option<PathBuf>,
    config: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    process: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    preserved: u32,
    changes: Changes,
    detach: bool,
    keep: bool,
    all: bool,
    force: bool,
    regex: bool,
    json: bool,
    quiet: bool,
    cgroup: Option<PathBuf>,
    ignore_paused: bool,
    no_pivot: bool,
    keeps_keyring: bool,
    dry_run: Option<Format>,
    stats: bool,
    rootless: bool,
    interval: Option<Duration>,
    limits: Limits,
    operands: Vec<OsString>,
}

impl Given {
    fn set(&mut self, flag: &Flag<Id>, value: OsString) -> Result<()> {
        let refused = |why: &'static str, hint: &'static str| {
            Err(Error::new("read option")
                .on(flag.long)
                .because(why)
                .hint(hint))
        };
        match flag.id {
            Id::Bundle => self.bundle = Some(value.into()),
            Id::Config => self.config = Some(value.into()),
            Id::PidFile => self.pid_file = Some(value.into()),
            Id::Process => self.process = Some(value.into()),
            Id::Detach => self.detach = true,
            Id::Keep => self.keep = true,
            Id::All => self.all = true,
            Id::Force => self.force = true,
            Id::Regex => self.regex = true,
            Id::Quiet => self.quiet = true,
            Id::Format => match value.to_str() {
                Some("json") => self.json = true,
                Some("table") => self.json = false,
                _ => return refused("unknown format", "give table or json"),
            },
            Id::Cgroup => self.cgroup = Some(value.into()),
            Id::IgnorePaused => self.ignore_paused = true,
            Id::Stats => self.stats = true,
            Id::Rootless => self.rootless = true,
            Id::Interval => match value.to_str().and_then(events::interval) {
                Some(interval) => self.interval = Some(interval),
                None => return refused("no length of time", "give a number and ms, s or m"),
            },
            Id::Resources => self.limits.file = Some(value.into()),
            Id::Limit(limit) => {
                let text = value.to_str().unwrap_or_default();
                self.limits.set(flag.long, limit, text)?;
            }
            Id::ConsoleSocket => self.console_socket = Some(value.into()),
            Id::PreserveFds => {
                let count = value.to_str().and_then(|text| text.parse().ok());
                match count.filter(|&count| count <= passed::MOST) {
                    Some(count) => self.preserved = count,
                    None => return refused("no such number", "give a number up to 1024"),
                }
            }
            Id::Tty => self.changes.tty = true,
            Id::Cwd => self.changes.cwd = Some(value.into()),
            Id::NoNewPrivileges => self.changes.no_new_privileges = true,
            Id::Env | Id::User | Id::Groups | Id::Cap | Id::AppArmor | Id::ProcessLabel => {
                let Some(text) = value.to_str() else {
                    return refused("its value is no UTF-8", "JSON cannot hold it either");
                };
                match flag.id {
                    Id::Env => self.changes.env.push(text.to_owned()),
                    Id::User => self.changes.set_user(text)?,
                    Id::Groups => self.changes.add_groups(text)?,
                    Id::AppArmor => self.changes.profile = Some(text.to_owned()),
                    Id::ProcessLabel => self.changes.label = Some(text.to_owned()),
                    _ => self.changes.capabilities.push(text.to_owned()),
                }
            }
            Id::NoPivot => self.no_pivot = true,
            Id::NoNewKeyring => self.keeps_keyring = true,
            Id::DryRun => match value.to_str() {
                Some("text") => self.dry_run = Some(Format::Text),
                Some("json") => self.dry_run = Some(Format::Json),
                _ => return refused("unknown format", "give text or json"),
            },
        }
        Ok(())
    }

    /// Takes the only operand that is left.
    fn operand(&mut self, scan: &Scan<Action, Id>) -> Result<OsString, Stop> {
        let mut operands = std::mem::take(&mut self.operands).into_iter();
        let first = operands.next().ok_or_else(|| scan.lacks("ID", "missing"))?;
        match operands.next() {
            Some(more) => Err(scan.excess(&more).into()),
            None => Ok(first),
        }
    }

    /// Takes the id, which must be it.
    fn id(&mut self, scan: &Scan<Action, Id>) -> Result<ContainerId, Stop> {
        Ok(ContainerId::new(&self.operand(scan)?)?)
    }

    fn create(mut self, scan: &Scan<Action, Id>, stays: bool) -> Result<Create, Stop> {
        let foreground = stays && !self.detach;
        Ok(Create {
            id: self.id(scan)?,
            bundle: self.bundle.unwrap_or_else(|| ".".into()),
            config: self.config.unwrap_or_else(|| state::CONFIG.into()),
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            preserved: self.preserved,
            foreground,
            keep: self.keep,
            no_pivot: self.no_pivot,
            keeps_keyring: self.keeps_keyring,
            dry_run: self.dry_run,
        })
    }

    /// `exec`, by what follows its options.
    fn exec(self, verb: &Row, id: &OsStr, command: Vec<OsString>) -> Result<Exec, Stop> {
        let bad = |why: &'static str| {
            Error::new("read command line of")
                .on(verb.name)
                .because(why)
                .hint("give --process, or a command and what it is to differ in")
        };
        match &self.process {
            None if command.is_empty() => {
                return Err(bad("--process is missing, or a command").into());
            }
            Some(_) if !command.is_empty() || !self.changes.is_empty() => {
                return Err(bad("--process excludes a command and other options of it").into());
            }
            _ => {}
        }
        Ok(Exec {
            id: ContainerId::new(id)?,
            process: self.process,
            command,
            changes: self.changes,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            preserved: self.preserved,
            detach: self.detach,
            cgroup: self.cgroup,
            ignore_paused: self.ignore_paused,
        })
    }
}

fn read(verb: &'static Row, words: impl IntoIterator<Item = OsString>) -> Result<Request, Stop> {
    let mut scan = Scan::new(verb, words);
    let mut given = Given::default();
    while let Some(word) = scan.next()? {
        match word {
            Word::Option(flag, value) => given.set(flag, value)?,
            // What follows the id of an exec is the command's.
            Word::Operand(id) if verb.id == Action::Exec => {
                return given.exec(verb, &id, scan.rest()).map(Request::Exec);
            }
            // Likewise of a ps.
            Word::Operand(id) if verb.id == Action::Ps => {
                return Ok(Request::Ps {
                    id: ContainerId::new(&id)?,
                    json: given.json,
                    options: scan.rest(),
                });
            }
            Word::Operand(operand) => given.operands.push(operand),
        }
    }
    let signal = match verb.id {
        Action::Kill if given.operands.len() > 1 => given.operands.remove(1),
        _ => "TERM".into(),
    };
    if matches!(verb.id, Action::List | Action::Features | Action::Spec)
        && let Some(more) = given.operands.first()
    {
        return Err(scan.excess(more).into());
    }
    Ok(match verb.id {
        Action::Create => Request::Create(given.create(&scan, false)?),
        Action::Run => Request::Run(given.create(&scan, true)?),
        Action::Start => Request::Start(given.id(&scan)?),
        Action::State => Request::State(given.id(&scan)?),
        Action::Delete => {
            let force = given.force;
            if given.regex {
                let pattern = given.operand(&scan)?;
                Request::DeleteMatching(pattern.to_string_lossy().into_owned(), force)
            } else {
                Request::Delete(given.id(&scan)?, force)
            }
        }
        Action::Kill => {
            let bad = || Error::new("read signal").on(shown(&signal));
            // kill(2): 0 is none, and asks whether there is anybody to signal.
            let number = match signal.to_str() {
                Some("0") => Some(0),
                text => text.and_then(shim::signals::number),
            };
            let number = number.ok_or_else(|| {
                bad()
                    .because("no such signal")
                    .hint("give a name or a number of signal(7)")
            })?;
            Request::Kill {
                all: given.all,
                id: given.id(&scan)?,
                signal: number,
            }
        }
        Action::Pause => Request::Pause(given.id(&scan)?),
        Action::Resume => Request::Resume(given.id(&scan)?),
        Action::Update => {
            let limits = std::mem::take(&mut given.limits);
            Request::Update(given.id(&scan)?, limits)
        }
        Action::Events => Request::Events {
            once: given.stats,
            interval: given.interval.unwrap_or(INTERVAL),
            id: given.id(&scan)?,
        },
        Action::Exec | Action::Ps => return Err(scan.lacks("ID", "missing").into()),
        Action::List => Request::List {
            json: given.json,
            quiet: given.quiet,
        },
        Action::Features => Request::Features,
        Action::Spec => Request::Spec {
            bundle: given.bundle.unwrap_or_else(|| ".".into()),
            rootless: given.rootless,
        },
    })
}
