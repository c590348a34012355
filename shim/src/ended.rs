//! How a workload ended: by itself with a code, or by a signal. It says nothing about failures of our own.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The end of a workload, as its parent would have seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Ended {
    /// It called `exit` with this code, 0 to 255.
    Exited(i32),
    /// It was ended by the signal with this number.
    Signaled(i32),
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
        assert_eq!(
            Ended::from(ExitStatus::from_raw(255 << 8)),
            Ended::Exited(255)
        );
        assert_eq!(Ended::from(ExitStatus::from_raw(9)), Ended::Signaled(9));
        assert_eq!(
            Ended::from(ExitStatus::from_raw(11 | 0x80)),
            Ended::Signaled(11)
        );
    }
}
