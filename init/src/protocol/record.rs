//! What init answers, and what the client says to the attendant meanwhile.

/// The steps of init, in their order; the number of a failed one goes into a [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Step {
    /// PR_CAPBSET_DROP of what is not granted.
    Bounding = 1,
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// prctl: not dumpable, child subreaper.
    Attend,
    /// Fork the command's process.
    Fork,
    /// setsid.
    Session,
    /// ioctl TIOCSCTTY.
    ControllingTerminal,
    /// dup3 of the streams to 0, 1 and 2.
    Streams,
    /// close_range with CLOSE_RANGE_CLOEXEC from 3 on.
    Descriptors,
    /// setgroups.
    Groups,
    /// setresgid.
    Gid,
    /// chdir as root, and again as the user if root may not.
    Workdir,
    /// openat and write of `exec` in the directory of labels: before a filter that may forbid it.
    Label,
    /// seccomp: before the ids change where no_new_privs is off, because it takes CAP_SYS_ADMIN then, else just before
    /// execve; with a listener before the wait for a start.
    Filter,
    /// setresuid.
    Uid,
    /// capset: nothing inheritable, and of the others only what is granted.
    Capabilities,
    /// PR_SET_PDEATHSIG after the ids changed.
    ParentDeath,
    /// Signal dispositions and mask back to their defaults.
    Signals,
    /// faccessat of each candidate, where nobody may be there any more to hear that execve has failed.
    Lookup,
    /// PR_SET_PDEATHSIG back to none: the command outlives the client from here on.
    Release,
    /// read of the byte that starts the command.
    Hold,
    /// execve of each candidate.
    Execute,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 21] = [
        Self::Bounding,
        Self::NoNewPrivileges,
        Self::Attend,
        Self::Fork,
        Self::Session,
        Self::ControllingTerminal,
        Self::Streams,
        Self::Descriptors,
        Self::Groups,
        Self::Gid,
        Self::Workdir,
        Self::Label,
        Self::Filter,
        Self::Uid,
        Self::Capabilities,
        Self::ParentDeath,
        Self::Signals,
        Self::Lookup,
        Self::Release,
        Self::Hold,
        Self::Execute,
    ];

    /// The step with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|&step| step as u16 == number)
    }
}

/// What the client says to the attendant on the liveness pipe, a byte each. End of file says that the client is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// Nobody reads the command's stdout any more.
    StdoutClosed = 0,
    /// Nobody reads the command's stderr any more.
    StderrClosed = 1,
    /// [`Record::Ended`] has arrived.
    EndHeard = 2,
}

impl Word {
    /// What a byte means; none for one that means nothing.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::StdoutClosed, Self::StderrClosed, Self::EndHeard]
            .into_iter()
            .find(|&word| word as u8 == byte)
    }
}

/// One answer, eight bytes in native order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// A step of the plan that the shim's child applies failed: its index in the plan, and the errno.
    PlanFailed(u16, u16),
    /// A step of init failed: its number and the errno.
    InitFailed(u16, u16),
    /// The command ended with this wait status.
    Ended(u32),
    /// The command waits to be started.
    Ready,
    /// Its filter of system calls asks somebody: this descriptor of the process that becomes the command.
    Listening(u32),
}

impl Record {
    /// Length on the wire.
    pub const LENGTH: usize = 8;

    /// The bytes to send.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let (kind, value) = match self {
            Self::PlanFailed(step, errno) => (1u32, u32::from(step) << 16 | u32::from(errno)),
            Self::InitFailed(step, errno) => (2, u32::from(step) << 16 | u32::from(errno)),
            Self::Ended(status) => (3, status),
            Self::Ready => (4, 0),
            Self::Listening(fd) => (5, fd),
        };
        let mut bytes = [0; Self::LENGTH];
        let (first, second) = bytes.split_at_mut(4);
        first.copy_from_slice(&kind.to_ne_bytes());
        second.copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    /// What arrived, if it is a record.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_at_checked(4)?;
        let kind = u32::from_ne_bytes(first.try_into().ok()?);
        let value = u32::from_ne_bytes(second.try_into().ok()?);
        let halves = || {
            Some((
                u16::try_from(value >> 16).ok()?,
                u16::try_from(value & 0xffff).ok()?,
            ))
        };
        match kind {
            1 => halves().map(|(step, errno)| Self::PlanFailed(step, errno)),
            2 => halves().map(|(step, errno)| Self::InitFailed(step, errno)),
            3 => Some(Self::Ended(value)),
            4 => Some(Self::Ready),
            5 => Some(Self::Listening(value)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_their_bytes() {
        for byte in 0..=u8::MAX {
            assert_eq!(
                Word::from_byte(byte).map(|word| word as u8),
                (byte < 3).then_some(byte)
            );
        }
    }

    #[test]
    fn records_survive_the_wire() {
        for record in [
            Record::PlanFailed(3, 13),
            Record::InitFailed(u16::MAX, 1),
            Record::Ended(0x8b),
            Record::Ready,
            Record::Listening(17),
        ] {
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }
        assert_eq!(Record::from_bytes(b"12345678"), None);
        assert_eq!(Record::from_bytes(b"1234567"), None);
    }

    #[test]
    fn step_numbers_are_unique() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(step as u16), Some(step));
        }
        assert_eq!(Step::from_number(0), None);
    }
}
