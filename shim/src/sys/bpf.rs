//! `bpf(2)`, as far as a filter of devices needs it: programs of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15), loaded and
//! attached to a cgroup of version 2.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{check, check_fd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Others may attach programs too: all of them must say yes.
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        // The bit-field's order is that of the machine; all that are built for are little-endian.
        Self {
            code,
            registers: to | from << 4,
            offset,
            immediate,
        }
    }

    /// `to = *(u32 *)(from + offset)` (BPF_LDX | BPF_MEM | BPF_W)
    #[must_use]
    pub const fn load(to: u8, from: u8, offset: i16) -> Self {
        Self::new(0x61, to, from, offset, 0)
    }

    /// `to &= value`, in 32 bits (BPF_ALU | BPF_AND | BPF_K)
    #[must_use]
    pub const fn and(to: u8, value: i32) -> Self {
        Self::new(0x54, to, 0, 0, value)
    }

    /// `to >>= count`, in 32 bits (BPF_ALU | BPF_RSH | BPF_K)
    #[must_use]
    pub const fn shift_right(to: u8, count: i32) -> Self {
        Self::new(0x74, to, 0, 0, count)
    }

    /// `to = from`, in 32 bits (BPF_ALU | BPF_MOV | BPF_X)
    #[must_use]
    pub const fn copy(to: u8, from: u8) -> Self {
        Self::new(0xBC, to, from, 0, 0)
    }

    /// `to = value` (BPF_ALU64 | BPF_MOV | BPF_K)
    #[must_use]
    pub const fn set(to: u8, value: i32) -> Self {
        Self::new(0xB7, to, 0, 0, value)
    }

    /// Skips `count` instructions if the register has this value, in 32 bits (BPF_JMP32 | BPF_JEQ | BPF_K, Linux 5.1)
    #[must_use]
    pub const fn jump_if_equal(register: u8, value: i32, count: i16) -> Self {
        Self::new(0x16, register, 0, count, value)
    }

    /// Skips them if it has another one (BPF_JMP32 | BPF_JNE | BPF_K)
    #[must_use]
    pub const fn jump_unless_equal(register: u8, value: i32, count: i16) -> Self {
        Self::new(0x56, register, 0, count, value)
    }

    /// The end; the answer is in the register 0 (BPF_JMP | BPF_EXIT)
    #[must_use]
    pub const fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes what is left out for zero.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Has the kernel check a program that decides about devices.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN or CAP_SYS_ADMIN, EINVAL for one that the kernel does not accept, ENOSYS.
pub fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr().addr() as u64,
        // It uses nothing that is reserved to programs under the GPL.
        license: c"MIT".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `attr` is a head of the kernel's union, of the size that is passed; the program, as long as it says, and
    // the licence outlive the call, which returns a new descriptor.
    check_fd(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attr,
            size_of::<Load>(),
        )
    })
}

/// Attaches a program to a cgroup of version 2; it stays as long as the cgroup is there.
///
/// # Errors
/// EPERM where a cgroup above has one that tolerates no other, EINVAL for another kind of cgroup.
pub fn attach(program: &OwnedFd, cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = Attach {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.as_fd().as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attr` is a head of the kernel's union, of the size that is passed, and holds no pointers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attr,
            size_of::<Attach>(),
        )
    };
    check(result).map(drop)
}
