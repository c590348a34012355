//! The calling conventions that a process may use to enter the kernel, and which of them a machine has.
//!
//! A filter is asked for all of them: on x86_64 a 64-bit program may execute `int 0x80` and is an i386 caller for that
//! one call. `seccomp_data.arch` tells them apart (seccomp(2), AUDIT_ARCH_* of `linux/audit.h`). The machine is looked
//! up by name and not by `cfg`, so that the filters of every machine are compiled and tested on each.

use oci_spec::runtime::Arch;

/// A calling convention with its own system call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    I386,
    Aarch64,
    Arm,
    Riscv64,
}

/// Set in the numbers of x32, which shares the AUDIT_ARCH of x86_64 (`asm/unistd.h`, __X32_SYSCALL_BIT).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// `__AUDIT_ARCH_64BIT`
const BITS_64: u32 = 0x8000_0000;
/// `__AUDIT_ARCH_LE`
const LITTLE_ENDIAN: u32 = 0x4000_0000;

impl Abi {
    /// `seccomp_data.arch`: the ELF machine number and the two flags.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 62 | BITS_64 | LITTLE_ENDIAN,
            Self::I386 => 3 | LITTLE_ENDIAN,
            Self::Aarch64 => 183 | BITS_64 | LITTLE_ENDIAN,
            Self::Arm => 40 | LITTLE_ENDIAN,
            Self::Riscv64 => 243 | BITS_64 | LITTLE_ENDIAN,
        }
    }

    /// Whether arguments have 64 bits. In those of the others the upper half is zero.
    pub(super) fn is_64_bit(self) -> bool {
        self.audit() & BITS_64 != 0
    }
}

/// A kind of machine that there are filters for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) native: Abi,
    /// The 32-bit convention that its kernels may have been built with.
    pub(super) compat: Option<Abi>,
    /// Its name where profiles say for which machines a rule is meant: Go's, as the engines use it.
    pub(super) go_name: &'static str,
}

/// Names that profiles use for machines.
pub(super) const GO_NAMES: &[&str] = &[
    "386",
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "mipsle",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390",
    "s390x",
    "x32",
    "x86",
];

impl Machine {
    /// The machine with this name of `std::env::consts::ARCH`.
    pub(super) fn named(arch: &str) -> Option<Self> {
        let (native, compat, go_name) = match arch {
            "x86_64" => (Abi::X86_64, Some(Abi::I386), "amd64"),
            "aarch64" => (Abi::Aarch64, Some(Abi::Arm), "arm64"),
            "riscv64" => (Abi::Riscv64, None, "riscv64"),
            _ => return None,
        };
        Some(Self {
            native,
            compat,
            go_name,
        })
    }

    /// Whether a profile that lists this architecture means the machine's 32-bit convention.
    pub(super) fn is_compat(self, arch: Arch) -> bool {
        match self.compat {
            Some(Abi::I386) => arch == Arch::ScmpArchX86,
            Some(Abi::Arm) => arch == Arch::ScmpArchArm,
            _ => false,
        }
    }

    /// Whether a profile that lists this architecture means this machine.
    pub(super) fn is_native(self, arch: Arch) -> bool {
        arch == match self.native {
            Abi::X86_64 => Arch::ScmpArchX86_64,
            Abi::Aarch64 => Arch::ScmpArchAarch64,
            Abi::Riscv64 => Arch::ScmpArchRiscv64,
            Abi::I386 => Arch::ScmpArchX86,
            Abi::Arm => Arch::ScmpArchArm,
        }
    }
}
