//! The built-in profile on every machine that there is one for.

use super::super::abi::{Abi, Machine};
use super::super::{builtin, calls, compile};
use super::{EVERYTHING, SYS_ADMIN, USUAL, machine, verdict, verdict_of};

const MACHINES: [&str; 3] = ["x86_64", "aarch64", "riscv64"];

fn program(machine: Machine, capabilities: u64) -> Vec<u8> {
    compile(&builtin::rules(machine, capabilities).expect("rules")).expect("program")
}

/// The conventions of a machine that have calls.
fn abis(machine: Machine) -> impl Iterator<Item = Abi> {
    let compat = machine.compat.filter(|abi| *abi != Abi::Arm);
    std::iter::once(machine.native).chain(compat)
}

fn check(capabilities: u64, table: &[(&str, &[u64], &str)]) {
    for arch in MACHINES {
        let machine = machine(arch);
        let program = program(machine, capabilities);
        for abi in abis(machine) {
            for (call, args, expected) in table {
                if calls::number(call, abi).is_some() {
                    let found = verdict(&program, abi, call, args);
                    assert_eq!(
                        found, *expected,
                        "{call} {args:x?} on {abi:?} with {capabilities:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn with_the_usual_capabilities() {
    const HIGH: u64 = 1 << 32;
    check(
        USUAL,
        &[
            // What any program does.
            ("read", &[], "ALLOW"),
            ("execve", &[], "ALLOW"),
            ("execveat", &[], "ALLOW"),
            ("openat2", &[], "ALLOW"),
            ("exit_group", &[], "ALLOW"),
            ("futex", &[], "ALLOW"),
            ("rseq", &[], "ALLOW"),
            ("ptrace", &[], "ALLOW"),
            ("seccomp", &[], "ALLOW"),
            ("landlock_create_ruleset", &[], "ALLOW"),
            ("memfd_create", &[], "ALLOW"),
            ("arch_prctl", &[], "ALLOW"),
            ("waitpid", &[], "ALLOW"),
            ("mmap2", &[], "ALLOW"),
            ("clock_gettime64", &[], "ALLOW"),
            ("socketcall", &[1], "ALLOW"),
            ("chroot", &[], "ALLOW"),
            // What is not for containers.
            ("mount", &[], "EPERM"),
            ("umount2", &[], "EPERM"),
            ("fsopen", &[], "EPERM"),
            ("open_tree_attr", &[], "EPERM"),
            ("pivot_root", &[], "EPERM"),
            ("unshare", &[], "EPERM"),
            ("setns", &[], "EPERM"),
            ("bpf", &[], "EPERM"),
            ("perf_event_open", &[], "EPERM"),
            ("init_module", &[], "EPERM"),
            ("finit_module", &[], "EPERM"),
            ("kexec_load", &[], "EPERM"),
            ("reboot", &[], "EPERM"),
            ("settimeofday", &[], "EPERM"),
            ("stime", &[], "EPERM"),
            ("syslog", &[], "EPERM"),
            ("open_by_handle_at", &[], "EPERM"),
            ("add_key", &[], "EPERM"),
            ("keyctl", &[], "EPERM"),
            ("request_key", &[], "EPERM"),
            ("userfaultfd", &[], "EPERM"),
            ("io_uring_setup", &[], "EPERM"),
            ("io_uring_enter", &[], "EPERM"),
            ("iopl", &[], "EPERM"),
            ("swapon", &[], "EPERM"),
            ("mbind", &[], "EPERM"),
            ("pidfd_getfd", &[], "EPERM"),
            ("vm86", &[], "EPERM"),
            // Namespaces by clone: the flags are the lower half; the upper one changes nothing.
            ("clone", &[0x0000_0011], "ALLOW"),
            ("clone", &[0x003d_0f00], "ALLOW"),
            ("clone", &[0x0002_0011], "EPERM"),
            ("clone", &[0x0200_0011], "EPERM"),
            ("clone", &[0x1000_0011], "EPERM"),
            ("clone", &[0x4000_0011], "EPERM"),
            ("clone", &[HIGH | 0x1000_0011], "EPERM"),
            ("clone3", &[], "ENOSYS"),
            // Terminals.
            ("ioctl", &[0, 0x5401], "ALLOW"),
            ("ioctl", &[0, 0x5412], "EPERM"),
            ("ioctl", &[0, 0x541c], "EPERM"),
            ("ioctl", &[0, HIGH | 0x5412], "EPERM"),
            ("ioctl", &[0, HIGH | 0x541c], "EPERM"),
            ("ioctl", &[0x5412, 0x5413], "ALLOW"),
            // Sockets.
            ("socket", &[1, 1], "ALLOW"),
            ("socket", &[2, 1], "ALLOW"),
            ("socket", &[16, 3, 9], "ALLOW"),
            ("socket", &[38, 5], "EPERM"),
            ("socket", &[40, 1], "EPERM"),
            ("socket", &[41, 1], "ALLOW"),
            ("socket", &[HIGH | 38, 5], "EPERM"),
            ("socket", &[HIGH | 40, 1], "EPERM"),
            // Personalities.
            ("personality", &[0], "ALLOW"),
            ("personality", &[8], "ALLOW"),
            ("personality", &[0x2_0008], "ALLOW"),
            ("personality", &[0xffff_ffff], "ALLOW"),
            ("personality", &[0x004_0000], "EPERM"),
        ],
    );
}

#[test]
fn a_capability_brings_its_calls() {
    check(
        SYS_ADMIN,
        &[
            ("mount", &[], "ALLOW"),
            ("pivot_root", &[], "ALLOW"),
            ("unshare", &[], "ALLOW"),
            ("setns", &[], "ALLOW"),
            ("clone", &[0x1000_0011], "ALLOW"),
            ("clone3", &[], "ALLOW"),
            ("bpf", &[], "ALLOW"),
            ("syslog", &[], "ALLOW"),
            ("chroot", &[], "EPERM"),
            ("init_module", &[], "EPERM"),
            ("ioctl", &[0, 0x5412], "EPERM"),
            ("socket", &[40, 1], "EPERM"),
            ("io_uring_setup", &[], "EPERM"),
        ],
    );
    // Bits of capabilities(7).
    for (bit, call) in [
        (2, "open_by_handle_at"),
        (16, "init_module"),
        (17, "iopl"),
        (18, "chroot"),
        (19, "kcmp"),
        (20, "acct"),
        (22, "reboot"),
        (23, "mbind"),
        (25, "clock_settime"),
        (26, "vhangup"),
        (34, "syslog"),
        (38, "perf_event_open"),
        (39, "bpf"),
    ] {
        check(1 << bit, &[(call, &[], "ALLOW")]);
        check(
            EVERYTHING & !SYS_ADMIN & !(1 << bit),
            &[(call, &[], "EPERM")],
        );
    }
}

#[test]
fn what_does_not_exist_is_enosys_and_not_eperm() {
    for arch in MACHINES {
        let machine = machine(arch);
        for capabilities in [0, USUAL, EVERYTHING] {
            let program = program(machine, capabilities);
            for abi in abis(machine) {
                for number in [472, 1000, 4095, 0x3fff_ffff, 0x8000_0000, u32::MAX] {
                    assert_eq!(
                        verdict_of(&program, abi.audit(), number, &[]),
                        "ENOSYS",
                        "{abi:?} {number}"
                    );
                }
            }
        }
    }
    // A hole in the numbers of x86_64.
    let program = program(machine("x86_64"), USUAL);
    assert_eq!(
        verdict_of(&program, Abi::X86_64.audit(), 400, &[]),
        "ENOSYS"
    );
}

#[test]
fn x32_arm_and_other_conventions() {
    let pc = program(machine("x86_64"), EVERYTHING);
    for number in [0, 39, 59, 512, 520] {
        assert_eq!(
            verdict_of(&pc, Abi::X86_64.audit(), 0x4000_0000 | number, &[]),
            "ENOSYS"
        );
    }
    let arm = program(machine("aarch64"), EVERYTHING);
    for number in [0, 1, 4, 20, 0xf_0005] {
        assert_eq!(verdict_of(&arm, Abi::Arm.audit(), number, &[]), "ENOSYS");
    }
    for (program, foreign) in [(&pc, Abi::Aarch64), (&arm, Abi::X86_64), (&arm, Abi::I386)] {
        assert_eq!(verdict_of(program, foreign.audit(), 1, &[]), "PROCESS");
    }
}
