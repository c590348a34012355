//! The program for version 2 that decides about devices (BPF_PROG_TYPE_CGROUP_DEVICE): told what somebody wants to do with
//! which device, it answers 1 or 0.
//!
//! Each thing that is wanted (read, write, mknod) is decided by the last rule about it, so the rules are gone through
//! from the last to the first. What one of them allows is no longer to be decided; what one denies is the end.

use shim::sys::bpf::Instruction;

use super::devices::{Kind, Rule};

const CONTEXT: u8 = 1;
/// What is still to be decided.
const WANTED: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 0;

/// Of `enum bpf_devcg_type`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// The program for these rules; what none of them decides is denied.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
    let mut code = vec![
        Instruction::load(KIND, CONTEXT, 0),
        Instruction::load(WANTED, CONTEXT, 0),
        Instruction::shift_right(WANTED, 16),
        Instruction::and(KIND, 0xFFFF),
        Instruction::load(MAJOR, CONTEXT, 4),
        Instruction::load(MINOR, CONTEXT, 8),
    ];
    for rule in rules.iter().rev() {
        code.extend(one(rule));
    }
    code.extend(answer(0));
    code
}

fn one(rule: &Rule) -> Vec<Instruction> {
    let kind = rule.kind.map(|kind| match kind {
        Kind::Block => BLOCK,
        Kind::Char => CHAR,
    });
    let conditions = [
        kind.map(|kind| (KIND, kind)),
        rule.major.map(|major| (MAJOR, major.cast_signed())),
        rule.minor.map(|minor| (MINOR, minor.cast_signed())),
    ];
    let access = rule.access.0.cast_signed();
    let mut then = Vec::new();
    if rule.allow {
        then.push(Instruction::and(WANTED, !access));
        then.push(Instruction::jump_unless_equal(WANTED, 0, 2));
        then.extend(answer(1));
    } else {
        then.push(Instruction::copy(SCRATCH, WANTED));
        then.push(Instruction::and(SCRATCH, access));
        then.push(Instruction::jump_if_equal(SCRATCH, 0, 2));
        then.extend(answer(0));
    }
    let mut code = Vec::new();
    let asked: Vec<_> = conditions.into_iter().flatten().collect();
    for (index, (register, value)) in asked.iter().enumerate() {
        // To the next rule: over the conditions that are left and all that follows.
        let rest = asked.len() - index - 1 + then.len();
        let rest = i16::try_from(rest).unwrap_or(i16::MAX);
        code.push(Instruction::jump_unless_equal(*register, *value, rest));
    }
    code.extend(then);
    code
}

fn answer(value: i32) -> [Instruction; 2] {
    [Instruction::set(SCRATCH, value), Instruction::exit()]
}
