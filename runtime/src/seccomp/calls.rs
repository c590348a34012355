//! The system calls that exist: names and numbers, as the kernel's tables have them (Linux 7.1, `arch/*/…/syscall*.tbl`).
//!
//! Numbers are never given away again, so a row is only ever added. Decides nothing.

use std::cmp::Ordering;

use super::abi::Abi;

/// "This ABI has no such call."
const NO: u16 = u16::MAX;

/// One system call.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    numbers: [u16; 4],
}

impl Row {
    /// The number of the call, where the ABI has it.
    pub(super) fn number(&self, abi: Abi) -> Option<u32> {
        let [x86_64, i386, aarch64, riscv64] = self.numbers;
        let number = match abi {
            Abi::X86_64 => x86_64,
            Abi::I386 => i386,
            Abi::Aarch64 => aarch64,
            Abi::Riscv64 => riscv64,
            // There is no column for it: everything is answered with ENOSYS.
            Abi::Arm => NO,
        };
        (number != NO).then_some(u32::from(number))
    }
}

/// The place of a call in [`CALLS`].
pub(super) const fn find(name: &[u8]) -> Option<usize> {
    let (mut low, mut high) = (0, CALLS.len());
    while low < high {
        let middle = low.midpoint(high);
        match compare(CALLS[middle].name.as_bytes(), name) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(middle),
        }
    }
    None
}

