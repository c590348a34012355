//! How a workload ended, and ending the same way.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use crate::sys::process;

/// How a process ended, as its parent saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// A signal with this number ended it.
    Signaled(i32),
}

impl Ended {
    /// From a raw wait status, as init reports it.
    #[must_use]
    pub fn from_raw(status: u32) -> Self {
        Self::from(ExitStatus::from_raw(status.cast_signed()))
    }

    /// The exit status for this end. After a death by signal the same signal is raised here first, so that the parent
    /// sees a death by signal; the status, 128 plus the number, is for signals that cannot end us.
    #[must_use]
    pub fn imitate(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Signaled(number) => {
                // The core would be the shim's, not the workload's.
                let _ = process::hide_from_tracers();
                process::die_of(number);
                u8::try_from(128 + number).unwrap_or(u8::MAX)
            }
        }
    }
}

impl From<ExitStatus> for Ended {
    /// A final wait status has either a code or a signal (wait(2)); stops and continuations are never asked for.
    fn from(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signaled(signal),
            None => Self::Exited(status.code().unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(Ended::from_raw(255 << 8), Ended::Exited(255));
        assert_eq!(Ended::from_raw(9), Ended::Signaled(9));
        assert_eq!(
            Ended::from_raw(11 | 0x80),
            Ended::Signaled(11),
            "the core flag does not count"
        );
    }

    #[test]
    fn codes_pass_unchanged() {
        for code in 0..=255u8 {
            assert_eq!(Ended::Exited(i32::from(code)).imitate(), code);
        }
    }
}
