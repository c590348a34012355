//! What a filter answers, as a plain value: per calling convention and number a list of rules and an answer for the rest.
//!
//! This is what both sources of filters (the built-in profile and a file) are turned into, and what is compiled.

use nix::libc;
use seccompiler::SeccompCondition;

use super::abi::Abi;
use super::calls;

/// What the kernel shall do with a call: the value that a filter returns (seccomp(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict(u32);

impl Verdict {
    pub(super) const ALLOW: Self = Self(libc::SECCOMP_RET_ALLOW);
    pub(super) const LOG: Self = Self(libc::SECCOMP_RET_LOG);
    pub(super) const TRAP: Self = Self(libc::SECCOMP_RET_TRAP);
    pub(super) const KILL_THREAD: Self = Self(libc::SECCOMP_RET_KILL_THREAD);
    pub(super) const KILL_PROCESS: Self = Self(libc::SECCOMP_RET_KILL_PROCESS);
    pub(super) const NOTIFY: Self = Self(libc::SECCOMP_RET_USER_NOTIF);
    pub(super) const EPERM: Self = Self(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs());
    pub(super) const ENOSYS: Self = Self(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());

    pub(super) fn errno(number: u16) -> Self {
        Self(libc::SECCOMP_RET_ERRNO | u32::from(number))
    }

    pub(super) fn trace(message: u16) -> Self {
        Self(libc::SECCOMP_RET_TRACE | u32::from(message))
    }

    pub(super) fn raw(self) -> u32 {
        self.0
    }

    /// Whether the call is carried out, whoever else may be watching; or by whoever is asked about it.
    pub(super) fn permits(self) -> bool {
        matches!(self, Self::ALLOW | Self::LOG | Self::NOTIFY)
    }

    /// Whether the call may be carried out. A tracer decides about what it is asked for.
    pub(super) fn may_permit(self) -> bool {
        self.permits() || self.0 & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_TRACE
    }
}

/// An answer for the calls whose arguments fulfil all conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Never empty.
    pub(super) conditions: Vec<SeccompCondition>,
    pub(super) verdict: Verdict,
}

/// The answers for one call: the first rule that fits, otherwise the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) rules: Vec<Rule>,
    pub(super) otherwise: Verdict,
}

impl Chain {
    /// The same answer whatever the arguments are.
    pub(super) fn always(verdict: Verdict) -> Self {
        Self {
            rules: Vec::new(),
            otherwise: verdict,
        }
    }

    /// Whether there are arguments for which the call is carried out.
    fn permits(&self) -> bool {
        let mut verdicts = self.rules.iter().map(|rule| rule.verdict);
        verdicts.any(Verdict::permits) || self.otherwise.permits()
    }
}

/// The answers for all numbers of one calling convention.
#[derive(Debug, Clone)]
pub(super) struct AbiRules {
    pub(super) abi: Abi,
    /// Sorted by number, each once.
    pub(super) calls: Vec<(u32, Chain)>,
    /// For numbers that are not in `calls` and not above `last`.
    pub(super) unlisted: Verdict,
    /// The highest number that whoever wrote the rules knew of.
    pub(super) last: u32,
    /// For numbers above `last`.
    pub(super) beyond: Verdict,
}

impl AbiRules {
    /// Everything is answered with ENOSYS, as by a kernel that was built without this convention.
    pub(super) fn absent(abi: Abi) -> Self {
        Self {
            abi,
            calls: Vec::new(),
            unlisted: Verdict::ENOSYS,
            last: 0,
            beyond: Verdict::ENOSYS,
        }
    }

    /// Whether some arguments of this call let it be carried out.
    pub(super) fn permits(&self, name: &str) -> bool {
        let Some(number) = calls::number(name, self.abi) else {
            return false;
        };
        match self
            .calls
            .binary_search_by_key(&number, |(number, _)| *number)
        {
            Ok(at) => self.calls.get(at).is_some_and(|(_, chain)| chain.permits()),
            Err(_) if number > self.last => self.beyond.permits(),
            Err(_) => self.unlisted.permits(),
        }
    }
}