/// What `Ord` says, for use while compiling.
const fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return if a[at] < b[at] {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        at += 1;
    }
    if a.len() < b.len() {
        Ordering::Less
    } else if a.len() > b.len() {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

/// The number of a call, where it exists and the ABI has it.
pub(super) fn number(name: &str, abi: Abi) -> Option<u32> {
    find(name.as_bytes())
        .and_then(|at| CALLS.get(at))
        .and_then(|row| row.number(abi))
}

/// Whether the call exists only on architectures that have no column here, or only behind `socketcall`.
pub(super) fn is_foreign(name: &str) -> bool {
    FOREIGN.split_ascii_whitespace().any(|known| known == name)
}

const fn row(name: &'static str, x86_64: u16, i386: u16, aarch64: u16, riscv64: u16) -> Row {
    Row {
        name,
        numbers: [x86_64, i386, aarch64, riscv64],
    }
}

const FOREIGN: &str = "\
    arm_fadvise64_64 arm_sync_file_range atomic_barrier atomic_cmpxchg_32 breakpoint cachectl cacheflush \
    get_tls getpagesize multiplexer pciconfig_iobase pciconfig_read pciconfig_write recv rtas \
    s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_sthyi send set_tls \
    spu_create spu_run subpage_prot swapcontext switch_endian sync_file_range2 sys_debug_setcontext syscall \
    sysmips timerfd usr26 usr32";

/// Sorted by name. The columns: x86_64, i386, aarch64, riscv64.
#[rustfmt::skip]
pub(super) const CALLS: &[Row] = &[
    row("_llseek", NO, 140, NO, NO), row("_newselect", NO, 142, NO, NO), row("_sysctl", 156, 149, NO, NO),
    row("accept", 43, NO, 202, 202), row("accept4", 288, 364, 242, 242), row("access", 21, 33, NO, NO),
    row("acct", 163, 51, 89, 89), row("add_key", 248, 286, 217, 217), row("adjtimex", 159, 124, 171, 171),
    row("afs_syscall", 183, 137, NO, NO), row("alarm", 37, 27, NO, NO), row("arch_prctl", 158, 384, NO, NO),
    row("bdflush", NO, 134, NO, NO), row("bind", 49, 361, 200, 200), row("bpf", 321, 357, 280, 280),
    row("break", NO, 17, NO, NO), row("brk", 12, 45, 214, 214), row("cachestat", 451, 451, 451, 451),
    row("capget", 125, 184, 90, 90), row("capset", 126, 185, 91, 91), row("chdir", 80, 12, 49, 49),
    row("chmod", 90, 15, NO, NO), row("chown", 92, 182, NO, NO), row("chown32", NO, 212, NO, NO),
    row("chroot", 161, 61, 51, 51), row("clock_adjtime", 305, 343, 266, 266), row("clock_adjtime64", NO, 405, NO, NO),
    row("clock_getres", 229, 266, 114, 114), row("clock_getres_time64", NO, 406, NO, NO),
    row("clock_gettime", 228, 265, 113, 113), row("clock_gettime64", NO, 403, NO, NO),
    row("clock_nanosleep", 230, 267, 115, 115), row("clock_nanosleep_time64", NO, 407, NO, NO),
    row("clock_settime", 227, 264, 112, 112), row("clock_settime64", NO, 404, NO, NO), row("clone", 56, 120, 220, 220),
    row("clone3", 435, 435, 435, 435), row("close", 3, 6, 57, 57), row("close_range", 436, 436, 436, 436),
    row("connect", 42, 362, 203, 203), row("copy_file_range", 326, 377, 285, 285), row("creat", 85, 8, NO, NO),
    row("create_module", 174, 127, NO, NO), row("delete_module", 176, 129, 106, 106), row("dup", 32, 41, 23, 23),
    row("dup2", 33, 63, NO, NO), row("dup3", 292, 330, 24, 24), row("epoll_create", 213, 254, NO, NO),
    row("epoll_create1", 291, 329, 20, 20), row("epoll_ctl", 233, 255, 21, 21), row("epoll_ctl_old", 214, NO, NO, NO),
    row("epoll_pwait", 281, 319, 22, 22), row("epoll_pwait2", 441, 441, 441, 441), row("epoll_wait", 232, 256, NO, NO),
    row("epoll_wait_old", 215, NO, NO, NO), row("eventfd", 284, 323, NO, NO), row("eventfd2", 290, 328, 19, 19),
    row("execve", 59, 11, 221, 221), row("execveat", 322, 358, 281, 281), row("exit", 60, 1, 93, 93),
    row("exit_group", 231, 252, 94, 94), row("faccessat", 269, 307, 48, 48), row("faccessat2", 439, 439, 439, 439),
    row("fadvise64", 221, 250, 223, 223), row("fadvise64_64", NO, 272, NO, NO), row("fallocate", 285, 324, 47, 47),
    row("fanotify_init", 300, 338, 262, 262), row("fanotify_mark", 301, 339, 263, 263), row("fchdir", 81, 133, 50, 50),
    row("fchmod", 91, 94, 52, 52), row("fchmodat", 268, 306, 53, 53), row("fchmodat2", 452, 452, 452, 452),
    row("fchown", 93, 95, 55, 55), row("fchown32", NO, 207, NO, NO), row("fchownat", 260, 298, 54, 54),
    row("fcntl", 72, 55, 25, 25), row("fcntl64", NO, 221, NO, NO), row("fdatasync", 75, 148, 83, 83),
    row("fgetxattr", 193, 231, 10, 10), row("file_getattr", 468, 468, 468, 468),
    row("file_setattr", 469, 469, 469, 469), row("finit_module", 313, 350, 273, 273),
    row("flistxattr", 196, 234, 13, 13), row("flock", 73, 143, 32, 32), row("fork", 57, 2, NO, NO),
    row("fremovexattr", 199, 237, 16, 16), row("fsconfig", 431, 431, 431, 431), row("fsetxattr", 190, 228, 7, 7),
    row("fsmount", 432, 432, 432, 432), row("fsopen", 430, 430, 430, 430), row("fspick", 433, 433, 433, 433),
    row("fstat", 5, 108, 80, 80), row("fstat64", NO, 197, NO, NO), row("fstatat64", NO, 300, NO, NO),
    row("fstatfs", 138, 100, 44, 44), row("fstatfs64", NO, 269, NO, NO), row("fsync", 74, 118, 82, 82),
    row("ftime", NO, 35, NO, NO), row("ftruncate", 77, 93, 46, 46), row("ftruncate64", NO, 194, NO, NO),
    row("futex", 202, 240, 98, 98), row("futex_requeue", 456, 456, 456, 456), row("futex_time64", NO, 422, NO, NO),
    row("futex_wait", 455, 455, 455, 455), row("futex_waitv", 449, 449, 449, 449),
    row("futex_wake", 454, 454, 454, 454), row("futimesat", 261, 299, NO, NO),
    row("get_kernel_syms", 177, 130, NO, NO), row("get_mempolicy", 239, 275, 236, 236),
    row("get_robust_list", 274, 312, 100, 100), row("get_thread_area", 211, 244, NO, NO),
    row("getcpu", 309, 318, 168, 168), row("getcwd", 79, 183, 17, 17), row("getdents", 78, 141, NO, NO),
    row("getdents64", 217, 220, 61, 61), row("getegid", 108, 50, 177, 177), row("getegid32", NO, 202, NO, NO),
    row("geteuid", 107, 49, 175, 175), row("geteuid32", NO, 201, NO, NO), row("getgid", 104, 47, 176, 176),
    row("getgid32", NO, 200, NO, NO), row("getgroups", 115, 80, 158, 158), row("getgroups32", NO, 205, NO, NO),
    row("getitimer", 36, 105, 102, 102), row("getpeername", 52, 368, 205, 205), row("getpgid", 121, 132, 155, 155),
    row("getpgrp", 111, 65, NO, NO), row("getpid", 39, 20, 172, 172), row("getpmsg", 181, 188, NO, NO),
    row("getppid", 110, 64, 173, 173), row("getpriority", 140, 96, 141, 141), row("getrandom", 318, 355, 278, 278),
    row("getresgid", 120, 171, 150, 150), row("getresgid32", NO, 211, NO, NO), row("getresuid", 118, 165, 148, 148),
    row("getresuid32", NO, 209, NO, NO), row("getrlimit", 97, 76, 163, 163), row("getrusage", 98, 77, 165, 165),
    row("getsid", 124, 147, 156, 156), row("getsockname", 51, 367, 204, 204), row("getsockopt", 55, 365, 209, 209),
    row("gettid", 186, 224, 178, 178), row("gettimeofday", 96, 78, 169, 169), row("getuid", 102, 24, 174, 174),
    row("getuid32", NO, 199, NO, NO), row("getxattr", 191, 229, 8, 8), row("getxattrat", 464, 464, 464, 464),
    row("gtty", NO, 32, NO, NO), row("idle", NO, 112, NO, NO), row("init_module", 175, 128, 105, 105),
    row("inotify_add_watch", 254, 292, 27, 27), row("inotify_init", 253, 291, NO, NO),
    row("inotify_init1", 294, 332, 26, 26), row("inotify_rm_watch", 255, 293, 28, 28),
    row("io_cancel", 210, 249, 3, 3), row("io_destroy", 207, 246, 1, 1), row("io_getevents", 208, 247, 4, 4),
    row("io_pgetevents", 333, 385, 292, 292), row("io_pgetevents_time64", NO, 416, NO, NO),
    row("io_setup", 206, 245, 0, 0), row("io_submit", 209, 248, 2, 2), row("io_uring_enter", 426, 426, 426, 426),
    row("io_uring_register", 427, 427, 427, 427), row("io_uring_setup", 425, 425, 425, 425),
    row("ioctl", 16, 54, 29, 29), row("ioperm", 173, 101, NO, NO), row("iopl", 172, 110, NO, NO),
    row("ioprio_get", 252, 290, 31, 31), row("ioprio_set", 251, 289, 30, 30), row("ipc", NO, 117, NO, NO),
    row("kcmp", 312, 349, 272, 272), row("kexec_file_load", 320, NO, 294, 294), row("kexec_load", 246, 283, 104, 104),
    row("keyctl", 250, 288, 219, 219), row("kill", 62, 37, 129, 129), row("landlock_add_rule", 445, 445, 445, 445),
    row("landlock_create_ruleset", 444, 444, 444, 444), row("landlock_restrict_self", 446, 446, 446, 446),
    row("lchown", 94, 16, NO, NO), row("lchown32", NO, 198, NO, NO), row("lgetxattr", 192, 230, 9, 9),
    row("link", 86, 9, NO, NO), row("linkat", 265, 303, 37, 37), row("listen", 50, 363, 201, 201),
    row("listmount", 458, 458, 458, 458), row("listns", 470, 470, 470, 470), row("listxattr", 194, 232, 11, 11),
    row("listxattrat", 465, 465, 465, 465), row("llistxattr", 195, 233, 12, 12), row("lock", NO, 53, NO, NO),
    row("lookup_dcookie", 212, 253, 18, 18), row("lremovexattr", 198, 236, 15, 15), row("lseek", 8, 19, 62, 62),
    row("lsetxattr", 189, 227, 6, 6), row("lsm_get_self_attr", 459, 459, 459, 459),
    row("lsm_list_modules", 461, 461, 461, 461), row("lsm_set_self_attr", 460, 460, 460, 460),
    row("lstat", 6, 107, NO, NO), row("lstat64", NO, 196, NO, NO), row("madvise", 28, 219, 233, 233),
    row("map_shadow_stack", 453, 453, 453, 453), row("mbind", 237, 274, 235, 235),
    row("membarrier", 324, 375, 283, 283), row("memfd_create", 319, 356, 279, 279),
    row("memfd_secret", 447, 447, 447, 447), row("migrate_pages", 256, 294, 238, 238),
    row("mincore", 27, 218, 232, 232), row("mkdir", 83, 39, NO, NO), row("mkdirat", 258, 296, 34, 34),
    row("mknod", 133, 14, NO, NO), row("mknodat", 259, 297, 33, 33), row("mlock", 149, 150, 228, 228),
    row("mlock2", 325, 376, 284, 284), row("mlockall", 151, 152, 230, 230), row("mmap", 9, 90, 222, 222),
    row("mmap2", NO, 192, NO, NO), row("modify_ldt", 154, 123, NO, NO), row("mount", 165, 21, 40, 40),
    row("mount_setattr", 442, 442, 442, 442), row("move_mount", 429, 429, 429, 429),
    row("move_pages", 279, 317, 239, 239), row("mprotect", 10, 125, 226, 226), row("mpx", NO, 56, NO, NO),
    row("mq_getsetattr", 245, 282, 185, 185), row("mq_notify", 244, 281, 184, 184), row("mq_open", 240, 277, 180, 180),
    row("mq_timedreceive", 243, 280, 183, 183), row("mq_timedreceive_time64", NO, 419, NO, NO),
    row("mq_timedsend", 242, 279, 182, 182), row("mq_timedsend_time64", NO, 418, NO, NO),
    row("mq_unlink", 241, 278, 181, 181), row("mremap", 25, 163, 216, 216), row("mseal", 462, 462, 462, 462),
    row("msgctl", 71, 402, 187, 187), row("msgget", 68, 399, 186, 186), row("msgrcv", 70, 401, 188, 188),
    row("msgsnd", 69, 400, 189, 189), row("msync", 26, 144, 227, 227), row("munlock", 150, 151, 229, 229),
    row("munlockall", 152, 153, 231, 231), row("munmap", 11, 91, 215, 215),
    row("name_to_handle_at", 303, 341, 264, 264), row("nanosleep", 35, 162, 101, 101),
    row("newfstatat", 262, NO, 79, 79), row("nfsservctl", 180, 169, 42, 42), row("nice", NO, 34, NO, NO),
    row("oldfstat", NO, 28, NO, NO), row("oldlstat", NO, 84, NO, NO), row("oldolduname", NO, 59, NO, NO),
    row("oldstat", NO, 18, NO, NO), row("olduname", NO, 109, NO, NO), row("open", 2, 5, NO, NO),
    row("open_by_handle_at", 304, 342, 265, 265), row("open_tree", 428, 428, 428, 428),
    row("open_tree_attr", 467, 467, 467, 467), row("openat", 257, 295, 56, 56), row("openat2", 437, 437, 437, 437),
    row("pause", 34, 29, NO, NO), row("perf_event_open", 298, 336, 241, 241), row("personality", 135, 136, 92, 92),
    row("pidfd_getfd", 438, 438, 438, 438), row("pidfd_open", 434, 434, 434, 434),
    row("pidfd_send_signal", 424, 424, 424, 424), row("pipe", 22, 42, NO, NO), row("pipe2", 293, 331, 59, 59),
    row("pivot_root", 155, 217, 41, 41), row("pkey_alloc", 330, 381, 289, 289), row("pkey_free", 331, 382, 290, 290),
    row("pkey_mprotect", 329, 380, 288, 288), row("poll", 7, 168, NO, NO), row("ppoll", 271, 309, 73, 73),
    row("ppoll_time64", NO, 414, NO, NO), row("prctl", 157, 172, 167, 167), row("pread64", 17, 180, 67, 67),
    row("preadv", 295, 333, 69, 69), row("preadv2", 327, 378, 286, 286), row("prlimit64", 302, 340, 261, 261),
    row("process_madvise", 440, 440, 440, 440), row("process_mrelease", 448, 448, 448, 448),
    row("process_vm_readv", 310, 347, 270, 270), row("process_vm_writev", 311, 348, 271, 271),
    row("prof", NO, 44, NO, NO), row("profil", NO, 98, NO, NO), row("pselect6", 270, 308, 72, 72),
    row("pselect6_time64", NO, 413, NO, NO), row("ptrace", 101, 26, 117, 117), row("putpmsg", 182, 189, NO, NO),
    row("pwrite64", 18, 181, 68, 68), row("pwritev", 296, 334, 70, 70), row("pwritev2", 328, 379, 287, 287),
    row("query_module", 178, 167, NO, NO), row("quotactl", 179, 131, 60, 60), row("quotactl_fd", 443, 443, 443, 443),
    row("read", 0, 3, 63, 63), row("readahead", 187, 225, 213, 213), row("readdir", NO, 89, NO, NO),
    row("readlink", 89, 85, NO, NO), row("readlinkat", 267, 305, 78, 78), row("readv", 19, 145, 65, 65),
    row("reboot", 169, 88, 142, 142), row("recvfrom", 45, 371, 207, 207), row("recvmmsg", 299, 337, 243, 243),
    row("recvmmsg_time64", NO, 417, NO, NO), row("recvmsg", 47, 372, 212, 212),
    row("remap_file_pages", 216, 257, 234, 234), row("removexattr", 197, 235, 14, 14),
    row("removexattrat", 466, 466, 466, 466), row("rename", 82, 38, NO, NO), row("renameat", 264, 302, 38, NO),
    row("renameat2", 316, 353, 276, 276), row("request_key", 249, 287, 218, 218),
    row("restart_syscall", 219, 0, 128, 128), row("riscv_flush_icache", NO, NO, NO, 259),
    row("riscv_hwprobe", NO, NO, NO, 258), row("rmdir", 84, 40, NO, NO), row("rseq", 334, 386, 293, 293),
    row("rseq_slice_yield", 471, 471, 471, 471), row("rt_sigaction", 13, 174, 134, 134),
    row("rt_sigpending", 127, 176, 136, 136), row("rt_sigprocmask", 14, 175, 135, 135),
    row("rt_sigqueueinfo", 129, 178, 138, 138), row("rt_sigreturn", 15, 173, 139, 139),
    row("rt_sigsuspend", 130, 179, 133, 133), row("rt_sigtimedwait", 128, 177, 137, 137),
    row("rt_sigtimedwait_time64", NO, 421, NO, NO), row("rt_tgsigqueueinfo", 297, 335, 240, 240),
    row("sched_get_priority_max", 146, 159, 125, 125), row("sched_get_priority_min", 147, 160, 126, 126),
    row("sched_getaffinity", 204, 242, 123, 123), row("sched_getattr", 315, 352, 275, 275),
    row("sched_getparam", 143, 155, 121, 121), row("sched_getscheduler", 145, 157, 120, 120),
    row("sched_rr_get_interval", 148, 161, 127, 127), row("sched_rr_get_interval_time64", NO, 423, NO, NO),
    row("sched_setaffinity", 203, 241, 122, 122), row("sched_setattr", 314, 351, 274, 274),
    row("sched_setparam", 142, 154, 118, 118), row("sched_setscheduler", 144, 156, 119, 119),
    row("sched_yield", 24, 158, 124, 124), row("seccomp", 317, 354, 277, 277), row("security", 185, NO, NO, NO),
    row("select", 23, 82, NO, NO), row("semctl", 66, 394, 191, 191), row("semget", 64, 393, 190, 190),
    row("semop", 65, NO, 193, 193), row("semtimedop", 220, NO, 192, 192), row("semtimedop_time64", NO, 420, NO, NO),
    row("sendfile", 40, 187, 71, 71), row("sendfile64", NO, 239, NO, NO), row("sendmmsg", 307, 345, 269, 269),
    row("sendmsg", 46, 370, 211, 211), row("sendto", 44, 369, 206, 206), row("set_mempolicy", 238, 276, 237, 237),
    row("set_mempolicy_home_node", 450, 450, 450, 450), row("set_robust_list", 273, 311, 99, 99),
    row("set_thread_area", 205, 243, NO, NO), row("set_tid_address", 218, 258, 96, 96),
    row("setdomainname", 171, 121, 162, 162), row("setfsgid", 123, 139, 152, 152), row("setfsgid32", NO, 216, NO, NO),
    row("setfsuid", 122, 138, 151, 151), row("setfsuid32", NO, 215, NO, NO), row("setgid", 106, 46, 144, 144),
    row("setgid32", NO, 214, NO, NO), row("setgroups", 116, 81, 159, 159), row("setgroups32", NO, 206, NO, NO),
    row("sethostname", 170, 74, 161, 161), row("setitimer", 38, 104, 103, 103), row("setns", 308, 346, 268, 268),
    row("setpgid", 109, 57, 154, 154), row("setpriority", 141, 97, 140, 140), row("setregid", 114, 71, 143, 143),
    row("setregid32", NO, 204, NO, NO), row("setresgid", 119, 170, 149, 149), row("setresgid32", NO, 210, NO, NO),
    row("setresuid", 117, 164, 147, 147), row("setresuid32", NO, 208, NO, NO), row("setreuid", 113, 70, 145, 145),
    row("setreuid32", NO, 203, NO, NO), row("setrlimit", 160, 75, 164, 164), row("setsid", 112, 66, 157, 157),
    row("setsockopt", 54, 366, 208, 208), row("settimeofday", 164, 79, 170, 170), row("setuid", 105, 23, 146, 146),
    row("setuid32", NO, 213, NO, NO), row("setxattr", 188, 226, 5, 5), row("setxattrat", 463, 463, 463, 463),
    row("sgetmask", NO, 68, NO, NO), row("shmat", 30, 397, 196, 196), row("shmctl", 31, 396, 195, 195),
    row("shmdt", 67, 398, 197, 197), row("shmget", 29, 395, 194, 194), row("shutdown", 48, 373, 210, 210),
    row("sigaction", NO, 67, NO, NO), row("sigaltstack", 131, 186, 132, 132), row("signal", NO, 48, NO, NO),
    row("signalfd", 282, 321, NO, NO), row("signalfd4", 289, 327, 74, 74), row("sigpending", NO, 73, NO, NO),
    row("sigprocmask", NO, 126, NO, NO), row("sigreturn", NO, 119, NO, NO), row("sigsuspend", NO, 72, NO, NO),
    row("socket", 41, 359, 198, 198), row("socketcall", NO, 102, NO, NO), row("socketpair", 53, 360, 199, 199),
    row("splice", 275, 313, 76, 76), row("ssetmask", NO, 69, NO, NO), row("stat", 4, 106, NO, NO),
    row("stat64", NO, 195, NO, NO), row("statfs", 137, 99, 43, 43), row("statfs64", NO, 268, NO, NO),
    row("statmount", 457, 457, 457, 457), row("statx", 332, 383, 291, 291), row("stime", NO, 25, NO, NO),
    row("stty", NO, 31, NO, NO), row("swapoff", 168, 115, 225, 225), row("swapon", 167, 87, 224, 224),
    row("symlink", 88, 83, NO, NO), row("symlinkat", 266, 304, 36, 36), row("sync", 162, 36, 81, 81),
    row("sync_file_range", 277, 314, 84, 84), row("syncfs", 306, 344, 267, 267), row("sysfs", 139, 135, NO, NO),
    row("sysinfo", 99, 116, 179, 179), row("syslog", 103, 103, 116, 116), row("tee", 276, 315, 77, 77),
    row("tgkill", 234, 270, 131, 131), row("time", 201, 13, NO, NO), row("timer_create", 222, 259, 107, 107),
    row("timer_delete", 226, 263, 111, 111), row("timer_getoverrun", 225, 262, 109, 109),
    row("timer_gettime", 224, 261, 108, 108), row("timer_gettime64", NO, 408, NO, NO),
    row("timer_settime", 223, 260, 110, 110), row("timer_settime64", NO, 409, NO, NO),
    row("timerfd_create", 283, 322, 85, 85), row("timerfd_gettime", 287, 326, 87, 87),
    row("timerfd_gettime64", NO, 410, NO, NO), row("timerfd_settime", 286, 325, 86, 86),
    row("timerfd_settime64", NO, 411, NO, NO), row("times", 100, 43, 153, 153), row("tkill", 200, 238, 130, 130),
    row("truncate", 76, 92, 45, 45), row("truncate64", NO, 193, NO, NO), row("tuxcall", 184, NO, NO, NO),
    row("ugetrlimit", NO, 191, NO, NO), row("ulimit", NO, 58, NO, NO), row("umask", 95, 60, 166, 166),
    row("umount", NO, 22, NO, NO), row("umount2", 166, 52, 39, 39), row("uname", 63, 122, 160, 160),
    row("unlink", 87, 10, NO, NO), row("unlinkat", 263, 301, 35, 35), row("unshare", 272, 310, 97, 97),
    row("uprobe", 336, NO, NO, NO), row("uretprobe", 335, NO, NO, NO), row("uselib", 134, 86, NO, NO),
    row("userfaultfd", 323, 374, 282, 282), row("ustat", 136, 62, NO, NO), row("utime", 132, 30, NO, NO),
    row("utimensat", 280, 320, 88, 88), row("utimensat_time64", NO, 412, NO, NO), row("utimes", 235, 271, NO, NO),
    row("vfork", 58, 190, NO, NO), row("vhangup", 153, 111, 58, 58), row("vm86", NO, 166, NO, NO),
    row("vm86old", NO, 113, NO, NO), row("vmsplice", 278, 316, 75, 75), row("vserver", 236, 273, NO, NO),
    row("wait4", 61, 114, 260, 260), row("waitid", 247, 284, 95, 95), row("waitpid", NO, 7, NO, NO),
    row("write", 1, 4, 64, 64), row("writev", 20, 146, 66, 66),
];
