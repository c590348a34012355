//! What has been read of a command line so far: all options that any verb has.

use std::ffi::OsString;
use std::path::PathBuf;

use shim::Error;

use super::super::args::{
    Command, ConfinementArgs, Format, IdmapRange, LaunchArgs, ProcessArgs, RegistryArgs, Userns,
};
use super::super::scan::{Scan, Stop, Word};
use super::super::table::{Flag, FlagId};
use super::super::{image_values, values};
use crate::config::DirFlags;
use crate::ids::ImageId;
use crate::image::{ExportFormat, LimitArgs, Platform, ProgressMode};
use crate::mounts::{self, MountArgs};
use crate::users;
use crate::verity::Wanted;

/// Every option of every verb; a verb's row in the table decides which of them can be set.
#[derive(Default)]
pub(super) struct Options {
    pub(super) dirs: DirFlags,
    pub(super) process: ProcessArgs,
    pub(super) entrypoint: Option<OsString>,
    pub(super) init: bool,
    pub(super) userns: Option<Userns>,
    pub(super) confinement: ConfinementArgs,
    pub(super) mounts: MountArgs,
    pub(super) json: bool,
    pub(super) dry_run: bool,
    pub(super) format: Option<Format>,
    pub(super) archive_format: Option<ExportFormat>,
    pub(super) source: Option<PathBuf>,
    pub(super) target: Option<PathBuf>,
    pub(super) recursive: bool,
    pub(super) readonly: bool,
    pub(super) file: bool,
    pub(super) idmap: Vec<IdmapRange>,
    pub(super) id: Option<ImageId>,
    pub(super) replace: bool,
    pub(super) flat: bool,
    pub(super) forget: Vec<PathBuf>,
    pub(super) reference: Option<String>,
    pub(super) platform: Option<Platform>,
    pub(super) registry: RegistryArgs,
    pub(super) all: bool,
    pub(super) squash: bool,
    pub(super) limits: LimitArgs,
    pub(super) progress: ProgressMode,
    pub(super) verity: Option<Wanted>,
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

    pub(super) fn dry_run(&self) -> shim::Result<Option<Format>> {
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
    pub(super) fn id_or_all(&mut self) -> shim::Result<Option<ImageId>> {
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
    pub(super) fn launch(
        self,
        rootfs: PathBuf,
        command: Option<Command>,
    ) -> shim::Result<LaunchArgs> {
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
    pub(super) fn until_operand(&mut self, scan: &mut Scan) -> Result<Option<OsString>, Stop> {
        loop {
            match scan.next()? {
                None => return Ok(None),
                Some(Word::Operand(operand)) => return Ok(Some(operand)),
                Some(Word::Option(flag, value)) => self.set(flag, value)?,
            }
        }
    }

    /// Reads to the end; refuses more operands.
    pub(super) fn until_end(&mut self, scan: &mut Scan) -> Result<(), Stop> {
        match self.until_operand(scan)? {
            None => Ok(()),
            Some(operand) => Err(scan.excess(&operand).into()),
        }
    }

    /// Reads options and one operand that must be there and not be empty.
    pub(super) fn operand(
        &mut self,
        scan: &mut Scan,
        name: &'static str,
    ) -> Result<OsString, Stop> {
        match self.until_operand(scan)? {
            None => Err(scan.lacks(name, "missing").into()),
            Some(operand) if operand.is_empty() => Err(scan.lacks(name, "empty").into()),
            Some(operand) => Ok(operand),
        }
    }

    /// Reads options, and a command with all that follows it; none where the words end.
    pub(super) fn command(&mut self, mut scan: Scan) -> Result<Option<Command>, Stop> {
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

pub(super) fn required<T>(option: &'static str, value: Option<T>) -> shim::Result<T> {
    value.ok_or_else(|| {
        Error::new("read option")
            .on(option)
            .because("it is required")
            .hint(format!("give {option}"))
    })
}
