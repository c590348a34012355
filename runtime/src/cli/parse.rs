//! Words of a command line become an [`Invocation`]. Looks at no file and no environment; refuses what it can already
//! see to be wrong.

mod containers;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use shim::Error;

use super::args::{
    BuildErofsArgs, Command, ConfinementArgs, Format, IdmapRange, ImageArgs, ImageExportArgs,
    ImageGcArgs, ImageImportArgs, ImageInspectArgs, ImageListArgs, ImagePullArgs, ImageTagArgs,
    Invocation, LaunchArgs, ProcessArgs, RegistryArgs, Userns,
};
use super::scan::{Scan, Stop, Word};
use super::table::{self, Flag, FlagId, VERBS, Verb, VerbId};
use super::{help, image_values, values};
use crate::config::DirFlags;
use crate::ids::ImageId;
use crate::image::{ExportFormat, LimitArgs, Platform, ProgressMode};
use crate::mounts::{self, MountArgs};
use crate::suggest::{nearest, shown};
use crate::users;
use crate::verity::Wanted;

/// Reads a command line, without the name of the program.
///
/// # Errors
/// Exit status 125, with the option or operand that is wrong and a hint; never with the value of a variable.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> shim::Result<Invocation> {
    let mut words = words.into_iter();
    let Some(first) = words.next() else {
        return Ok(Invocation::Help(help::short()));
    };
    let first = first.to_str().ok_or_else(|| unknown_verb("", &first))?;
    match first {
        "--help" | "-h" => Ok(Invocation::Help(help::all())),
        "--version" | "-V" => Ok(Invocation::Version),
        "help" => topic(words),
        name if !name.is_empty() && table::groups().contains(&name) => in_group(name, words),
        name => match table::verb("", name) {
            Some(verb) => finish(verb, read(verb, words)),
            None => Err(unknown_verb("", OsStr::new(name))),
        },
    }
}

fn in_group(group: &str, mut words: impl Iterator<Item = OsString>) -> shim::Result<Invocation> {
    let Some(word) = words.next() else {
        return Err(Error::new("read command line")
            .on(group)
            .because("a verb is missing")
            .hint(format!("give one of: {}", names_in(group).join(", "))));
    };
    match word.to_str() {
        Some("--help" | "-h" | "help") => Ok(Invocation::Help(help::group(group))),
        Some(name) if let Some(verb) = table::verb(group, name) => finish(verb, read(verb, words)),
        Some(name) if let Some(inner) = table::inner_group(group, name) => in_group(inner, words),
        _ => Err(unknown_verb(group, &word)),
    }
}

/// `help [VERB]`
fn topic(words: impl Iterator<Item = OsString>) -> shim::Result<Invocation> {
    let words: Vec<_> = words.collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let text = match words.as_slice() {
        [] => help::all(),
        [group] if table::groups().contains(&group.as_ref()) => help::group(group),
        [name] if let Some(verb) = table::verb("", name) => help::verb(verb),
        [group, name] if let Some(verb) = table::verb(group, name) => help::verb(verb),
        [group, name] if let Some(inner) = table::inner_group(group, name) => help::group(inner),
        [group, inner, name]
            if let Some(inner) = table::inner_group(group, inner)
                && let Some(verb) = table::verb(inner, name) =>
        {
            help::verb(verb)
        }
        [group, name, ..] if table::groups().contains(&group.as_ref()) => {
            return Err(unknown_verb(group, OsStr::new(name.as_ref())));
        }
        [name, ..] => return Err(unknown_verb("", OsStr::new(name.as_ref()))),
    };
    Ok(Invocation::Help(text))
}

fn finish(verb: &Verb, read: Result<Invocation, Stop>) -> shim::Result<Invocation> {
    match read {
        Ok(invocation) => Ok(invocation),
        Err(Stop::Help) => Ok(Invocation::Help(help::verb(verb))),
        Err(Stop::Error(error)) => Err(error),
    }
}

