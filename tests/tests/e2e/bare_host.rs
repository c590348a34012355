//! Root of a container in the default profile, on a host that is nobody's container: what it tries to reach the host.
//!
//! Each attempt is made by a command of a running container and by one that is PID 1 itself. An attempt that would harm
//! the machine if it succeeded is made harmless: a setting is opened and not written, a system call gets arguments that
//! the kernel refuses after it has looked at the caller's rights, a mode is changed to what it is.

use std::fs;
use std::path::Path;

use tests::{Rootfs, World, bare_host, write_file};

/// What root inside says to a script: as PID 1, and beside a PID 1 of ours. Both of standard output and error.
fn told(world: &World, script: &str) -> [String; 2] {
    let script = format!("exec 2>&1\n{script}");
    let root = world.create();
    let first = world.launch_run(&root).sh(&script).done().out_text();
    let (other, _leader) = world.idle();
    let second = world.exec(&other).sh(&script).done().out_text();
    [first, second]
}

/// Every line of what is told ends with one of these.
pub(crate) fn all_refused(world: &World, script: &str, lines: usize, reasons: &[&str]) {
    for text in told(world, script) {
        let refused = |line: &&str| reasons.iter().any(|reason| line.ends_with(reason));
        let wrong: Vec<&str> = text.lines().filter(|line| !refused(line)).collect();
        assert!(wrong.is_empty(), "not refused: {wrong:#?}\nof {text}");
        assert_eq!(text.lines().count(), lines, "{text}");
    }
}

