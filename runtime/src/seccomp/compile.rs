//! Turns rules into one BPF program: which convention, then which number, then the arguments.
//!
//! seccompiler's whole filters have one answer for what matches, one for the rest, and know one convention; so only its
//! innermost part is used, the comparison of arguments. It becomes a *fragment*: two jumps, of which the second is for
//! other numbers and never reached here, and comparisons that go on behind the end when all conditions hold, and one
//! instruction further when not. The instruction in between returns the rule's verdict. seccompiler promises this layout
//! in a comment and a test of its own only, so each fragment is checked here before it becomes part of a program; one
//! that looks different is an error and not a filter with a hole.
//!
//! The numbers are searched by halving. The kernel runs a filter for every call except where it could prove beforehand
//! that the answer is "allow" for all arguments (5.11, `seccomp_cache_prepare`), which it can here, because nothing but
//! comparisons of convention and number leads to such an answer.

use seccompiler::{BpfProgram, SeccompRule, sock_filter};

use super::abi::{Abi, X32_BIT};
use super::rules::{AbiRules, Chain, Rule, Verdict};

/// Longest program that the kernel takes (BPF_MAXINSNS of `linux/bpf_common.h`).
const MAX_LENGTH: usize = 4096;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: std::ops::Range<u32> = 16..64;

// The instructions of `linux/bpf_common.h` that occur.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// Why rules cannot become a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// More instructions than the kernel takes: so many.
    TooLong(usize),
    /// A fragment of seccompiler that is not laid out as this file needs it: how.
    Layout(&'static str),
}

/// Compiles the rules of all conventions that the machine has. Calls of any other end the process.
pub(super) fn compile(abis: &[AbiRules]) -> Result<BpfProgram, Refused> {
    let mut program = vec![statement(LOAD, ARCH)];
    for abi in abis {
        let mut body = vec![statement(LOAD, NUMBER)];
        search(&spans(abi), &mut body)?;
        program.push(branch(JUMP_EQUAL, abi.abi.audit(), 1, 0));
        program.push(statement(JUMP, distance(body.len())?));
        program.append(&mut body);
    }
    program.push(returning(Verdict::KILL_PROCESS));
    if program.len() > MAX_LENGTH {
        return Err(Refused::TooLong(program.len()));
    }
    Ok(program)
}

/// The program as the array of `struct sock_filter` that the kernel reads.
pub(super) fn bytes(program: &[sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(program));
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    bytes
}

/// Neighbouring numbers with the same answers: from this number up to the next span's.
struct Span<'a> {
    first: u32,
    rules: &'a [Rule],
    otherwise: Verdict,
}

/// All numbers there can be, in order, without gaps.
fn spans(abi: &AbiRules) -> Vec<Span<'_>> {
    let mut spans: Vec<Span<'_>> = Vec::with_capacity(abi.calls.len());
    let mut push = |first, rules, otherwise| match spans.last() {
        Some(last) if last.rules == rules && last.otherwise == otherwise => {}
        _ => spans.push(Span {
            first,
            rules,
            otherwise,
        }),
    };
    let mut next = 0;
    for (number, Chain { rules, otherwise }) in &abi.calls {
        if next < *number {
            push(next, &[], abi.unlisted);
        }
        push(*number, rules, *otherwise);
        next = number + 1;
    }
    if next <= abi.last {
        push(next, &[], abi.unlisted);
    }
    push(next.max(abi.last + 1), &[], abi.beyond);
    if abi.abi == Abi::X86_64 {
        // x32, which most kernels are built without. The number -1, which a tracer sets to skip a call, is up here as
        // well; ENOSYS is what the kernel itself answers to both.
        push(X32_BIT, &[], Verdict::ENOSYS);
    }
    spans
}

/// Halves the spans until one is left, and appends its answers. The number is in the accumulator.
fn search(spans: &[Span<'_>], program: &mut BpfProgram) -> Result<(), Refused> {
    let (lower, upper) = match spans {
        [] => return Ok(()),
        [span] => return answers(span, program),
        _ => spans.split_at(spans.len() / 2),
    };
    let boundary = upper.first().map_or(0, |span| span.first);
    let mut near = Vec::new();
    search(lower, &mut near)?;
    match u8::try_from(near.len()) {
        Ok(length) => program.push(branch(JUMP_GREATER_EQUAL, boundary, length, 0)),
        // A conditional jump has eight bits for its distance.
        Err(_) => {
            program.push(branch(JUMP_GREATER_EQUAL, boundary, 0, 1));
            program.push(statement(JUMP, distance(near.len())?));
        }
    }
    program.append(&mut near);
    search(upper, program)
}

/// The rules of one span, each a fragment and its verdict, and the answer when none fits.
fn answers(span: &Span<'_>, program: &mut BpfProgram) -> Result<(), Refused> {
    for Rule {
        conditions,
        verdict,
    } in span.rules
    {
        let rule = SeccompRule::new(conditions.clone())
            .map_err(|_| Refused::Layout("a rule without conditions"))?;
        let fragment = BpfProgram::from(rule);
        let comparisons = comparisons(&fragment).map_err(Refused::Layout)?;
        program.extend_from_slice(comparisons);
        program.push(returning(*verdict));
    }
    program.push(returning(span.otherwise));
    Ok(())
}

/// The comparisons of a fragment: loads of arguments, masks and jumps, all jumps forwards and none beyond one behind the
/// end. So they end at one of the two places behind it, whatever the arguments are.
pub(super) fn comparisons(fragment: &[sock_filter]) -> Result<&[sock_filter], &'static str> {
    let comparisons = match fragment {
        [enter, leave, comparisons @ ..] if *enter == statement(JUMP, 1) && leave.code == JUMP => {
            comparisons
        }
        _ => return Err("it does not begin with two jumps"),
    };
    for (at, instruction) in comparisons.iter().enumerate() {
        let furthest = match instruction.code {
            LOAD if ARGUMENTS.contains(&instruction.k) && instruction.k.is_multiple_of(4) => 0,
            LOAD => return Err("a load of something that is not an argument"),
            AND => 0,
            JUMP => usize::try_from(instruction.k).map_err(|_| "a jump too far")?,
            JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_EQUAL => {
                usize::from(instruction.jt.max(instruction.jf))
            }
            RETURN => return Err("a return of its own"),
            _ => return Err("an instruction that is not known here"),
        };
        // The places behind the end are `comparisons.len()` and one more.
        if furthest > comparisons.len() - at {
            return Err("a jump too far");
        }
    }
    if comparisons.is_empty() {
        return Err("it compares nothing");
    }
    Ok(comparisons)
}

fn statement(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn returning(verdict: Verdict) -> sock_filter {
    statement(RETURN, verdict.raw())
}

fn distance(length: usize) -> Result<u32, Refused> {
    u32::try_from(length).map_err(|_| Refused::TooLong(length))
}