fn names_in(group: &str) -> Vec<&'static str> {
    let next = |verb: &Verb| match verb.group.split_once(' ') {
        _ if verb.group == group => Some(verb.name),
        Some((outer, inner)) if outer == group => Some(inner),
        _ => None,
    };
    let mut names: Vec<_> = VERBS.iter().filter_map(next).collect();
    names.dedup();
    names
}

fn unknown_verb(group: &str, word: &OsStr) -> Error {
    let text = shown(word);
    let (what, known) = match group {
        "" if text.starts_with('-') => (
            "no such option before the verb",
            vec!["--help", "--version"],
        ),
        "" => ("no such verb", help::first_words().collect()),
        _ => ("no such verb", names_in(group)),
    };
    // "exec" without "subcontainer" is the likeliest slip of all.
    let elsewhere = VERBS
        .iter()
        .find(|verb| group != verb.group && verb.name == text);
    let hint = match (elsewhere, nearest(&text, known.iter().copied())) {
        (Some(verb), _) => format!("did you mean {}?", verb.path()),
        (None, Some(near)) => format!("did you mean {}?", format!("{group} {near}").trim_start()),
        (None, None) => format!("give one of: {}", known.join(", ")),
    };
    Error::new("read command line")
        .on(format!("{group} {text}").trim_start())
        .because(what)
        .hint(hint)
}

/// Every option of every verb; a verb's row in the table decides which of them can be set.
#[derive(Default)]
struct Options {
    dirs: DirFlags,
    process: ProcessArgs,
    entrypoint: Option<OsString>,
    init: bool,
    userns: Option<Userns>,
    confinement: ConfinementArgs,
    mounts: MountArgs,
    json: bool,
    dry_run: bool,
    format: Option<Format>,
    archive_format: Option<ExportFormat>,
    source: Option<PathBuf>,
    target: Option<PathBuf>,
    recursive: bool,
    readonly: bool,
    file: bool,
    idmap: Vec<IdmapRange>,
    id: Option<ImageId>,
    replace: bool,
    flat: bool,
    forget: Vec<PathBuf>,
    reference: Option<String>,
    platform: Option<Platform>,
    registry: RegistryArgs,
    all: bool,
    squash: bool,
    limits: LimitArgs,
    progress: ProgressMode,
    verity: Option<Wanted>,
}