#[test]
fn the_container_is_confined_without_being_asked() {
    let Some(world) = bare_host() else { return };
    let wanted = [
        "CapBnd:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "Seccomp:\t2",
    ];
    for text in told(
        &world,
        "grep -E 'CapBnd|CapEff|Seccomp:' /proc/self/status | sort",
    ) {
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn no_setting_of_the_kernel_can_be_written() {
    let Some(world) = bare_host() else { return };
    let settings = [
        "sys/kernel/core_pattern",
        "sys/kernel/modprobe",
        "sys/kernel/poweroff_cmd",
        "sys/kernel/usermodehelper/bset",
        "sys/vm/drop_caches",
        "sys/net/ipv4/ip_forward",
        "sys/fs/suid_dumpable",
        "sysrq-trigger",
        "irq/default_smp_affinity",
    ];
    // Kernels are built without some of them.
    let there = settings.map(|name| format!("/proc/{name}"));
    let there: Vec<String> = there
        .into_iter()
        .filter(|file| Path::new(file).exists())
        .collect();
    assert!(there.len() > 4, "{there:?}");
    let script = format!("for f in {}; do (exec 3>> $f); done", there.join(" "));
    all_refused(&world, &script, there.len(), &[": Read-only file system"]);
}

/// Nothing that somebody has overlooked: every file outside the directories of processes that its mode lets its owner
/// write. (The rest of them has no write operation.)
#[test]
fn of_all_files_in_proc_only_harmless_ones_can_be_written() {
    let Some(world) = bare_host() else { return };
    let script = "find /proc /proc/self/net/ -path '/proc/[0-9]*' -prune -o -type f -perm /222 -print | \
                  while read f; do (exec 3>> $f) 2>/dev/null && echo $f; done; echo end";
    // MTRRs ask for CAP_SYS_ADMIN over the machine at each write, and pressure triggers only wake their writer.
    let harmless = [
        "/proc/mtrr",
        "/proc/pressure/cpu",
        "/proc/pressure/io",
        "/proc/pressure/irq",
        "/proc/pressure/memory",
    ];
    for text in told(&world, script) {
        let (end, files) = text
            .lines()
            .collect::<Vec<_>>()
            .split_last()
            .map(|(end, files)| (*end, files.to_vec()))
            .expect("text");
        assert_eq!(end, "end");
        let wrong: Vec<_> = files
            .iter()
            .filter(|file| !harmless.contains(*file))
            .collect();
        assert!(
            wrong.is_empty(),
            "root inside opens for writing: {wrong:#?}"
        );
    }
}

#[test]
fn nothing_can_be_mounted_unmounted_or_remounted() {
    let Some(world) = bare_host() else { return };
    let script = "mount -t tmpfs none /mnt; mount -t proc none /mnt; mount -t sysfs none /mnt; mount -t cgroup2 none /mnt; \
                  mount --bind / /mnt; mount -o remount,rw,bind /proc/sys; mount -o remount,rw /proc; \
                  umount /proc/sys; umount -l /proc; umount /proc/keys; mount --make-rshared /; pivot_root / /mnt";
    let reasons = [
        "are you root?)",
        ": Operation not permitted",
        ": Permission denied",
    ];
    all_refused(&world, script, 12, &reasons);
}

#[test]
fn no_namespace_can_be_made_or_joined() {
    let Some(world) = bare_host() else { return };
    let script = "for n in -m -u -i -n -p -U; do unshare $n true; done; nsenter -t 1 -m true";
    let reasons = [": Operation not permitted", ": Permission denied"];
    all_refused(&world, script, 7, &reasons);
}

/// Without the filter of system calls a user namespace can be made, and root in there has every capability over it. The
/// kernel locks what covers and protects (mount_namespaces(7)), so it is as far away as before.
#[test]
fn a_user_namespace_inside_uncovers_nothing() {
    let Some(world) = bare_host() else { return };
    let root = world.create();
    let run = world.launch_run(&root).opt("--seccomp=unconfined");
    let _leader = tests::Launch::start(run, &root);
    for user in ["root", "app"] {
        let attempt = "exec 2>&1; id -u; for f in /proc/keys /proc/sys /proc; do umount $f; umount -l $f; done; \
                       mount -t proc none /mnt; mount -o remount,rw,bind /proc/sys; mount --bind /proc /mnt; \
                       (exec 3>> /proc/sys/kernel/core_pattern)";
        let line = format!("unshare -U -r -m sh -c '{attempt}'");
        let text = world
            .exec(&root)
            .opt(format!("--user={user}"))
            .sh(&line)
            .done()
            .out_text();
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("0"),
            "no user namespace was made: {text}"
        );
        let refused = |line: &&str| {
            let reasons = [
                "Invalid argument",
                "Operation not permitted",
                "are you root?)",
                "Permission denied",
                "Read-only file system",
            ];
            reasons.iter().any(|reason| line.ends_with(reason))
        };
        let wrong: Vec<_> = lines.filter(|line| !refused(line)).collect();
        assert!(wrong.is_empty(), "{user}: {wrong:#?}");
        assert_eq!(text.lines().count(), 11, "{user}: {text}");
    }
}

#[test]
fn processes_of_the_host_are_not_there() {
    let Some(world) = bare_host() else { return };
    let own = std::process::id();
    let script = format!(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done; kill -0 {own}; ls -d /proc/{own}"
    );
    for text in told(&world, &script) {
        assert!(
            text.contains("No such process") && text.contains("No such file"),
            "{text}"
        );
        // The shell, and where the command is not PID 1 itself: PID 1 and the attendant.
        let commands = text
            .lines()
            .filter(|line| line.starts_with("init") || line.starts_with("sh -c"));
        assert!(matches!(commands.count(), 1 | 3), "{text}");
        assert!(!text.contains("start-container"), "{text}");
    }
}

/// What ptrace(2) asks for is asked for by these files too.
#[test]
fn neither_pid_1_nor_the_attendant_can_be_looked_into() {
    let Some(world) = bare_host() else { return };
    let (root, _leader) = world.idle();
    let script = "exec 2>&1; for p in /proc/[0-9]*; do [ $(cat $p/comm) = init ] || continue; echo seen; \
                  for f in mem auxv environ maps; do (exec 3< $p/$f && head -c 1 $p/$f); done; \
                  readlink -v $p/exe; readlink -v $p/root; readlink -v $p/cwd; readlink -v $p/fd/0; \
                  (exec 3>> $p/mem); done";
    let text = world.exec(&root).sh(script).done().out_text();
    assert_eq!(
        text.matches("seen").count(),
        2,
        "PID 1 and the attendant: {text}"
    );
    let refused = |line: &&str| {
        ["Permission denied", "Operation not permitted"]
            .iter()
            .any(|reason| line.ends_with(reason))
    };
    let wrong: Vec<_> = text
        .lines()
        .filter(|line| *line != "seen" && !refused(line))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(text.lines().count(), 2 * 10, "{text}");
}

#[test]
fn the_hosts_names_and_its_network_cannot_be_changed() {
    let Some(world) = bare_host() else { return };
    // To what they are.
    let script =
        "hostname $(hostname); ip addr add 127.0.0.1/8 dev lo; ping -c 1 127.0.0.1 | grep -v PING";
    let reasons = [": Operation not permitted", "are you root?)"];
    all_refused(&world, script, 3, &reasons);
}

/// System calls that ask for a capability over the machine, with arguments that none of them does anything with.
#[cfg(target_arch = "x86_64")]
#[test]
fn system_calls_that_reach_the_machine_are_refused() {
    use nix::libc::{ENOSYS, EPERM, ESRCH};
    use tests::probe::{Door, write};
    const BAD: u64 = u64::MAX;
    /// Either, since a kernel may be built without them.
    const ABSENT: &[i32] = &[EPERM, ENOSYS];
    let Some(world) = bare_host() else { return };
    let (root, _leader) = world.idle();
    let own = u64::from(std::process::id());
    let calls: [(&str, u32, &[u64], &[i32]); 30] = [
        ("init_module", 175, &[0, 0, 0], ABSENT),
        ("finit_module", 313, &[BAD, 0, 0], ABSENT),
        ("delete_module", 176, &[0, 0], ABSENT),
        ("kexec_load", 246, &[0, 0, 0, 0xdead], ABSENT),
        ("kexec_file_load", 320, &[BAD, BAD, 0, 0, 0xdead], ABSENT),
        ("reboot", 169, &[0, 0, 0, 0], &[EPERM]),
        ("iopl", 172, &[3], ABSENT),
        ("ioperm", 173, &[0, 1, 1], ABSENT),
        ("swapon", 167, &[0, 0], ABSENT),
        ("swapoff", 168, &[0], ABSENT),
        ("acct", 163, &[1], ABSENT),
        ("clock_settime", 227, &[0, 0], &[EPERM]),
        ("bpf", 321, &[0, 0, 0], ABSENT),
        ("perf_event_open", 298, &[0, 0, 0, BAD, 0], ABSENT),
        ("userfaultfd", 323, &[0xdead], ABSENT),
        ("keyctl", 250, &[0, 0, 0], ABSENT),
        ("add_key", 248, &[0, 0, 0, 0, 0], ABSENT),
        ("request_key", 249, &[0, 0, 0, 0], ABSENT),
        ("open_by_handle_at", 304, &[BAD, 0, 0], &[EPERM]),
        ("mount", 165, &[0, 0, 0, 0, 0], &[EPERM]),
        ("umount2", 166, &[0, 0], &[EPERM]),
        ("pivot_root", 155, &[0, 0], &[EPERM]),
        ("open_tree", 428, &[BAD, 0, 1], &[EPERM]),
        ("move_mount", 429, &[BAD, 0, BAD, 0, 0], &[EPERM]),
        ("fsopen", 430, &[0, 0], &[EPERM]),
        ("mount_setattr", 442, &[BAD, 0, 0, 0, 0], &[EPERM]),
        ("setns", 308, &[BAD, 0], &[EPERM]),
        ("unshare", 272, &[0x1000_0000], &[EPERM]),
        ("ptrace(PTRACE_SEIZE, 1)", 101, &[0x4206, 1, 0, 0], &[EPERM]),
        (
            "ptrace(PTRACE_SEIZE, of the host)",
            101,
            &[0x4206, own, 0, 0],
            &[ESRCH, EPERM],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, number, args, expected) in calls {
        let path = root.join("probe");
        let _ = fs::remove_file(&path);
        write(&path, Door::Syscall, number, args);
        let code = world.exec(&root).cmd(["/probe"]).done().code();
        if !expected.iter().any(|errno| code == Some(*errno)) {
            wrong.push(format!("{name}: errno {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "not refused: {wrong:#?}");
}

/// The classic: a directory outside of a second root is kept as the working directory.
#[test]
fn a_chroot_of_its_own_is_no_way_out() {
    let Some(world) = bare_host() else { return };
    let (root, _leader) = world.idle();
    place_guest(&root);
    write_file(root.join("marker"), "inside\n");
    write_file(world.dir.join("marker"), "outside\n");
    let text = world
        .exec(&root)
        .cmd(["/bin/guest", "leave-chroot", "/tmp/cage", "/marker"])
        .text();
    assert_eq!(text, "inside");
}

fn place_guest(root: &Rootfs) {
    fs::copy(env!("CARGO_BIN_EXE_guest"), root.join("bin/guest")).expect("copy");
}
