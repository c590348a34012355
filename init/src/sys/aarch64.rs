//! aarch64: entry point, system call instruction; the numbers are the generic ones. Read, not run: see
//! docs/architecture.md.

use core::arch::{asm, global_asm};

// At the first instruction sp points to argc, argv and envp and is 16-byte aligned.
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {main}",
    "brk #1",
    main = sym crate::main,
);

/// Makes a system call.
///
/// # Safety
/// As the call's man page: pointers among the arguments must be valid for what the kernel does with them.
pub(super) unsafe fn syscall(number: usize, arguments: [usize; 5]) -> usize {
    let [first, second, third, fourth, fifth] = arguments;
    let value;
    // SAFETY: the kernel keeps all registers but x0; memory that the arguments point to is the caller's affair.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") first => value,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            in("x4") fifth,
            options(nostack),
        );
    }
    value
}

// The arm ABI swaps this bit with O_DIRECT's.
pub(super) const O_NOFOLLOW: usize = 0o100_000;

#[path = "generic_numbers.rs"]
pub(super) mod nr;