impl Options {
    fn set(&mut self, flag: &Flag, value: OsString) -> shim::Result<()> {
        let name = flag.long;
        match flag.id {
            FlagId::Base => self.dirs.base = Some(values::path(name, value)?),
            FlagId::State => self.dirs.state = Some(values::path(name, value)?),
            FlagId::Data => self.dirs.data = Some(values::path(name, value)?),
            FlagId::EnvFile => self.process.env_file = Some(values::path(name, value)?),
            FlagId::Env => self.process.env.push(values::variable(value)?),
            FlagId::User => {
                users::check(&value)?;
                self.process.user = Some(value);
            }
            FlagId::Workdir => self.process.workdir = Some(values::not_empty(name, value)?),
            FlagId::ForceTty => self.process.force_tty = true,
            FlagId::ForceStderrTty => self.process.force_stderr_tty = true,
            FlagId::PtySize => self.process.pty_size = Some(values::pty_size(&value)?),
            FlagId::Image => self.process.image = Some(ImageId::new(&value)?),
            FlagId::Entrypoint => self.entrypoint = Some(value),
            FlagId::Init => self.init = true,
            FlagId::Userns => self.userns = Some(values::userns(&value)?),
            FlagId::Profile => self.confinement.profile = Some(values::profile(&value)?),
            FlagId::Cap => self.confinement.caps.exact = Some(values::caps(name, &value)?),
            FlagId::CapAdd => {
                let caps = &mut self.confinement.caps;
                caps.add = caps.add | values::caps(name, &value)?;
            }
            FlagId::CapDrop => {
                let caps = &mut self.confinement.caps;
                caps.drop = caps.drop | values::caps(name, &value)?;
            }
            FlagId::Seccomp => self.confinement.seccomp = Some(values::seccomp(value)?),
            FlagId::ReadOnly => self.confinement.read_only = true,
            FlagId::NoNewPrivileges => self.confinement.no_new_privileges = true,
            FlagId::Mount => {
                let spec = mounts::parse(&values::utf8(name, value)?)?;
                self.mounts.mounts.push(spec);
            }
            FlagId::Share => {
                let share = &mut self.mounts.share;
                share.extend(mounts::parse_share(&values::utf8(name, value)?)?);
                share.sort_unstable();
                share.dedup();
            }
            FlagId::ResolvConf => self.mounts.resolv_conf = Some(values::path(name, value)?),
            FlagId::Json => self.json = true,
            FlagId::DryRun => self.dry_run = true,
            FlagId::Format => self.format = Some(values::format(&value)?),
            FlagId::ArchiveFormat => {
                self.archive_format = Some(image_values::archive_format(&value)?);
            }
            FlagId::Source => self.source = Some(values::path(name, value)?),
            FlagId::Target => self.target = Some(values::path(name, value)?),
            FlagId::Recursive => self.recursive = true,
            FlagId::Readonly => self.readonly = true,
            FlagId::File => self.file = true,
            FlagId::Idmap => {
                let range = values::idmap(&value, &self.idmap)?;
                self.idmap.push(range);
            }
            FlagId::Id => self.id = Some(ImageId::new(&value)?),
            FlagId::Replace => self.replace = true,
            FlagId::Platform => self.platform = Some(image_values::platform(name, value)?),
            FlagId::Authfile => self.registry.authfile = Some(values::path(name, value)?),
            FlagId::CaCert => self.registry.ca_cert = Some(values::path(name, value)?),
            FlagId::PlainHttp => self.registry.plain_http = true,
            FlagId::Proxy => self.registry.proxy = Some(image_values::proxy(&value)?),
            FlagId::Timeout => self.registry.timeout = Some(image_values::timeout(&value)?),
            FlagId::Flat => self.flat = true,
            FlagId::ForgetBase => self.forget.push(values::path(name, value)?),
            FlagId::All => self.all = true,
            FlagId::Squash => self.squash = true,
            FlagId::MaxSize => self.limits.size = Some(values::limit(name, &value)?),
            FlagId::MaxFiles => self.limits.files = Some(values::limit(name, &value)?),
            FlagId::MaxRatio => self.limits.ratio = Some(values::limit(name, &value)?),
            FlagId::MaxWindow => self.limits.window = Some(values::limit(name, &value)?),
            FlagId::Progress => self.progress = values::progress(&value)?,
            FlagId::Verity => self.verity = Some(image_values::verity(&value)?),
            FlagId::Ref => {
                let value = values::not_empty(name, value)?;
                self.reference = Some(values::text(name, value)?);
            }
        }
        Ok(())
    }

    fn dry_run(&self) -> shim::Result<Option<Format>> {
        match (self.dry_run, self.format) {
            (true, format) => Ok(Some(format.unwrap_or_default())),
            (false, None) => Ok(None),
            (false, Some(_)) => Err(Error::new("read option")
                .on("--format")
                .because("there is nothing to print")
                .hint("--format says how --dry-run prints; give both")),
        }
    }

    /// The id of an import; none for all images of the archive.
    fn id_or_all(&mut self) -> shim::Result<Option<ImageId>> {
        if !self.all {
            return required("--id", self.id.take()).map(Some);
        }
        let other = match (&self.id, &self.reference) {
            (None, None) => return Ok(None),
            (Some(_), _) => "--id",
            (None, Some(_)) => "--ref",
        };
        Err(Error::new("read option")
            .on("--all")
            .because(format!("{other} is for one image"))
            .hint("give one of the two"))
    }

