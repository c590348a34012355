//! Tests of filters as a whole: rules in, and what the kernel would answer for a call out.

mod builtin;
mod files;
mod layout;
mod mistakes;
mod numbers;
#[cfg(target_arch = "x86_64")]
mod real;

use super::abi::{Abi, Machine};
use super::calls;
use super::interpreter::{Call, name, run};

/// The 14 capabilities that a confined container has (capabilities(7)): none of those that make calls available here,
/// except CAP_SYS_CHROOT.
const USUAL: u64 = 0xa804_25fb;
const SYS_ADMIN: u64 = 1 << 21;
const EVERYTHING: u64 = (1 << 41) - 1;

fn machine(arch: &str) -> Machine {
    Machine::named(arch).expect(arch)
}

/// The verdict for a call by name, which the ABI must have.
fn verdict(program: &[u8], abi: Abi, call: &str, args: &[u64]) -> &'static str {
    let number = calls::number(call, abi).unwrap_or_else(|| panic!("{abi:?} has no {call}"));
    verdict_of(program, abi.audit(), number, args)
}

fn verdict_of(program: &[u8], arch: u32, number: u32, args: &[u64]) -> &'static str {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    name(run(
        program,
        Call {
            arch,
            number,
            args: all,
        },
    ))
}
