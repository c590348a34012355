//! FIELD S16, S28 and B21: which system calls reach the kernel from a container, by whichever door.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::path::PathBuf;

use nix::libc;
use tests::probe::{self, Door, X32};
use tests::{Done, Launch, Rootfs, Run, Snapshot, World, write_file};

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;
const EBADF: i32 = libc::EBADF;

// Numbers of x86_64 and of i386.
const GETPID: u32 = 39;
const MOUNT: u32 = 165;
const ADD_KEY: u32 = 248;
const IOCTL: u32 = 16;
const CLONE3: u32 = 435;
const GETPID_32: u32 = 20;
const MOUNT_32: u32 = 21;
const IOCTL_32: u32 = 54;
const ADD_KEY_32: u32 = 286;

/// Descriptor -1: an ioctl that is let through says EBADF.
const NONE: u64 = u64::MAX;
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
const HIGH: u64 = 1 << 32;

/// A container with these options.
fn launch(world: &World, options: &[&str]) -> (Rootfs, Launch) {
    let root = world.create();
    let leader = Launch::start(world.launch_run(&root).opts(options), &root);
    (root, leader)
}

/// An exec that makes one call and ends with its errno.
fn call(world: &World, root: &Rootfs, door: Door, number: u32, args: &[u64]) -> Run {
    let name = format!("/probe-{door:?}-{number:x}-{args:x?}").replace([' ', ','], "_");
    probe::write(root.join(&name), door, number, args);
    world.exec(root).cmd([name])
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let text = line.unwrap_or_else(|| panic!("no {name} in {status}"));
    text.trim_start_matches(':').trim().parse().expect("number")
}

fn profile(world: &World, text: &str) -> PathBuf {
    let path = world.dir.join("profile.json");
    write_file(&path, text);
    path
}

#[test]
fn the_built_in_filter_answers_at_every_door() {
    let Some(world) = World::new() else { return };
    for options in [
        &["--profile=confined"][..],
        &[
            "--profile=outer",
            "--seccomp=default",
            "--cap-drop=SYS_ADMIN",
        ],
    ] {
        at_every_door(&world, options);
    }
}

fn at_every_door(world: &World, options: &[&str]) {
    let (root, _leader) = launch(world, options);
    for (door, number, args, expected) in [
        (Door::Syscall, GETPID, &[][..], 0),
        (Door::Syscall, 4095, &[], ENOSYS),
        (Door::Syscall, MOUNT, &[], EPERM),
        (Door::Syscall, ADD_KEY, &[], EPERM),
        (Door::Syscall, CLONE3, &[], ENOSYS),
        (Door::Syscall, IOCTL, &[NONE, TIOCSTI + 1], EBADF),
        (Door::Syscall, IOCTL, &[NONE, TIOCSTI], EPERM),
        (Door::Syscall, IOCTL, &[NONE, HIGH | TIOCSTI], EPERM),
        (Door::Syscall, IOCTL, &[NONE, HIGH | TIOCLINUX], EPERM),
        (Door::Syscall, X32 | GETPID, &[], ENOSYS),
        (Door::Int80, GETPID_32, &[], 0),
        (Door::Int80, MOUNT_32, &[], EPERM),
        (Door::Int80, ADD_KEY_32, &[], EPERM),
        (Door::Int80, IOCTL_32, &[NONE, TIOCSTI], EPERM),
        (Door::Int80, 4095, &[], ENOSYS),
    ] {
        call(world, &root, door, number, args)
            .done()
            .expect_code(expected);
    }
}

