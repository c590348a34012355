//! What init is told: the SPEC line, written by the shim and read by init.

use core::fmt;

/// Version of the line; the binary embeds its own init, so a mismatch can only be a mistake in the build.
const VERSION: i32 = 6;

/// Capabilities of which none is taken away; bit N is capability N (capabilities(7)).
pub const ALL_CAPABILITIES: u64 = u64::MAX;

/// The longest seccomp filter, in instructions of eight bytes (BPF_MAXINSNS).
pub const FILTER_MAX: usize = 4096;

/// What init is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// PID 1 of a container without a command: reaps, and ends on SIGTERM.
    Idle,
    /// Becomes the command in place (which is PID 1 then).
    Run,
    /// PID 1 that forks the command, reaps, forwards signals and ends with its status.
    Supervise,
    /// Between an exec client and its command: as [`Role::Supervise`], and ends everything when the client is gone.
    Attend,
}

impl Role {
    const ALL: [Self; 4] = [Self::Idle, Self::Run, Self::Supervise, Self::Attend];

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.number() == number)
    }

    fn number(self) -> i32 {
        match self {
            Self::Idle => 0,
            Self::Run => 1,
            Self::Supervise => 2,
            Self::Attend => 3,
        }
    }
}

/// The sets of a command of its own choosing, as they are just before it is executed (capabilities(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What counts.
    pub effective: u64,
    /// What it may make effective.
    pub permitted: u64,
    /// What a program may keep that says so itself.
    pub inheritable: u64,
    /// What every program keeps.
    pub ambient: u64,
}

/// The numbers of the SPEC line. Descriptors are those that init inherits; -1 means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// What to be.
    pub role: Role,
    /// Where records go; also where init hears nothing. Close-on-exec from the moment the command is executed.
    pub report: i32,
    /// What become descriptors 0, 1 and 2.
    pub streams: [i32; 3],
    /// Terminal to make the controlling one.
    pub terminal: i32,
    /// Pipe whose other end only the exec client holds ([`Role::Attend`]).
    pub liveness: i32,
    /// Root of a procfs of the container's PID namespace ([`Role::Attend`]).
    pub procfs: i32,
    /// Read ends of the pipes that are the command's stdout and stderr ([`Role::Attend`]).
    pub drains: [i32; 2],
    /// Where the command waits to be started: a FIFO that a byte comes from, and one for the answer ([`Role::Run`]).
    pub hold: [i32; 2],
    /// Whether the command stays when the client ends.
    pub outlives: bool,
    /// File with the seccomp filter of the command: `struct sock_filter` by `struct sock_filter`.
    pub filter: i32,
    /// SECCOMP_FILTER_FLAG_* of seccomp(2).
    pub filter_flags: u32,
    /// Directory whose file `exec` takes the label of the command, which is an argument then.
    pub label: i32,
    /// The most that any process may have; [`ALL_CAPABILITIES`] leaves them as they are.
    pub capabilities: u64,
    /// The command's own sets; none takes from what it has what it may not have.
    pub sets: Option<CapabilitySets>,
    /// Whether execve may never give more than the process has (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// Whether the supplementary groups are set; false where the user namespace forbids it (user_namespaces(7)).
    pub set_groups: bool,
    /// User id, as the container sees it.
    pub uid: u32,
    /// Group id, as the container sees it.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: u32,
    /// Up to how many descriptors from 3 on the command keeps: those that are open there and are not [`Spec::own`].
    pub preserved: u32,
    /// Whether the variable LISTEN_PID, which has room for it, is to become the command's own number (sd_listen_fds(3)).
    pub tells_pid: bool,
    /// How many candidates follow the working directory.
    pub candidates: u32,
}

/// Parses a decimal number; the whole text must be one, without sign except `-1`'s.
#[must_use]
pub fn number(text: &[u8]) -> Option<i32> {
    if text == b"-1" {
        return Some(-1);
    }
    i32::try_from(unsigned(text)?).ok()
}

fn unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The numbers of a line, one by one.
struct Numbers<'a>(core::slice::Split<'a, u8, fn(&u8) -> bool>);

impl<'a> Numbers<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self(line.split(|&byte| byte == b' '))
    }

    fn signed(&mut self) -> Option<i32> {
        number(self.0.next()?)
    }

    fn unsigned(&mut self) -> Option<u32> {
        self.wide()?.try_into().ok()
    }

    /// A number that says whether there are any, and four.
    fn sets(&mut self) -> Option<Option<CapabilitySets>> {
        let given = self.unsigned()? != 0;
        let sets = CapabilitySets {
            effective: self.wide()?,
            permitted: self.wide()?,
            inheritable: self.wide()?,
            ambient: self.wide()?,
        };
        Some(given.then_some(sets))
    }

    fn wide(&mut self) -> Option<u64> {
        unsigned(self.0.next()?)
    }
}

impl Spec {
    /// SECCOMP_FILTER_FLAG_NEW_LISTENER of seccomp(2): who has the descriptor that comes of it is asked about calls.
    pub const NEW_LISTENER: u32 = 1 << 3;

