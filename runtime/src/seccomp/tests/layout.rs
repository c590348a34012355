//! What is relied on of seccompiler, and the search by number.

use seccompiler::{
    BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter,
};

use super::super::abi::Abi;
use super::super::compile::{self, Refused, comparisons};
use super::super::rules::{AbiRules, Chain, Rule, Verdict};
use super::verdict_of;

const VALUES: [u64; 7] = [0, 1, 41, 42, 43, 0x1_0000_002a, u64::MAX];

fn abi(calls: Vec<(u32, Chain)>) -> AbiRules {
    AbiRules {
        abi: Abi::Riscv64,
        last: calls.last().map_or(0, |(number, _)| *number),
        calls,
        unlisted: Verdict::EPERM,
        beyond: Verdict::ENOSYS,
    }
}

fn program(abis: &[AbiRules]) -> Vec<u8> {
    compile::bytes(&compile::compile(abis).expect("program"))
}

/// Every operator of both lengths, against what it means.
#[test]
fn conditions_mean_what_they_say() {
    use SeccompCmpOp::{Eq, Ge, Gt, Le, Lt, MaskedEq, Ne};
    type Holds = fn(u64, u64) -> bool;
    let operators: [(SeccompCmpOp, Holds); 7] = [
        (Eq, |a, b| a == b),
        (Ne, |a, b| a != b),
        (Lt, |a, b| a < b),
        (Le, |a, b| a <= b),
        (Gt, |a, b| a > b),
        (Ge, |a, b| a >= b),
        (MaskedEq(0x1_0000_000f), |a, b| {
            a & 0x1_0000_000f == b & 0x1_0000_000f
        }),
    ];
    for (operator, holds) in operators {
        for (length, mask) in [
            (SeccompCmpArgLen::Qword, u64::MAX),
            (SeccompCmpArgLen::Dword, 0xffff_ffff),
        ] {
            for value in VALUES {
                let conditions = vec![
                    SeccompCondition::new(3, length.clone(), operator.clone(), value).unwrap(),
                ];
                let rules = vec![Rule {
                    conditions,
                    verdict: Verdict::ALLOW,
                }];
                let program = program(&[abi(vec![(
                    7,
                    Chain {
                        rules,
                        otherwise: Verdict::TRAP,
                    },
                )])]);
                for arg in VALUES {
                    let expected = if holds(arg & mask, value & mask) {
                        "ALLOW"
                    } else {
                        "TRAP"
                    };
                    let found = verdict_of(&program, Abi::Riscv64.audit(), 7, &[9, 9, 9, arg]);
                    assert_eq!(
                        found, expected,
                        "{arg:#x} {operator:?} {value:#x} ({length:?})"
                    );
                }
            }
        }
    }
}

/// With more spans than a conditional jump reaches over, and chains in some of them.
#[test]
fn every_number_finds_its_answer() {
    let answers = [
        Verdict::ALLOW,
        Verdict::TRAP,
        Verdict::LOG,
        Verdict::errno(22),
    ];
    let condition =
        |value| SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value).unwrap();
    let mut calls = Vec::new();
    for number in (0..1000_u32).filter(|number| number % 5 != 4) {
        let otherwise = answers[usize::try_from(number / 3 % 4).unwrap()];
        let rule = Rule {
            conditions: vec![condition(u64::from(number))],
            verdict: Verdict::trace(7),
        };
        let rules = if number % 7 == 0 {
            vec![rule]
        } else {
            Vec::new()
        };
        calls.push((number, Chain { rules, otherwise }));
    }
    let rules = abi(calls);
    let program = program(std::slice::from_ref(&rules));
    for number in (0..1100).chain([0x4000_0000, u32::MAX]) {
        for arg in [u64::from(number), u64::MAX] {
            let expected = match rules.calls.binary_search_by_key(&number, |call| call.0) {
                Ok(at) if !rules.calls[at].1.rules.is_empty() && arg == u64::from(number) => {
                    Verdict::trace(7)
                }
                Ok(at) => rules.calls[at].1.otherwise,
                Err(_) if number <= rules.last => Verdict::EPERM,
                Err(_) => Verdict::ENOSYS,
            };
            let found = verdict_of(&program, Abi::Riscv64.audit(), number, &[arg]);
            assert_eq!(found, super::name(expected.raw()), "{number} {arg}");
        }
    }
}

#[test]
fn conventions_are_kept_apart() {
    let answering = |convention, verdict| AbiRules {
        abi: convention,
        ..abi(vec![(1, Chain::always(verdict))])
    };
    let program = program(&[
        answering(Abi::X86_64, Verdict::ALLOW),
        answering(Abi::I386, Verdict::LOG),
    ]);
    for (arch, expected) in [
        (0xc000_003e, "ALLOW"),
        (0x4000_0003, "LOG"),
        (0xc000_00b7, "PROCESS"),
        (0x4000_0028, "PROCESS"),
        (0xc000_00f3, "PROCESS"),
        (0, "PROCESS"),
    ] {
        assert_eq!(verdict_of(&program, arch, 1, &[]), expected, "{arch:#x}");
    }
}

#[test]
fn a_program_that_is_too_long_is_refused() {
    let calls = |count: u32| {
        let verdict = |number: u32| {
            if number.is_multiple_of(2) {
                Verdict::ALLOW
            } else {
                Verdict::TRAP
            }
        };
        let calls = (0..count).map(|number| (number, Chain::always(verdict(number))));
        compile::compile(&[abi(calls.collect())])
    };
    assert!(calls(1900).is_ok_and(|program| program.len() <= 4096));
    assert!(matches!(calls(2100), Err(Refused::TooLong(4097..))));
}

#[test]
fn fragments_of_another_layout_are_refused() {
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 1).unwrap();
    let good = BpfProgram::from(SeccompRule::new(vec![condition]).unwrap());
    assert_eq!(comparisons(&good), Ok(&good[2..]));
    let change = |at: usize, code, k, jt, jf| {
        let mut fragment = good.clone();
        fragment[at] = sock_filter { code, jt, jf, k };
        fragment
    };
    let end = good.len() - 1;
    // From the last instruction, 1 is the place of the next rule and 2 is too far.
    assert!(comparisons(&change(end, 0x15, 1, 0, 1)).is_ok());
    for bad in [
        Vec::new(),
        change(end, 0x15, 1, 0, 2),
        change(end, 0x15, 1, 2, 0),
        change(end, 0x05, u32::MAX, 0, 0),
        // Another beginning, and nothing behind it.
        change(0, 0x05, 0, 0, 0),
        change(1, 0x15, 0, 0, 0),
        good[1..].to_vec(),
        good[..2].to_vec(),
        // A return, a load of the number, of half a word, an indexed load, an instruction that changes memory.
        change(end, 0x06, 0x7fff_0000, 0, 0),
        change(end, 0x20, 0, 0, 0),
        change(end, 0x20, 18, 0, 0),
        change(end, 0x40, 16, 0, 0),
        change(end, 0x02, 0, 0, 0),
    ] {
        assert!(comparisons(&bad).is_err(), "{bad:?}");
    }
}
