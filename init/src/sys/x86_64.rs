//! x86_64: entry point, system call instruction and numbers (arch/x86/entry/syscalls/syscall_64.tbl).

use core::arch::{asm, global_asm};

// At the first instruction rsp points to argc, argv and envp; the ABI wants it 16-byte aligned at a call.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym crate::main,
);

/// Makes a system call.
///
/// # Safety
/// As the call's man page: pointers among the arguments must be valid for what the kernel does with them.
pub(super) unsafe fn syscall(number: usize, arguments: [usize; 5]) -> usize {
    let [first, second, third, fourth, fifth] = arguments;
    let value;
    // SAFETY: the kernel clobbers rcx, r11 and memory that the arguments point to, which the caller answers for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => value,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    value
}

pub(super) const O_NOFOLLOW: usize = 0o400_000;

pub(super) mod nr {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const LSEEK: usize = 8;
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const GETCWD: usize = 79;
    pub(crate) const CHDIR: usize = 80;
    pub(crate) const UMASK: usize = 95;
    pub(crate) const SETSID: usize = 112;
    pub(crate) const SETGROUPS: usize = 116;
    pub(crate) const SETRESUID: usize = 117;
    pub(crate) const SETRESGID: usize = 119;
    pub(crate) const CAPGET: usize = 125;
    pub(crate) const CAPSET: usize = 126;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const GETDENTS64: usize = 217;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const READLINKAT: usize = 267;
    pub(crate) const FACCESSAT: usize = 269;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const SIGNALFD4: usize = 289;
    pub(crate) const DUP3: usize = 292;
    pub(crate) const SECCOMP: usize = 317;
    pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(crate) const CLOSE_RANGE: usize = 436;
    pub(crate) const FACCESSAT2: usize = 439;
}