    /// Whether somebody is to be asked about calls, who must have heard of it before the command waits to be started.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.filter >= 0 && self.filter_flags & Self::NEW_LISTENER != 0
    }

    /// The descriptors that are for init alone.
    pub fn own(&self) -> impl Iterator<Item = i32> {
        let first = [
            self.report,
            self.terminal,
            self.liveness,
            self.procfs,
            self.filter,
            self.label,
        ];
        let rest = first.into_iter().chain(self.drains).chain(self.hold);
        rest.chain(self.streams).filter(|&fd| fd > 2)
    }

    /// Whether a stream of the command is one that the client made and relays. The client's death is then felt by the
    /// command itself (a hang-up, the end of its input), and may end it before init has noticed.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        (0..).zip(&self.streams).any(|(own, &stream)| stream != own)
    }

    /// Reads a line: the numbers, and the supplementary groups that follow them.
    #[must_use]
    pub fn decode(line: &[u8]) -> Option<(Self, Groups<'_>)> {
        let mut numbers = Numbers::new(line);
        if numbers.signed()? != VERSION {
            return None;
        }
        let spec = Self {
            role: Role::from_number(numbers.signed()?)?,
            report: numbers.signed()?,
            streams: [numbers.signed()?, numbers.signed()?, numbers.signed()?],
            terminal: numbers.signed()?,
            liveness: numbers.signed()?,
            procfs: numbers.signed()?,
            drains: [numbers.signed()?, numbers.signed()?],
            hold: [numbers.signed()?, numbers.signed()?],
            outlives: numbers.unsigned()? != 0,
            filter: numbers.signed()?,
            filter_flags: numbers.unsigned()?,
            label: numbers.signed()?,
            capabilities: numbers.wide()?,
            sets: numbers.sets()?,
            no_new_privileges: numbers.unsigned()? != 0,
            set_groups: numbers.unsigned()? != 0,
            uid: numbers.unsigned()?,
            gid: numbers.unsigned()?,
            umask: numbers.unsigned()?,
            preserved: numbers.unsigned()?,
            tells_pid: numbers.unsigned()? != 0,
            candidates: numbers.unsigned()?,
        };
        Some((spec, Groups(numbers)))
    }

    /// Writes the line that [`Spec::decode`] reads.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn encode(&self, groups: &[u32], out: &mut impl fmt::Write) -> fmt::Result {
        let [stdin, stdout, stderr] = self.streams;
        let [first, second] = self.drains;
        let [start, answer] = self.hold;
        write!(
            out,
            "{VERSION} {} {} {stdin} {stdout} {stderr}",
            self.role.number(),
            self.report
        )?;
        write!(
            out,
            " {} {} {} {first} {second}",
            self.terminal, self.liveness, self.procfs
        )?;
        write!(out, " {start} {answer} {}", u32::from(self.outlives))?;
        write!(
            out,
            " {} {} {} {}",
            self.filter, self.filter_flags, self.label, self.capabilities
        )?;
        let sets = self.sets.unwrap_or_default();
        write!(
            out,
            " {} {} {} {} {} {}",
            u32::from(self.sets.is_some()),
            sets.effective,
            sets.permitted,
            sets.inheritable,
            sets.ambient,
            u32::from(self.no_new_privileges)
        )?;
        write!(
            out,
            " {} {} {} {} {} {} {}",
            u32::from(self.set_groups),
            self.uid,
            self.gid,
            self.umask,
            self.preserved,
            u32::from(self.tells_pid),
            self.candidates
        )?;
        for group in groups {
            write!(out, " {group}")?;
        }
        Ok(())
    }
}

/// The supplementary groups at the end of a SPEC line; ends early at anything that is no number.
pub struct Groups<'a>(Numbers<'a>);

impl Iterator for Groups<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    const SPEC: Spec = Spec {
        role: Role::Attend,
        report: 7,
        streams: [0, 12, -1],
        terminal: -1,
        liveness: 9,
        procfs: 10,
        drains: [11, -1],
        hold: [14, 15],
        outlives: true,
        filter: 13,
        filter_flags: 4,
        label: 16,
        capabilities: ALL_CAPABILITIES - 1,
        sets: Some(CapabilitySets {
            effective: 1,
            permitted: 3,
            inheritable: 2,
            ambient: ALL_CAPABILITIES,
        }),
        no_new_privileges: true,
        set_groups: true,
        uid: u32::MAX - 1,
        gid: 0,
        umask: 0o22,
        preserved: 2,
        tells_pid: true,
        candidates: 6,
    };

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        for groups in [&[][..], &[0], &[0, 5, u32::MAX - 1]] {
            let mut line = String::new();
            SPEC.encode(groups, &mut line).unwrap();
            let (spec, read) = Spec::decode(line.as_bytes()).unwrap();
            assert_eq!(spec, SPEC);
            assert_eq!(read.collect::<Vec<_>>(), groups);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            "",
            "1",
            "1 3 7",
            "6 9 7 0 1 2 -1 -1 -1 -1 -1 -1 -1 0 -1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0",
            "6 0 x 0 1 2 -1 -1 -1 -1 -1 -1 -1 0 -1 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0",
            "6 0 7 0 1 2 -1 -1 -1 -1 -1 -1 -1 0 -1 0 -1 18446744073709551616 0 0 0 0 0 0 0 0 0 0 0 0",
        ] {
            assert!(Spec::decode(line.as_bytes()).is_none(), "{line}");
        }
        assert_eq!(number(b"2147483648"), None);
        assert_eq!(number(b"+1"), None);
        assert_eq!(number(b"-2"), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn inherited_streams_are_not_relayed() {
        assert!(
            !Spec {
                streams: [0, 1, 2],
                ..SPEC
            }
            .is_relayed()
        );
        assert!(
            Spec {
                streams: [0, 9, 2],
                ..SPEC
            }
            .is_relayed()
        );
    }
}
