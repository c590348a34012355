//! Runs a filter as the kernel would, for tests: the classic BPF that seccomp(2) takes, on one call.

use super::compile::{AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, RETURN};
use super::rules::Verdict;

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let bytes = match offset {
            0 => return self.number,
            4 => return self.arch,
            8..16 => panic!("no filter looks at the instruction pointer"),
            _ => self.args[usize::try_from((offset - 16) / 8).unwrap()].to_le_bytes(),
        };
        let half = if offset.is_multiple_of(8) {
            &bytes[..4]
        } else {
            &bytes[4..]
        };
        u32::from_le_bytes(half.try_into().unwrap())
    }
}

/// What the filter returns. Panics where the kernel would refuse the program.
pub(super) fn run(program: &[u8], call: Call) -> u32 {
    assert!(program.len().is_multiple_of(8) && program.len() / 8 <= 4096);
    let mut accumulator = 0;
    let mut next = 0;
    loop {
        let at = &program[next * 8..next * 8 + 8];
        let code = u16::from_ne_bytes([at[0], at[1]]);
        let (yes, no) = (usize::from(at[2]), usize::from(at[3]));
        let k = u32::from_ne_bytes(at[4..].try_into().unwrap());
        let choose = |condition: bool| if condition { yes } else { no };
        next += 1;
        next += match code {
            RETURN => return k,
            LOAD => {
                assert!(k < 64 && k.is_multiple_of(4));
                accumulator = call.word(k);
                0
            }
            AND => {
                accumulator &= k;
                0
            }
            JUMP => usize::try_from(k).unwrap(),
            JUMP_EQUAL => choose(accumulator == k),
            JUMP_GREATER => choose(accumulator > k),
            JUMP_GREATER_EQUAL => choose(accumulator >= k),
            _ => panic!("instruction {code:#x}"),
        };
    }
}

/// A verdict in words, for tables.
pub(super) fn name(returned: u32) -> &'static str {
    let verdicts = [
        ("ALLOW", Verdict::ALLOW),
        ("LOG", Verdict::LOG),
        ("NOTIFY", Verdict::NOTIFY),
        ("TRAP", Verdict::TRAP),
        ("THREAD", Verdict::KILL_THREAD),
        ("PROCESS", Verdict::KILL_PROCESS),
        ("EPERM", Verdict::EPERM),
        ("ENOSYS", Verdict::ENOSYS),
        ("EINVAL", Verdict::errno(22)),
        ("TRACE7", Verdict::trace(7)),
    ];
    let found = verdicts
        .iter()
        .find(|(_, verdict)| verdict.raw() == returned);
    found.unwrap_or_else(|| panic!("{returned:#x}")).0
}
