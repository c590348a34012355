//! What launch and exec decide in the same way: the process that a command becomes, and its streams.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use shim::plan::Process;
use shim::stdio::{StdioPlan, StreamKind, TerminalWish, WindowSize};
use shim::{Error, Result, RootDir};

use crate::cli::{Command, ProcessArgs};
use crate::defaults::Defaults;
use crate::{environment, users};

/// The mask of every command, whatever the caller's is.
const UMASK: u32 = 0o022;

/// A root filesystem that was opened once, with the path that names it in messages and records.
#[derive(Debug)]
pub struct Rootfs {
    /// The directory.
    pub dir: RootDir,
    /// Absolute, without symlinks.
    pub path: PathBuf,
}

impl Rootfs {
    /// Opens the directory that the user named.
    ///
    /// # Errors
    /// Where it is missing, no directory, or cannot be reached.
    pub fn open(given: &Path) -> Result<Self> {
        let failed = |errno: Errno| {
            let error = Error::sys("open root filesystem", given.display(), errno);
            match errno {
                Errno::ENOENT => {
                    error.hint("make one with: start-container subcontainer create-fs IMAGE_ID")
                }
                Errno::ENOTDIR => error.hint("ROOTFS is the directory that create-fs has printed"),
                Errno::EACCES => error.hint("start-container needs root here"),
                _ => error.hint("ROOTFS must be a directory that can be reached"),
            }
        };
        let dir = RootDir::open(given).map_err(failed)?;
        let path = dir.path().map_err(failed)?;
        Ok(Self { dir, path })
    }
}

/// The process that `command` becomes in `rootfs`, with `defaults` where `args` say nothing. Reads the root filesystem's passwd and group, the env-file and the
/// caller's environment; changes nothing.
///
/// # Errors
/// As [`users::resolve`], [`environment::compose`] and [`environment::candidates`].
pub(crate) fn plan(
    rootfs: &RootDir,
    command: &Command,
    args: &ProcessArgs,
    defaults: &Defaults,
) -> Result<Process> {
    let user = args.user.as_deref().or(defaults.user());
    let user = user.unwrap_or(OsStr::new("root"));
    let identity = users::resolve(rootfs, user)?;
    let environment = environment::compose(
        std::env::vars_os(),
        defaults
            .env_file()
            .into_iter()
            .chain(args.env_file.as_deref()),
        &args.env,
        &identity.home,
    )?;
    let arguments = std::iter::once(&command.program).chain(&command.arguments);
    let arguments: Vec<CString> = arguments
        .map(|word| c_string("pass argument", word))
        .collect::<Result<_>>()?;
    let program = c_string("find command", &command.program)?;
    Ok(Process {
        candidates: environment::candidates(&environment, &program)?,
        arguments,
        environment,
        workdir: c_string(
            "change directory to",
            args.workdir
                .as_deref()
                .or(defaults.workdir())
                .unwrap_or(OsStr::new("/")),
        )?,
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        umask: UMASK,
        limits: Vec::new(),
        personality: None,
        memory_policy: None,
    })
}

fn c_string(purpose: &'static str, text: &OsStr) -> Result<CString> {
    CString::new(text.to_os_string().into_vec()).map_err(|_| {
        Error::new(purpose)
            .on(String::from_utf8_lossy(text.as_bytes()))
            .because("it contains a NUL byte")
            .hint("the kernel takes strings that end at the first NUL byte")
    })
}

/// What becomes of the caller's streams when a command runs.
#[must_use]
pub fn plan_stdio(args: &ProcessArgs) -> StdioPlan {
    let size = args.pty_size.map(|size| WindowSize {
        rows: size.rows,
        cols: size.cols,
        xpixel: size.xpixel,
        ypixel: size.ypixel,
    });
    let wish = TerminalWish {
        force: args.force_tty,
        force_stderr: args.force_stderr_tty,
        size,
    };
    shim::stdio::plan(shim::stdio::kinds(), &wish)
}

/// The same for an idle leader: it reads nothing, so it leaves a terminal of the caller's as it is, and its stdin is
/// /dev/null (see [`shim::launch`]).
#[must_use]
pub fn plan_idle_stdio() -> StdioPlan {
    let [_, stdout, stderr] = shim::stdio::kinds();
    shim::stdio::plan([StreamKind::Null, stdout, stderr], &TerminalWish::default())
}
