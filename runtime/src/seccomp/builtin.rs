//! The built-in profile: what the processes of a confined container may ask the kernel for.
//!
//! An allow-list. What it has not is known and refused (EPERM); what did not exist when the table of calls was written is
//! unknown and does not exist (ENOSYS), so that a libc which tries a new call goes on with the old one. Which calls
//! are on it follows what users know from Docker's default; where the capability that a call needs is in the bounding
//! set, the call is allowed with it. What is not on it at all: io_uring, userfaultfd, the kernel's keyrings, kexec, swap,
//! moving the pages of others, and what only ancient programs use.

use caps::Capability;
use nix::libc;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

use super::abi::{Abi, Machine};
use super::calls;
use super::rules::{AbiRules, Chain, Rule, Verdict};

const FILES: &str = "\
    _llseek access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat \
    faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 \
    fdatasync fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs \
    fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat lchown lchown32 \
    lgetxattr link linkat listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 mkdir \
    mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 \
    pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir \
    sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice \
    write writev";

const EVENTS: &str = "\
    _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64 \
    select";

const MEMORY: &str = "\
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect \
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages";

// process_vm_* and ptrace cannot reach past a filter since Linux 4.8, and into other users' processes never.
const PROCESSES: &str = "\
    arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid \
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority \
    getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self modify_ldt pidfd_open pidfd_send_signal prctl \
    prlimit64 process_vm_readv process_vm_writev ptrace riscv_flush_icache riscv_hwprobe rseq rseq_slice_yield \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid \
    setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 \
    setreuid setreuid32 setrlimit setsid setuid setuid32 sysinfo times ugetrlimit uname uprobe uretprobe vfork wait4 \
    waitid waitpid";

const SIGNALS: &str = "\
    kill pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd signalfd4 sigpending \
    sigprocmask sigreturn sigsuspend tgkill tkill";

// Setting a clock by adjtimex needs CAP_SYS_TIME in the initial user namespace; reading needs nothing.
const TIME: &str = "\
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64";

// socketcall hides the arguments of socket behind a pointer, and the libcs of i386 depend on it.
const MESSAGES: &str = "\
    accept accept4 bind connect futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername \
    getsockname getsockopt getrandom ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmmsg_time64 recvmsg \
    semctl semget semop semtimedop semtimedop_time64 sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget \
    shutdown socketcall socketpair";

/// What is allowed whatever the capabilities are.
const ALWAYS: [&str; 7] = [FILES, EVENTS, MEMORY, PROCESSES, SIGNALS, TIME, MESSAGES];