    /// What launch and run have in common, when all has been read.
    fn launch(self, rootfs: PathBuf, command: Option<Command>) -> shim::Result<LaunchArgs> {
        let caps = self.confinement.caps.check();
        caps.map_err(|wrong| {
            wrong.at(Error::new("read options").on("--cap, --cap-add, --cap-drop"))
        })?;
        if self.entrypoint.is_some() && self.process.image.is_none() {
            return Err(Error::new("read option")
                .on("--entrypoint")
                .because("there is no image whose entrypoint it replaces")
                .hint("give --image too; or only COMMAND"));
        }
        let dry_run = self.dry_run()?;
        Ok(LaunchArgs {
            rootfs,
            command,
            entrypoint: self.entrypoint,
            init: self.init,
            userns: self.userns,
            confinement: self.confinement,
            mounts: self.mounts,
            dry_run,
            process: self.process,
            dirs: self.dirs,
        })
    }

    /// Reads options up to the next operand.
    fn until_operand(&mut self, scan: &mut Scan) -> Result<Option<OsString>, Stop> {
        loop {
            match scan.next()? {
                None => return Ok(None),
                Some(Word::Operand(operand)) => return Ok(Some(operand)),
                Some(Word::Option(flag, value)) => self.set(flag, value)?,
            }
        }
    }

    /// Reads to the end; refuses more operands.
    fn until_end(&mut self, scan: &mut Scan) -> Result<(), Stop> {
        match self.until_operand(scan)? {
            None => Ok(()),
            Some(operand) => Err(scan.excess(&operand).into()),
        }
    }

    /// Reads options and one operand that must be there and not be empty.
    fn operand(&mut self, scan: &mut Scan, name: &'static str) -> Result<OsString, Stop> {
        match self.until_operand(scan)? {
            None => Err(scan.lacks(name, "missing").into()),
            Some(operand) if operand.is_empty() => Err(scan.lacks(name, "empty").into()),
            Some(operand) => Ok(operand),
        }
    }

    /// Reads options, and a command with all that follows it; none where the words end.
    fn command(&mut self, mut scan: Scan) -> Result<Option<Command>, Stop> {
        match self.until_operand(&mut scan)? {
            None => Ok(None),
            Some(program) if program.is_empty() => Err(scan.lacks("COMMAND", "empty").into()),
            Some(program) => Ok(Some(Command {
                program,
                arguments: scan.rest(),
            })),
        }
    }
}

fn required<T>(option: &'static str, value: Option<T>) -> shim::Result<T> {
    value.ok_or_else(|| {
        Error::new("read option")
            .on(option)
            .because("it is required")
            .hint(format!("give {option}"))
    })
}

fn image_import(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let source = options.operand(&mut scan, "SOURCE")?.into();
    options.until_end(&mut scan)?;
    Ok(Invocation::ImageImport(ImageImportArgs {
        source,
        id: options.id_or_all()?,
        replace: options.replace,
        flat: options.flat,
        reference: options.reference,
        squash: options.squash,
        limits: options.limits,
        progress: options.progress,
        verity: options.verity.map(image_values::exact_verity).transpose()?,
        dirs: options.dirs,
    }))
}

