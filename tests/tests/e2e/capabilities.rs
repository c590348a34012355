//! FIELD S12: the five sets of every process of a container, as a golden table: who, launched or joined, with and
//! without no_new_privs. Inheritable and ambient ones are empty everywhere.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use tests::{Launch, Run, World, tool};

/// All that Linux 5.9 to 6.18 has.
pub(crate) const ALL: u64 = 0x1ff_ffff_ffff;
/// The usual 14.
pub(crate) const USUAL: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const KILL: u64 = 1 << 5;
const MKNOD: u64 = 1 << 27;

/// Words of launch, and the most that a process of that container may have; whether no_new_privs is set.
const TABLE: &[(&[&str], u64, bool)] = &[
    (&["--profile=none"], ALL, false),
    (&["--profile=outer"], ALL, false),
    (&["--profile=outer", "--no-new-privileges"], ALL, true),
    (&["--profile=outer", "--cap-drop=ALL"], 0, false),
    (
        &["--profile=none", "--cap-drop=net_admin,CAP_KILL"],
        ALL - NET_ADMIN - KILL,
        false,
    ),
    (&["--profile=confined"], USUAL, false),
    (&["--profile=confined", "--no-new-privileges"], USUAL, true),
    (
        &[
            "--profile=confined",
            "--cap-add=NET_ADMIN",
            "--cap-drop=mknod",
        ],
        USUAL + NET_ADMIN - MKNOD,
        false,
    ),
    (&["--profile=confined", "--cap=ALL"], ALL, false),
    (&["--profile=confined", "--cap=kill"], KILL, false),
    (&["--profile=hardened"], 0, true),
    (&["--profile=hardened", "--cap-add=kill"], KILL, true),
];

fn kernel_has_all() -> bool {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("cap_last_cap");
    ALL == u64::MAX >> (63 - last.trim().parse::<u32>().expect("a number"))
}

/// CapInh, CapPrm, CapEff, CapBnd, CapAmb and NoNewPrivs of `cat`.
fn sets(run: Run) -> [u64; 6] {
    let status = run.cmd(["cat", "/proc/self/status"]).text();
    sets_of(&status)
}

pub(crate) fn sets_of(status: &str) -> [u64; 6] {
    [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
    ]
    .map(|name| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
            .unwrap_or_else(|| panic!("no {name} in {status}"));
        u64::from_str_radix(line, 16).expect("hexadecimal")
    })
}

