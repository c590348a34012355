//! The caller's terminal while the workload has one of its own: every byte goes through, nothing is echoed, and ^C is
//! a byte for the inner terminal. Restored when dropped.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::{Error, Result};

/// The terminal and how it was.
#[derive(Debug)]
pub(super) struct RawMode {
    terminal: OwnedFd,
    saved: Termios,
    entered: bool,
    behind: bool,
}

impl RawMode {
    /// Remembers how the terminal is, and makes it raw unless it belongs to another process group now.
    ///
    /// # Errors
    /// EIO when the terminal was hung up.
    pub(super) fn new(terminal: OwnedFd) -> Result<Self> {
        let saved = tcgetattr(&terminal)
            .map_err(|errno| Error::new("read the mode of the caller's terminal").errno(errno))?;
        let mut this = Self {
            terminal,
            saved,
            entered: false,
            behind: false,
        };
        this.enter()?;
        Ok(this)
    }

    /// Whether it was another process group's at the last try.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Makes it raw; once more after the caller's shell has had it back (job control).
    ///
    /// # Errors
    /// EIO when the terminal was hung up.
    pub(super) fn enter(&mut self) -> Result<()> {
        // A background process would take the terminal away from the shell that its user is typing into.
        self.behind = is_behind(&self.terminal);
        if self.behind {
            return Ok(());
        }
        let mut raw = self.saved.clone();
        cfmakeraw(&mut raw);
        // Not TCSADRAIN: a terminal stopped with ^S would hold us up.
        tcsetattr(&self.terminal, SetArg::TCSANOW, &raw)
            .map_err(|errno| Error::new("make the caller's terminal raw").errno(errno))?;
        self.entered = true;
        Ok(())
    }
}

/// Whether this is our controlling terminal and another process group has it. ENOTTY: not ours, no job control.
pub(super) fn is_behind(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != getpgrp())
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if self.entered {
            // A terminal that is gone needs no restoring.
            let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.saved);
        }
    }
}