#[test]
fn every_command_has_the_filter_and_a_user_without_privileges_too() {
    let Some(world) = World::new() else { return };
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let (root, _leader) = launch(&world, &["--profile=confined"]);
    let shown = |user: &str| {
        let run = world.exec(&root).opt(format!("--user={user}"));
        run.cmd(["cat", "/proc/self/status"]).text()
    };
    for status in [shown("root"), shown("app")] {
        assert_eq!(field(&status, "Seccomp"), 2, "{status}");
        let more = field(&status, "Seccomp_filters") - field(&own, "Seccomp_filters");
        assert_eq!(more, 1, "one program, once: {status}");
    }
    call(&world, &root, Door::Syscall, ADD_KEY, &[])
        .opt("--user=app")
        .done()
        .expect_code(EPERM);
}

#[test]
fn unconfined_means_no_filter() {
    let Some(world) = World::new() else { return };
    let own = fs::read_to_string("/proc/self/status").expect("status");
    let (root, _leader) = launch(&world, &["--profile=confined", "--seccomp=unconfined"]);
    let status = world.exec(&root).cmd(["cat", "/proc/self/status"]).text();
    assert_eq!(field(&status, "Seccomp"), field(&own, "Seccomp"));
    // Without a name for the key the kernel itself says EFAULT.
    call(&world, &root, Door::Syscall, ADD_KEY, &[])
        .done()
        .expect_code(libc::EFAULT);
}

#[test]
fn a_capability_opens_its_calls() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = launch(&world, &["--profile=confined", "--cap-add=SYS_ADMIN"]);
    // mount(NULL, NULL, …) past the filter.
    call(&world, &root, Door::Syscall, MOUNT, &[])
        .done()
        .expect_code(libc::EFAULT);
    call(&world, &root, Door::Syscall, ADD_KEY, &[])
        .done()
        .expect_code(EPERM);
}

#[test]
fn a_profile_file_is_obeyed() {
    let Some(world) = World::new() else { return };
    let path = profile(
        &world,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": ["add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
            {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78,
             "args": [{"index": 1, "value": 4660, "op": "SCMP_CMP_EQ"}]},
            {"names": ["keyctl"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
    );
    let option = format!("--seccomp={}", path.display());
    let (root, _leader) = launch(&world, &["--profile=none", &option]);
    let end =
        |door, number, args: &[u64]| -> Done { call(&world, &root, door, number, args).done() };
    end(Door::Syscall, ADD_KEY, &[]).expect_code(77);
    end(Door::Syscall, IOCTL, &[NONE, 4660]).expect_code(78);
    end(Door::Syscall, IOCTL, &[NONE, 4661]).expect_code(EBADF);
    end(Door::Syscall, GETPID, &[]).expect_code(0);
    // keyctl; and i386, which the profile does not list.
    for (door, number) in [(Door::Syscall, 250), (Door::Int80, GETPID_32)] {
        assert_eq!(
            end(door, number, &[]).signal(),
            Some(libc::SIGSYS),
            "{door:?}"
        );
    }
}

#[test]
fn bad_profiles_are_refused_before_anything_exists() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let path = profile(&world, "");
    let before = Snapshot::of(&world);
    for (text, words) in [
        ("not json", &["line 1"][..]),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mout"], "action": "SCMP_ACT_ERRNO"}]}"#,
            &["syscalls[0]", "mout", "did you mean mount?"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
            &["(defaultAction): execve is refused"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount", "execve"], "action": "SCMP_ACT_ERRNO"}]}"#,
            &["(syscalls[0]): execve is refused"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            &["syscalls[0]", "not supported"],
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}"#,
            &["sycalls"],
        ),
    ] {
        write_file(&path, text);
        let option = format!("--seccomp={}", path.display());
        let done = world.launch_run(&root).opt(option).done();
        done.expect_refused(&[125]);
        for word in words {
            assert!(
                done.err_text().contains(word),
                "{word:?}: {}",
                done.err_text()
            );
        }
    }
    for file in [world.dir.join("missing.json"), world.dir.clone()] {
        let option = format!("--seccomp={}", file.display());
        let done = world.launch_run(&root).opt(option).done();
        done.expect_refused(&[125]);
    }
    before.assert_same(&world);
}
