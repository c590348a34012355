//! The same filters in a real kernel. A filter belongs to a thread, so a thread of the test takes it, without privileges,
//! and starts a program that makes one call.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use seccompiler::{apply_filter, sock_filter};
use tests::probe::{self, Door, X32};

use super::USUAL;

/// How the program ended that makes this call below the filter.
fn outcome(filter: Option<&[u8]>, door: Door, number: u32, args: &[u64]) -> ExitStatus {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf =
        std::env::temp_dir().join(format!("seccomp-probe-{}-{count}", std::process::id()));
    probe::write(&path, door, number, args);
    let instruction = |at: &[u8]| sock_filter {
        code: u16::from_ne_bytes([at[0], at[1]]),
        jt: at[2],
        jf: at[3],
        k: u32::from_ne_bytes([at[4], at[5], at[6], at[7]]),
    };
    let program: Option<Vec<sock_filter>> =
        filter.map(|bytes| bytes.chunks_exact(8).map(instruction).collect());
    let status = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(program) = &program {
                apply_filter(program).expect("install");
            }
            tests::until("the probe to start", || {
                match Command::new(&path).status() {
                    // Another test forks while this one still had the file open for writing.
                    Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => None,
                    status => Some(status.expect("start")),
                }
            })
        });
        thread.join().expect("thread")
    });
    fs::remove_file(&path).expect("remove");
    status
}

fn errno(status: ExitStatus) -> Errno {
    Errno::from_raw(status.code().unwrap_or_else(|| panic!("{status:?}")))
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("number")
}

#[test]
fn the_kernel_answers_as_the_built_in_profile_says() {
    const HIGH: u64 = 1 << 32;
    const OK: Errno = Errno::UnknownErrno;
    let filter = super::super::default(USUAL).expect("filter").program;
    let ioctl = number(libc::SYS_ioctl);
    // With descriptor -1 an ioctl that is let through says EBADF.
    let none = u64::MAX;
    for (door, number, args, expected) in [
        (Door::Syscall, 4095, &[][..], Errno::ENOSYS),
        (Door::Syscall, number(libc::SYS_getpid), &[], OK),
        (Door::Syscall, number(libc::SYS_mount), &[], Errno::EPERM),
        (Door::Syscall, number(libc::SYS_add_key), &[], Errno::EPERM),
        (Door::Syscall, number(libc::SYS_clone3), &[], Errno::ENOSYS),
        (Door::Syscall, ioctl, &[none, 0x5413], Errno::EBADF),
        (Door::Syscall, ioctl, &[none, 0x5412], Errno::EPERM),
        (Door::Syscall, ioctl, &[none, HIGH | 0x5412], Errno::EPERM),
        (Door::Syscall, ioctl, &[none, HIGH | 0x541c], Errno::EPERM),
        (
            Door::Syscall,
            number(libc::SYS_socket),
            &[HIGH | 40, 1, 0],
            Errno::EPERM,
        ),
        (
            Door::Syscall,
            number(libc::SYS_personality),
            &[0x4_0000],
            Errno::EPERM,
        ),
        (
            Door::Syscall,
            X32 | number(libc::SYS_getpid),
            &[],
            Errno::ENOSYS,
        ),
        // getpid, mount, add_key, ioctl, and none, by i386's numbers.
        (Door::Int80, 20, &[], OK),
        (Door::Int80, 21, &[], Errno::EPERM),
        (Door::Int80, 286, &[], Errno::EPERM),
        (Door::Int80, 54, &[none, 0x5413], Errno::EBADF),
        (Door::Int80, 54, &[none, 0x5412], Errno::EPERM),
        (Door::Int80, 4095, &[], Errno::ENOSYS),
    ] {
        let found = errno(outcome(Some(&filter), door, number, args));
        assert_eq!(found, expected, "{door:?} {number} {args:x?}");
        if expected == Errno::EPERM && number != self::number(libc::SYS_mount) && number != 21 {
            // It is the filter that refuses these, to whoever the test runs as.
            let without = errno(outcome(None, door, number, args));
            assert_ne!(
                without, expected,
                "{door:?} {number} {args:x?} without a filter"
            );
        }
    }
}

#[test]
fn a_convention_that_the_profile_does_not_list_ends_the_process() {
    let path = std::env::temp_dir().join(format!("seccomp-native-{}.json", std::process::id()));
    fs::write(&path, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).expect("write");
    let filter = super::super::from_file(&path, USUAL);
    fs::remove_file(&path).expect("remove");
    let filter = filter.expect("filter").program;
    assert!(outcome(Some(&filter), Door::Syscall, number(libc::SYS_getpid), &[]).success());
    let ended = outcome(Some(&filter), Door::Int80, 20, &[]);
    assert_eq!(ended.signal(), Some(libc::SIGSYS), "{ended:?}");
}