/// What is allowed with a capability.
const WITH: [(Capability, &str); 14] = [
    (
        Capability::CAP_SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listns lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr perf_event_open pivot_root quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (
        Capability::CAP_SYS_PTRACE,
        "kcmp pidfd_getfd process_madvise",
    ),
    (
        Capability::CAP_SYS_MODULE,
        "delete_module finit_module init_module",
    ),
    (
        Capability::CAP_SYS_TIME,
        "clock_settime clock_settime64 settimeofday stime",
    ),
    (
        Capability::CAP_SYS_NICE,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::CAP_DAC_READ_SEARCH, "open_by_handle_at"),
    (Capability::CAP_SYS_BOOT, "reboot"),
    (Capability::CAP_SYS_CHROOT, "chroot"),
    (Capability::CAP_SYS_PACCT, "acct"),
    (Capability::CAP_SYS_RAWIO, "ioperm iopl"),
    (Capability::CAP_SYS_TTY_CONFIG, "vhangup"),
    (Capability::CAP_SYSLOG, "syslog"),
    (Capability::CAP_BPF, "bpf"),
    (Capability::CAP_PERFMON, "perf_event_open"),
];

/// The flags of clone that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. What would be
/// NEWTIME is part of the signal number there.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// What personality(2) may be asked for: PER_LINUX and PER_LINUX32, each with and without UNAME26, and the question
/// what it is. Others switch off what makes exploits hard.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `asm-generic/ioctls.h`: typing on a terminal for its user (CVE-2017-5226), and the console's paste (CVE-2023-28100).
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// The rules for all conventions of the machine.
pub(super) fn rules(
    machine: Machine,
    capabilities: u64,
) -> Result<Vec<AbiRules>, seccompiler::BackendError> {
    let allowed = allowed(capabilities);
    let special = special(capabilities)?;
    let mut abis = vec![of_abi(machine.native, &allowed, &special)];
    abis.extend(machine.compat.map(|abi| match abi {
        Abi::Arm => AbiRules::absent(abi),
        _ => of_abi(abi, &allowed, &special),
    }));
    Ok(abis)
}

/// Whether the capability is in the set.
pub(super) fn has(capabilities: u64, capability: Capability) -> bool {
    capabilities & capability.bitmask() != 0
}

/// For each row of the table of calls, whether it is allowed whatever the capabilities and arguments are. Looked up while
/// compiling: this was half of the time that making the filter took.
static ALLOWED: [bool; calls::CALLS.len()] = {
    let mut allowed = [false; calls::CALLS.len()];
    let mut list = 0;
    while list < ALWAYS.len() {
        mark(ALWAYS[list], &mut allowed);
        list += 1;
    }
    allowed
};

/// The same for what each capability brings, in the order of [`WITH`].
static ALLOWED_WITH: [[bool; calls::CALLS.len()]; WITH.len()] = {
    let mut allowed = [[false; calls::CALLS.len()]; WITH.len()];
    let mut list = 0;
    while list < WITH.len() {
        mark(WITH[list].1, &mut allowed[list]);
        list += 1;
    }
    allowed
};

/// Marks the rows of the names in a list. A name that is not in the table stops the compiler.
const fn mark(names: &str, allowed: &mut [bool; calls::CALLS.len()]) {
    let mut rest = names.as_bytes();
    while !rest.is_empty() {
        let mut length = 0;
        while length < rest.len() && !rest[length].is_ascii_whitespace() {
            length += 1;
        }
        let (name, behind) = rest.split_at(length);
        if let Some(at) = calls::find(name) {
            allowed[at] = true;
        } else {
            assert!(
                name.is_empty(),
                "a name in the built-in profile is not in the table of calls"
            );
        }
        rest = if let [_, rest @ ..] = behind {
            rest
        } else {
            behind
        };
    }
}

/// For each row of the table of calls, whether it is allowed with these capabilities, whatever the arguments are.
fn allowed(capabilities: u64) -> [bool; calls::CALLS.len()] {
    let mut allowed = ALLOWED;
    for ((capability, _), with) in WITH.iter().zip(&ALLOWED_WITH) {
        if has(capabilities, *capability) {
            for (allowed, with) in allowed.iter_mut().zip(with) {
                *allowed |= with;
            }
        }
    }
    allowed
}

/// The calls whose answer depends on more than their number, where they are not allowed altogether.
///
/// Every one of these arguments is an `int` to the kernel or loses its upper half there, so only the lower half is
/// compared: with the upper one a forbidden value could be made to look like another (CVE-2019-7303).
fn special(capabilities: u64) -> Result<Vec<(&'static str, Chain)>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let first =
        |operator, value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value);
    let second =
        |operator, value| SeccompCondition::new(1, SeccompCmpArgLen::Dword, operator, value);
    let when = |alternatives: Vec<Vec<SeccompCondition>>| Chain {
        rules: alternatives
            .into_iter()
            .map(|conditions| Rule {
                conditions,
                verdict: Verdict::ALLOW,
            })
            .collect(),
        otherwise: Verdict::EPERM,
    };
    let domain = |domain: libc::c_int| first(Ne, u64::from(domain.unsigned_abs()));
    let mut personalities = Vec::with_capacity(PERSONALITIES.len());
    for personality in PERSONALITIES {
        personalities.push(vec![first(Eq, personality)?]);
    }
    let mut special = vec![
        (
            "ioctl",
            when(vec![vec![second(Ne, TIOCSTI)?, second(Ne, TIOCLINUX)?]]),
        ),
        ("personality", when(personalities)),
        // vsock reaches the hypervisor whatever the network namespace is; AF_ALG is a wide way into the kernel.
        (
            "socket",
            when(vec![vec![domain(libc::AF_VSOCK)?, domain(libc::AF_ALG)?]]),
        ),
    ];
    if !has(capabilities, Capability::CAP_SYS_ADMIN) {
        special.push((
            "clone",
            when(vec![vec![first(MaskedEq(CLONE_NAMESPACES), 0)?]]),
        ));
        // Its flags are behind a pointer. A libc that hears ENOSYS uses clone.
        special.push(("clone3", Chain::always(Verdict::ENOSYS)));
    }
    Ok(special)
}

fn of_abi(abi: Abi, allowed: &[bool], special: &[(&'static str, Chain)]) -> AbiRules {
    let mut calls = Vec::with_capacity(calls::CALLS.len());
    for (row, allowed) in calls::CALLS.iter().zip(allowed) {
        let Some(number) = row.number(abi) else {
            continue;
        };
        let chain = match special.iter().find(|(name, _)| *name == row.name) {
            Some((_, chain)) => chain.clone(),
            None if *allowed => Chain::always(Verdict::ALLOW),
            None => Chain::always(Verdict::EPERM),
        };
        calls.push((number, chain));
    }
    calls.sort_unstable_by_key(|(number, _)| *number);
    AbiRules {
        abi,
        last: calls.last().map_or(0, |(number, _)| *number),
        calls,
        unlisted: Verdict::ENOSYS,
        beyond: Verdict::ENOSYS,
    }
}
