//! FIELD S12 and S28 without root: what profiles take from an ordinary user's container, and that joining it takes no
//! privilege at all.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::libc::{EBADF, EFAULT, ENOSYS, EPERM};
use nix::sys::signal::Signal;
use tests::probe::{self, Door, X32};
use tests::{Run, tool};

use crate::capabilities::{ALL, USUAL, sets_of};
use crate::rootless::User;

/// A profile, the most capabilities of a process, whether no_new_privs is set, and whether there is a filter.
const PROFILES: [(&str, u64, u64, bool); 5] = [
    ("confined", USUAL, 0, true),
    ("hardened", 0, 1, true),
    ("outer", ALL, 0, false),
    ("none", ALL, 0, false),
    ("outer --seccomp=default", ALL, 0, true),
];

const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
const HIGH: u64 = 1 << 32;
/// Descriptor -1: an ioctl that is let through says EBADF.
const NONE: u64 = u64::MAX;

/// A call at a door, its arguments, and the errno with the filter and without it. That of getpid by its number of x32
/// without a filter is the kernel's affair.
type Call = (Door, u32, &'static [u64], i32, Option<i32>);

/// add_key, ioctl, a number that no kernel has, getpid; and those of i386.
const CALLS: [Call; 9] = [
    (Door::Syscall, 248, &[], EPERM, Some(EFAULT)),
    (Door::Syscall, 16, &[NONE, TIOCSTI], EPERM, Some(EBADF)),
    (
        Door::Syscall,
        16,
        &[NONE, HIGH | TIOCSTI],
        EPERM,
        Some(EBADF),
    ),
    (Door::Syscall, 16, &[NONE, TIOCLINUX], EPERM, Some(EBADF)),
    (
        Door::Syscall,
        16,
        &[NONE, HIGH | TIOCLINUX],
        EPERM,
        Some(EBADF),
    ),
    (Door::Syscall, 4095, &[], ENOSYS, Some(ENOSYS)),
    (Door::Syscall, X32 | 39, &[], ENOSYS, None),
    (Door::Int80, 286, &[], EPERM, Some(EFAULT)),
    (Door::Int80, 54, &[NONE, TIOCSTI], EPERM, Some(EBADF)),
];

fn has_sets(case: &str, run: Run, expected: [u64; 6]) {
    let status = run.cmd(["cat", "/proc/self/status"]).text();
    assert_eq!(sets_of(&status), expected, "{case}: {status}");
}

/// The programs that make the calls, in the user's volume.
fn place_calls(user: &User) {
    let volume = user.base().join("volumes/main");
    fs::create_dir_all(&volume).expect("volume");
    for (number, (door, call, args, ..)) in CALLS.into_iter().enumerate() {
        probe::write(volume.join(number.to_string()), door, call, args);
    }
    for place in [&volume, &user.base().join("volumes")] {
        chown(place, Some(user.uid), Some(user.uid)).expect("chown");
    }
}

fn confines(user: &User, users: &[&str]) {
    let _ = user.import();
    place_calls(user);
    for (profile, limit, no_new, filtered) in PROFILES {
        let root = user.create();
        let launch = || {
            user.launch(&root)
                .opts(format!("--profile={profile}").split(' '))
                .opt("--mount=type=volume,src=main,dst=/calls")
        };
        let as_root = [0, limit, limit, limit, 0, no_new];
        let as_other = [0, 0, 0, limit, 0, no_new];
        has_sets(&format!("{profile}, PID 1"), launch(), as_root);
        has_sets(
            &format!("{profile}, below init"),
            launch().opt("--init"),
            as_root,
        );
        let leader = launch().spawn();
        has_sets(&format!("{profile}, exec"), user.exec(&root), as_root);
        for name in users {
            let run = user.exec(&root).opt(format!("--user={name}"));
            has_sets(&format!("{profile}, exec as {name}"), run, as_other);
        }
        for (number, (door, call, args, with, without)) in CALLS.into_iter().enumerate() {
            let Some(expected) = (if filtered { Some(with) } else { without }) else {
                continue;
            };
            let code = user
                .exec(&root)
                .cmd([format!("/calls/{number}")])
                .done()
                .code();
            assert_eq!(code, Some(expected), "{profile}: {door:?} {call} {args:x?}");
        }
        leader.signal(Signal::SIGTERM);
        leader.finish().expect_code(0);
        user.destroy(&root);
    }
    user.assert_nothing_left();
}

#[test]
fn profiles_hold_with_granted_ids() {
    let Some(user) = User::granted() else { return };
    confines(&user, &["app"]);
}

#[test]
fn profiles_hold_with_one_id() {
    let Some(user) = User::single() else { return };
    confines(&user, &[]);
}

/// Neither newuidmap nor anything else with more rights than the user has.
#[test]
fn joining_needs_no_privilege() {
    let Some(user) = User::granted() else { return };
    let _ = user.import();
    let root = user.create();
    let leader = user.launch(&root).spawn();
    let _ = user.exec(&root).cmd(["true"]).text();
    for program in ["newuidmap", "newgidmap"] {
        let hide = Run::new(tool("mount")).wrap(user.wrap(0));
        let _ = hide
            .cmd([Path::new("--bind"), Path::new("/dev/null"), &tool(program)])
            .text();
    }
    let mut words = user.wrap(user.uid);
    words.extend(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"].map(str::to_owned));
    let binary = tests::binary();
    for (name, expected) in [("root", "0"), ("app", "1000")] {
        let exec = Run::new(binary)
            .verb(["subcontainer", "exec", "--env=PATH=/bin"])
            .opt(format!("--user={name}"))
            .rootfs(&root)
            .wrap(&words);
        assert_eq!(exec.cmd(["id", "-u"]).text(), expected);
    }
    leader.signal(Signal::SIGTERM);
    leader.finish().expect_code(0);
    user.destroy(&root);
    user.assert_nothing_left();
}
