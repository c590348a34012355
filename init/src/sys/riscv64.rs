//! riscv64: entry point, system call instruction; the numbers are the generic ones. Read, not run: see
//! docs/architecture.md.

use core::arch::{asm, global_asm};

// At the first instruction sp points to argc, argv and envp and is 16-byte aligned; gp is ours to set, for the
// linker addresses globals through it.
global_asm!(
    ".globl _start",
    "_start:",
    ".option push",
    ".option norelax",
    "la gp, __global_pointer$",
    ".option pop",
    "mv a0, sp",
    "call {main}",
    "ebreak",
    main = sym crate::main,
);

/// Makes a system call.
///
/// # Safety
/// As the call's man page: pointers among the arguments must be valid for what the kernel does with them.
pub(super) unsafe fn syscall(number: usize, arguments: [usize; 5]) -> usize {
    let [first, second, third, fourth, fifth] = arguments;
    let value;
    // SAFETY: the kernel keeps all registers but a0; memory that the arguments point to is the caller's affair.
    unsafe {
        asm!(
            "ecall",
            in("a7") number,
            inlateout("a0") first => value,
            in("a1") second,
            in("a2") third,
            in("a3") fourth,
            in("a4") fifth,
            options(nostack),
        );
    }
    value
}

pub(super) const O_NOFOLLOW: usize = 0o400_000;

#[path = "generic_numbers.rs"]
pub(super) mod nr;
