//! How a workload ended, and ending the same way.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::sys::wait::WaitStatus;

/// How a process ended.
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
        match status & 0x7f {
            0 => Self::Exited(((status >> 8) & 0xff).cast_signed()),
            signal => Self::Signaled(signal.cast_signed()),
        }
    }

    /// From what waitid has told; none for a process that still lives.
    #[must_use]
    pub fn from_wait(status: WaitStatus) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, code) => Some(Self::Exited(code)),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Signaled(signal as i32)),
            _ => None,
        }
    }

    /// The exit status for this end. After a death by signal the same signal is raised here first, so that the parent
    /// sees a death by signal; the status, 128 plus the number, is for signals that cannot end us.
    #[must_use]
    pub fn imitate(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Signaled(number) => {
                if let Ok(number) = Signal::try_from(number) {
                    die_of(number);
                }
                u8::try_from(128 + number).unwrap_or(u8::MAX)
            }
        }
    }
}

fn die_of(number: Signal) {
    // The core would be the shim's, not the workload's.
    let _ = crate::sys::process::hide_from_tracers();
    let _ = crate::sys::process::default_disposition(number);
    let mut mask = SigSet::empty();
    mask.add(number);
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&mask), None);
    let _ = raise(number);
}