#[test]
fn the_sets_of_every_process_are_the_golden_table() {
    let Some(world) = World::new() else { return };
    assert!(
        kernel_has_all(),
        "a kernel with other capabilities: extend ALL"
    );
    for (words, limit, no_new) in TABLE {
        let no_new = u64::from(*no_new);
        let as_root = [0, *limit, *limit, *limit, 0, no_new];
        let as_user = [0, 0, 0, *limit, 0, no_new];
        let root = world.create();
        let launch = || {
            world
                .launch_run(&root)
                .opt("--userns=identity")
                .opts(*words)
        };
        assert_eq!(sets(launch()), as_root, "PID 1 {words:?}");
        assert_eq!(
            sets(launch().opt("--user=app")),
            as_user,
            "PID 1 as app {words:?}"
        );
        assert_eq!(
            sets(launch().opt("--init")),
            as_root,
            "below init {words:?}"
        );
        let leader = Launch::start(launch(), &root);
        assert_eq!(sets(world.exec(&root)), as_root, "exec {words:?}");
        assert_eq!(
            sets(world.exec(&root).opt("--user=app")),
            as_user,
            "exec as app {words:?}"
        );
        assert_eq!(
            sets(world.exec(&root).opt("--force-tty")),
            as_root,
            "exec on a terminal {words:?}"
        );
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn pid_1_has_no_more_than_its_container() {
    let Some(world) = World::new() else { return };
    for (words, limit, no_new) in TABLE {
        let root = world.create();
        let run = world
            .launch_run(&root)
            .opt("--userns=identity")
            .opts(*words);
        let leader = Launch::start(run, &root);
        tests::until("PID 1 to be init", || {
            (root.cmdline(1) == "init").then_some(())
        });
        let status = fs::read_to_string(root.join("proc/1/status")).expect("status");
        let [
            inheritable,
            permitted,
            effective,
            bounding,
            ambient,
            no_new_privs,
        ] = sets_of(&status);
        assert_eq!((inheritable, ambient), (0, 0), "{words:?}");
        assert_eq!(
            (bounding, no_new_privs),
            (*limit, u64::from(*no_new)),
            "{words:?}"
        );
        // To end what is below it, whoever that belongs to, init keeps this one in any case.
        assert_eq!(permitted & !(limit | KILL), 0, "{words:?}: {permitted:x}");
        assert_eq!(effective & !permitted, 0, "{words:?}: {effective:x}");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn a_set_user_id_program_gives_what_the_container_has_and_nothing_with_no_new_privileges() {
    let Some(world) = World::new() else { return };
    for (words, limit, euid) in [
        (&["--profile=confined"][..], USUAL, "0"),
        (&["--profile=confined", "--cap-drop=ALL"], 0, "0"),
        (&["--profile=confined", "--no-new-privileges"], 0, "1000"),
        (&["--profile=hardened"], 0, "1000"),
    ] {
        let root = world.create();
        let program = root.join("bin/guest");
        fs::copy(env!("CARGO_BIN_EXE_guest"), &program).expect("copy");
        chown(&program, Some(0), Some(0)).expect("chown");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("mode");
        let run = world.launch_run(&root).opt("--userns=identity").opts(words);
        let leader = Launch::start(run, &root);
        let status = world
            .exec(&root)
            .opt("--user=app")
            .cmd(["guest", "status"])
            .text();
        let uids: Vec<&str> = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .expect("Uid")
            .split_whitespace()
            .collect();
        assert_eq!(uids.get(1), Some(&euid), "{words:?}: {status}");
        assert_eq!(sets_of(&status)[2], limit, "{words:?}");
        leader.stop().expect_code(0);
        world.destroy(&root);
    }
}

#[test]
fn what_cannot_be_given_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let [_, permitted, _, bounding, _, _] = sets_of(&status);
    let missing = ALL & !(permitted & bounding);
    let names = [
        (1_u64 << 24, "SYS_RESOURCE"),
        (1 << 25, "SYS_TIME"),
        (1 << 16, "SYS_MODULE"),
    ];
    let Some((_, name)) = names.iter().find(|(bit, _)| missing & bit != 0) else {
        println!("skipped a part: the caller has every capability, so none can be missing");
        return;
    };
    let done = world
        .launch_run(&root)
        .opts(["--userns=host", &format!("--cap-add={name}")])
        .cmd(["true"])
        .done();
    done.expect_refused(&[125]);
    assert!(
        done.err_text().contains(&format!("\"CAP_{name}\"")),
        "{}",
        done.err_text()
    );
    // A user namespace of its own has all of them, over what is in it.
    let run = world.launch_run(&root).opts([
        "--userns=identity",
        "--profile=confined",
        &format!("--cap={name}"),
    ]);
    let [_, _, effective, _, _, _] = sets(run);
    assert_eq!(effective, missing & effective);
    assert_ne!(effective, 0);
}

/// Root may have less than its bounding set leaves it: what it has not itself it cannot give to a container with its ids.
#[test]
fn a_caller_gives_no_more_than_it_has() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let setpriv = tool("setpriv");
    let some =
        "+chown,+dac_override,+fowner,+kill,+setgid,+setuid,+setpcap,+sys_admin,+sys_chroot,+mknod";
    let less = [
        setpriv.to_str().expect("path"),
        "--securebits=+noroot",
        &format!("--inh-caps={some}"),
        &format!("--ambient-caps={some}"),
    ];
    let launch = || world.launch_run(&root).opt("--userns=host").wrap(less);
    let status = launch()
        .opt("--profile=none")
        .cmd(["cat", "/proc/self/status"]);
    let [_, _, effective, ..] = sets_of(&status.text());
    assert_eq!(effective & 1 << 12, 0, "CAP_NET_ADMIN");
    let refused = launch().opt("--cap-add=NET_ADMIN").cmd(["true"]).done();
    refused.expect_refused(&[125]);
    let told = refused.err_text();
    assert!(told.contains("\"CAP_NET_ADMIN\""), "{told}");
}