fn read(verb: &'static Verb, words: impl Iterator<Item = OsString>) -> Result<Invocation, Stop> {
    let mut scan = Scan::new(verb, words);
    let mut options = Options::default();
    match verb.id {
        VerbId::Launch => containers::launch(options, scan),
        VerbId::Run => containers::run(options, scan),
        VerbId::Exec => containers::exec(options, scan),
        VerbId::Inspect => containers::inspect(options, scan),
        VerbId::CreateFs => containers::create_fs(options, scan),
        VerbId::DestroyFs => containers::destroy_fs(options, scan),
        VerbId::MountAdd => containers::mount_add(options, scan),
        VerbId::MountRemove => containers::mount_remove(options, scan),
        VerbId::MountList => containers::mount_list(options, scan),
        VerbId::ImageImport => image_import(options, scan),
        VerbId::ImageList => {
            options.until_end(&mut scan)?;
            Ok(Invocation::ImageList(ImageListArgs {
                json: options.json,
                dirs: options.dirs,
            }))
        }
        VerbId::ImageRemove => image(options, scan).map(Invocation::ImageRemove),
        VerbId::ImageVerify => image(options, scan).map(Invocation::ImageVerify),
        VerbId::ImageGc => {
            options.until_end(&mut scan)?;
            Ok(Invocation::ImageGc(ImageGcArgs {
                forget: options.forget,
                json: options.json,
                dirs: options.dirs,
            }))
        }
        VerbId::BuildErofs => {
            let image = options.operand(&mut scan, "IMAGE")?;
            let file = options.operand(&mut scan, "FILE")?.into();
            options.until_end(&mut scan)?;
            Ok(Invocation::BuildErofs(BuildErofsArgs {
                source: image_values::erofs_source(image)?,
                file,
                replace: options.replace,
                json: options.json,
                dirs: options.dirs,
            }))
        }
        VerbId::ImagePull => image_pull(options, scan),
        VerbId::ImageExport => image_export(options, scan),
        VerbId::ImageInspect => {
            let id = ImageId::new(options.operand(&mut scan, "ID")?)?;
            options.until_end(&mut scan)?;
            Ok(Invocation::ImageInspect(ImageInspectArgs {
                id,
                json: options.json,
                dirs: options.dirs,
            }))
        }
        VerbId::ImageTag => {
            let id = ImageId::new(options.operand(&mut scan, "ID")?)?;
            let new = ImageId::new(options.operand(&mut scan, "NEW_ID")?)?;
            options.until_end(&mut scan)?;
            Ok(Invocation::ImageTag(ImageTagArgs {
                id,
                new,
                replace: options.replace,
                json: options.json,
                dirs: options.dirs,
            }))
        }
        VerbId::BindMount => containers::bind_mount(options, scan),
        VerbId::PipeWrap => containers::pipe_wrap(options, scan),
    }
}

fn image(mut options: Options, mut scan: Scan) -> Result<ImageArgs, Stop> {
    let id = ImageId::new(options.operand(&mut scan, "IMAGE_ID")?)?;
    options.until_end(&mut scan)?;
    Ok(ImageArgs {
        id,
        json: options.json,
        dirs: options.dirs,
    })
}

fn image_pull(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let reference = options.operand(&mut scan, "REFERENCE")?;
    options.until_end(&mut scan)?;
    Ok(Invocation::ImagePull(ImagePullArgs {
        reference: values::text("REFERENCE", reference)?,
        id: options.id,
        replace: options.replace,
        flat: options.flat,
        platform: options.platform,
        squash: options.squash,
        limits: options.limits,
        registry: options.registry,
        progress: options.progress,
        dirs: options.dirs,
    }))
}

fn image_export(mut options: Options, mut scan: Scan) -> Result<Invocation, Stop> {
    let id = ImageId::new(options.operand(&mut scan, "ID")?)?;
    let file = options.operand(&mut scan, "FILE")?;
    options.until_end(&mut scan)?;
    let file = (file != "-").then(|| PathBuf::from(file));
    if options.json && file.is_none() {
        return Err(Error::new("read option")
            .on("--json")
            .because("the archive goes to stdout")
            .hint("name a FILE, or leave --json out")
            .into());
    }
    Ok(Invocation::ImageExport(ImageExportArgs {
        id,
        file,
        format: options.archive_format.unwrap_or_default(),
        replace: options.replace,
        json: options.json,
        dirs: options.dirs,
    }))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod refusal_tests;
