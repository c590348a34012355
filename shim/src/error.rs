//! The one error of the project: what was being done, to which object, why it failed, what to do about it.
//!
//! It is made where the failure is understood, travels up untouched and is printed once, in `main`.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;

/// Shorthand for results that carry [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit status when start-container itself fails.
pub const EXIT_OWN: u8 = 125;
/// Exit status when the command was found but could not be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// Exit status when the command was not found.
pub const EXIT_NOT_FOUND: u8 = 127;

/// A failure that is ready to be shown to a person.
///
/// Printed as `op "subject" (flags): cause (step)`, and on a line of its own the hint:
///
/// ```text
/// start-container: mount "/srv/data" (bind,nosuid): EACCES: Permission denied (step 7 of 23)
///   hint: not readable by uid 100000; check the idmap or its mode
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    op: Cow<'static, str>,
    subject: Option<String>,
    flags: Option<Cow<'static, str>>,
    cause: Option<Cow<'static, str>>,
    errno: Option<Errno>,
    hint: Option<Cow<'static, str>>,
    step: Option<(usize, usize)>,
    exit: u8,
}

impl Error {
    /// A failure to do `op`, a verb phrase in lower case without its object: `"open rootfs"`.
    #[must_use]
    pub fn new(op: impl Into<Cow<'static, str>>) -> Self {
        Self {
            op: op.into(),
            subject: None,
            flags: None,
            cause: None,
            errno: None,
            hint: None,
            step: None,
            exit: EXIT_OWN,
        }
    }

    /// A failure of a system call while doing `op` to `subject`.
    #[must_use]
    pub fn sys(op: impl Into<Cow<'static, str>>, subject: impl fmt::Display, errno: Errno) -> Self {
        Self::new(op).on(subject).errno(errno)
    }

    /// A failure of a `std::io` call while doing `op` to `subject`; keeps the errno where there is one.
    #[must_use]
    pub fn io(
        op: impl Into<Cow<'static, str>>,
        subject: impl fmt::Display,
        error: &std::io::Error,
    ) -> Self {
        let this = Self::new(op).on(subject);
        match error.raw_os_error() {
            Some(raw) => this.errno(Errno::from_raw(raw)),
            None => this.because(error.to_string()),
        }
    }

    /// Names the object. Control characters in it are shown escaped, so that the message stays one line.
    #[must_use]
    pub fn on(mut self, subject: impl fmt::Display) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// Names the flags the call had, comma separated.
    #[must_use]
    pub fn flags(mut self, flags: impl Into<Cow<'static, str>>) -> Self {
        self.flags = Some(flags.into());
        self
    }

    /// Says why in words, where there is no errno or the errno does not say enough.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The errno of the system call that failed.
    #[must_use]
    pub fn errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, unless a hint is there already.
    #[must_use]
    pub fn or_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        if self.hint.is_some() {
            self
        } else {
            self.hint(hint)
        }
    }

    /// Which step of how many failed (both counted from one).
    #[must_use]
    pub fn at_step(mut self, step: usize, of: usize) -> Self {
        self.step = Some((step, of));
        self
    }

    /// The exit status to end with; [`EXIT_OWN`] unless set.
    #[must_use]
    pub fn exit(mut self, status: u8) -> Self {
        self.exit = status;
        self
    }

    /// The exit status that `main` ends with.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        self.exit
    }

    /// The errno, where a system call failed.
    #[must_use]
    pub fn raw_errno(&self) -> Option<Errno> {
        self.errno
    }
}

/// What to do about an errno, whatever was being done.
fn always(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        // See [`crate::sys::signal::ignore_file_size_limit`].
        Errno::EFBIG => "the size of files is limited: raise the limit (ulimit -f)",
        Errno::EMFILE => {
            "the process has as many files open as it may: raise the limit (ulimit -n)"
        }
        Errno::ENFILE => "the machine has as many files open as it may: see fs.file-max",
        _ => return None,
    })
}

/// The same where nobody who knew what was being done has said more.
fn otherwise(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EACCES | Errno::EPERM => {
            "the caller has not the rights for it: root has them, as a rule"
        }
        Errno::EAGAIN => {
            "a limit of processes may be reached: see ulimit -u, and pids.max of the cgroup"
        }
        Errno::EIO => "a disk or a filesystem is at fault: see the kernel's log (dmesg)",
        Errno::ELOOP => "a symbolic link is in the way",
        Errno::ENODEV | Errno::ENOSYS | Errno::EOPNOTSUPP => {
            "the kernel does not have it, or not for this filesystem: see docs/kernel-features.md"
        }
        Errno::ENOMEM => "memory is short, or a limit of it is reached: see the cgroup's",
        Errno::ENOSPC | Errno::EDQUOT => {
            "there is no room, or no inode, left: see df, df -i and quota"
        }
        Errno::EROFS => "its filesystem is read-only",
        _ => return None,
    })
}

/// The errno of a `std::io` failure of a system call; EIO where the standard library has made the failure up itself.
#[must_use]
pub fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Shows text on one line: control characters become escapes.
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", OneLine(&self.op))?;
        if let Some(subject) = &self.subject {
            write!(f, " \"{}\"", OneLine(subject))?;
        }
        if let Some(flags) = &self.flags {
            write!(f, " ({})", OneLine(flags))?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {}", OneLine(cause))?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {errno}")?;
        }
        if let Some((step, of)) = self.step {
            write!(f, " (step {step} of {of})")?;
        }
        let hint = self.errno.and_then(always).or(self.hint.as_deref());
        if let Some(hint) = hint.or_else(|| self.errno.and_then(otherwise)) {
            write!(f, "\n  hint: {}", OneLine(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_then_hint() {
        let error = Error::sys("mount", "/srv/data", Errno::EACCES)
            .flags("bind,nosuid")
            .hint("check its mode")
            .at_step(7, 23);
        assert_eq!(
            error.to_string(),
            "mount \"/srv/data\" (bind,nosuid): EACCES: Permission denied (step 7 of 23)\n  hint: check its mode"
        );
    }

    #[test]
    fn an_errno_has_a_hint_where_nobody_has_given_a_better_one() {
        let hint = |error: Error| {
            let text = error.to_string();
            text.split_once("\n  hint: ")
                .map(|(_, hint)| hint.to_owned())
        };
        let failed = |errno| Error::sys("open", "x", errno);
        assert!(hint(failed(Errno::EROFS)).is_some_and(|hint| hint.contains("read-only")));
        assert_eq!(
            hint(failed(Errno::EROFS).hint("mount it")).as_deref(),
            Some("mount it")
        );
        let limit = hint(failed(Errno::EMFILE).hint("check its mode"));
        assert!(limit.is_some_and(|hint| hint.contains("ulimit -n")));
        assert_eq!(hint(failed(Errno::EDOM)), None);
    }

    #[test]
    fn control_characters_cannot_forge_lines() {
        let error = Error::new("open").on("a\nb\u{1b}[0m");
        assert_eq!(error.to_string(), "open \"a\\nb\\u{1b}[0m\"");
    }
}
