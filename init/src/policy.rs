//! What init makes of a signal and of a wait status. Pure: no system calls, no memory.

/// Signal numbers that init treats specially; the same on every architecture that init is built for (signal(7)).
pub mod signal {
    /// Terminal hung up.
    pub const HUP: i32 = 1;
    /// Interrupt from the keyboard.
    pub const INT: i32 = 2;
    /// Quit from the keyboard.
    pub const QUIT: i32 = 3;
    /// Illegal instruction.
    pub const ILL: i32 = 4;
    /// Bad memory access.
    pub const BUS: i32 = 7;
    /// Arithmetic error.
    pub const FPE: i32 = 8;
    /// Cannot be caught.
    pub const KILL: i32 = 9;
    /// Invalid memory reference.
    pub const SEGV: i32 = 11;
    /// Request to end.
    pub const TERM: i32 = 15;
    /// A child changed state.
    pub const CHLD: i32 = 17;
    /// Cannot be caught.
    pub const STOP: i32 = 19;
    /// Bad system call.
    pub const SYS: i32 = 31;
    /// The highest signal number.
    pub const MAX: i32 = 64;
}

/// What an idle PID 1 does about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Collect children that ended.
    Reap,
    /// End, and the container with it.
    Stop,
    /// Nothing.
    Ignore,
}

/// An idle leader ends on the signals that ask a service to end and does nothing on all others.
#[must_use]
pub fn idle(number: i32) -> Idle {
    match number {
        signal::CHLD => Idle::Reap,
        signal::TERM | signal::INT | signal::QUIT | signal::HUP => Idle::Stop,
        _ => Idle::Ignore,
    }
}

/// A number in decimal digits: they, and how many there are.
#[must_use]
pub fn decimal(mut number: u32) -> ([u8; 10], usize) {
    let mut digits = [b'0'; 10];
    let mut count = 0;
    // From the last one on, and then turned round.
    for digit in &mut digits {
        *digit += (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    if let Some(used) = digits.get_mut(..count) {
        used.reverse();
    }
    (digits, count)
}

/// Whether a signal that arrived at init is meant for the command.
///
/// SIGCHLD is init's own, SIGKILL and SIGSTOP never arrive, and the rest that is left out is what the kernel sends
/// because the receiver itself broke.
#[must_use]
pub fn is_forwarded(number: i32) -> bool {
    !matches!(
        number,
        signal::CHLD
            | signal::KILL
            | signal::STOP
            | signal::SEGV
            | signal::BUS
            | signal::FPE
            | signal::ILL
            | signal::SYS
    )
}

/// The exit code that stands for a wait status: the code itself, or 128 plus the signal.
#[must_use]
pub fn exit_code(status: u32) -> i32 {
    let low = status & 0x7f;
    let code = if low == 0 {
        (status >> 8) & 0xff
    } else {
        128 + low
    };
    code.cast_signed()
}

/// Whether another candidate for the command may still succeed after this errno of `execve`, as in execvp(3).
#[must_use]
pub fn tries_next_candidate(errno: i32) -> bool {
    const ENOENT: i32 = 2;
    const ENOTDIR: i32 = 20;
    matches!(errno, ENOENT | ENOTDIR | EACCES)
}

/// Permission denied: found, but not for us; remembered while the search goes on.
pub const EACCES: i32 = 13;

/// The parent's number from a line of `/proc/PID/stat`, or none if it is no such line.
///
/// The second field is the program's name in parentheses and may itself contain parentheses and spaces, so the search
/// starts at the last closing one (proc_pid_stat(5)).
#[must_use]
pub fn parent_in_stat(line: &[u8]) -> Option<i32> {
    let end_of_name = line.iter().rposition(|&byte| byte == b')')?;
    // ") S 1234 …"
    let mut fields = line
        .get(end_of_name + 1..)?
        .split(|&byte| byte == b' ')
        .filter(|field| !field.is_empty());
    fields.next()?;
    crate::protocol::number(fields.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_pass_and_signals_become_128_plus() {
        for code in 0..=255u32 {
            assert_eq!(exit_code(code << 8), i32::try_from(code).unwrap());
        }
        assert_eq!(exit_code(9), 137);
        assert_eq!(exit_code(11 | 0x80), 139, "the core flag does not count");
    }

    #[test]
    fn every_signal_of_the_contract_is_forwarded() {
        // ABRT ALRM CONT HUP INT IO PIPE PROF QUIT TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH
        for number in [
            6, 14, 18, 1, 2, 29, 13, 27, 3, 15, 5, 20, 21, 22, 23, 10, 12, 26, 28,
        ] {
            assert!(is_forwarded(number), "{number}");
        }
        for number in [17, 9, 19, 11, 7, 8, 4, 31] {
            assert!(!is_forwarded(number), "{number}");
        }
    }

    #[test]
    fn idle_stops_when_asked_to() {
        assert_eq!(idle(15), Idle::Stop);
        assert_eq!(idle(17), Idle::Reap);
        assert_eq!(idle(10), Idle::Ignore);
        assert_eq!(idle(28), Idle::Ignore);
    }

    #[test]
    fn numbers_are_written_as_people_do() {
        for number in [0, 1, 10, 4_194_304, u32::MAX] {
            let (digits, count) = decimal(number);
            assert_eq!(digits[..count], *std::format!("{number}").as_bytes());
        }
    }

    #[test]
    fn parent_is_found_behind_any_name() {
        assert_eq!(parent_in_stat(b"12 (cat) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat(b"12 (a) S 99 ) R) Z 1 1"), Some(1));
        assert_eq!(parent_in_stat(b"12 ())) S 4294967295 1"), None);
        assert_eq!(parent_in_stat(b"12 (x"), None);
        assert_eq!(parent_in_stat(b""), None);
    }
}
