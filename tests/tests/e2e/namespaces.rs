//! CONTRACT 5: namespaces, and the clean state that a command starts with (invariant 9).

use std::fs;
use std::process::{Command, Stdio};

use std::io::Write;

use tests::{Run, World, binary, tool};

const SHOWN: [&str; 7] = ["pid", "mnt", "ipc", "cgroup", "net", "uts", "user"];

fn inside(run: Run) -> Vec<String> {
    let names: Vec<String> = SHOWN
        .iter()
        .map(|name| format!("/proc/self/ns/{name}"))
        .collect();
    let text = run
        .cmd(["sh", "-c", "for n; do readlink $n; done", "sh"])
        .cmd(names)
        .text();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn namespaces_are_the_containers_or_the_callers() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let first = inside(world.exec(&root));
    let second = inside(world.exec(&root).opt("--user=app"));
    assert_eq!(first, second, "two execs, two containers");
    let nested = !fs::read_to_string("/proc/self/uid_map")
        .expect("uid_map")
        .contains("4294967295");
    for (name, ns) in SHOWN.iter().zip(&first) {
        let own = fs::read_link(format!("/proc/self/ns/{name}"))
            .expect("own")
            .into_os_string()
            .into_string()
            .expect("utf8");
        let shared = matches!(*name, "net" | "uts") || (*name == "user" && nested);
        assert_eq!(
            *ns == own,
            shared,
            "{name} namespace: inside {ns}, outside {own}"
        );
    }
    leader.stop().expect_code(0);
    let launched = inside(world.launch_run(&root));
    for (name, (launched, first)) in SHOWN.iter().zip(launched.iter().zip(&first)) {
        if matches!(*name, "net" | "uts") {
            assert_eq!(launched, first);
        }
    }
}

/// The number is fixed (PROC_USER_INIT_INO). Not that of PID 1, which may be hidden.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

fn on_a_bare_host() -> bool {
    let own = fs::read_link("/proc/self/ns/user").expect("namespace");
    own.to_str() == Some(INITIAL_USER_NAMESPACE)
}

#[test]
fn the_user_namespace_maps_every_id_onto_itself() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    if on_a_bare_host() {
        let inside = world.exec(&root).cmd(["readlink", "/proc/self/ns/user"]);
        assert_ne!(inside.text(), INITIAL_USER_NAMESPACE);
    }
    let own = fs::read_to_string("/proc/self/uid_map").expect("uid_map");
    let map = world.exec(&root).cmd(["cat", "/proc/self/uid_map"]).text();
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words(&map),
        words(&own),
        "in the initial namespace an identity map, elsewhere the caller's"
    );
    let _ = world
        .exec(&root)
        .sh("touch /made; chown 1000:50 /made")
        .text();
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(root.join("made")).expect("stat");
    assert_eq!(
        (meta.uid(), meta.gid()),
        (1000, 50),
        "the host sees other owners than the container"
    );
}

#[test]
fn root_inside_does_not_own_the_hosts_namespaces() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let name = nix::unistd::gethostname().expect("hostname");
    if on_a_bare_host() {
        assert_ne!(
            world
                .exec(&root)
                .cmd(["hostname", "taken-over"])
                .done()
                .code(),
            Some(0)
        );
    }
    assert_eq!(nix::unistd::gethostname().expect("hostname"), name);
}

#[test]
fn umask_mask_and_dispositions_are_clean() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let hostile = |run: Run| {
        let [sh, env, setpriv] = ["sh", "env", "setpriv"].map(tool);
        let words = "umask 077; exec \"$@\"";
        run.wrap([
            sh.to_str().expect("path"),
            "-c",
            words,
            "sh",
            setpriv.to_str().expect("path"),
            "--inh-caps=+chown,+net_raw",
            env.to_str().expect("path"),
        ])
        .wrap([
            "--ignore-signal=HUP,INT,QUIT,PIPE,CHLD,TERM,USR1",
            "--block-signal=USR2,ALRM,WINCH,CHLD,TERM",
        ])
    };
    let check = |what: &str, run: Run| {
        let status = hostile(run).cmd(["cat", "/proc/self/status"]).text();
        for line in [
            "Umask:\t0022",
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "SigCgt:\t0000000000000000",
        ] {
            assert!(status.contains(line), "{what}: no {line:?} in {status}");
        }
        assert!(
            status.contains("CapInh:\t0000000000000000"),
            "{what}: {status}"
        );
    };
    check("exec", world.exec(&root));
    check("exec with a terminal", world.exec(&root).opt("--force-tty"));
    check("exec as app", world.exec(&root).opt("--user=app"));
    let other = world.create();
    check("launch", world.launch_run(&other));
    check("launch --init", world.launch_run(&other).opt("--init"));
    // A new user namespace clears the inheritable capabilities by itself (capabilities(7)); here it is our doing.
    let as_it_is = ["--userns=host", "--profile=none"];
    check(
        "launch on a bare host",
        world.launch_run(&other).opts(as_it_is),
    );
    let _leader = tests::Launch::start(world.launch_run(&other).opts(as_it_is), &other);
    check("exec on a bare host", world.exec(&other));
}

#[test]
fn an_ignored_sigchld_does_not_lose_the_exit_code() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let env = tool("env");
    let wrap = [
        env.to_str().expect("path"),
        "--ignore-signal=CHLD",
        "--block-signal=CHLD",
    ];
    world
        .exec(&root)
        .wrap(wrap)
        .sh("(exit 3); exit 42")
        .done()
        .expect_code(42);
    let other = world.create();
    world
        .launch_run(&other)
        .wrap(wrap)
        .opt("--init")
        .sh("exit 43")
        .done()
        .expect_code(43);
}

#[test]
fn resource_limits_are_the_callers() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let sh = tool("sh");
    let limited = |run: Run| {
        run.wrap([
            sh.to_str().expect("path"),
            "-c",
            "ulimit -n 333; ulimit -c 0; ulimit -s 4096; exec \"$@\"",
            "sh",
        ])
    };
    let show = "ulimit -n; ulimit -c; ulimit -s";
    assert_eq!(limited(world.exec(&root)).sh(show).text(), "333\n0\n4096");
    let other = world.create();
    assert_eq!(
        limited(world.launch_run(&other)).sh(show).text(),
        "333\n0\n4096"
    );
}

#[test]
fn no_new_privs_is_as_the_caller_has_it() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let show = ["grep", "NoNewPrivs", "/proc/self/status"];
    assert_eq!(
        world.exec(&root).opt("--user=app").cmd(show).text(),
        "NoNewPrivs:\t0"
    );
    let setpriv = tool("setpriv");
    let wrap = [setpriv.to_str().expect("path"), "--no-new-privs"];
    assert_eq!(
        world.exec(&root).wrap(wrap).cmd(show).text(),
        "NoNewPrivs:\t1"
    );
}

#[test]
fn processor_affinity_and_priority_are_the_callers() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let taskset = tool("taskset");
    let wrap = [taskset.to_str().expect("path"), "-c", "0"];
    let text = world
        .exec(&root)
        .wrap(wrap)
        .cmd(["grep", "Cpus_allowed_list", "/proc/self/status"])
        .text();
    assert_eq!(text, "Cpus_allowed_list:\t0");
}

#[test]
fn ipc_is_the_containers() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let own = fs::read_to_string("/proc/sysvipc/shm")
        .expect("shm")
        .lines()
        .count();
    let text = world.exec(&root).sh("wc -l < /proc/sysvipc/shm").text();
    assert!(
        own >= 1 && text.trim() == "1",
        "the host's segments show: {text}"
    );
}

/// Runs a script as root of a user namespace that maps 0 to 65535, in a mount namespace of its own: what the host of
/// a service is in production. The test is root outside and writes the maps.
fn in_an_outer_user_namespace(world: &World, script: &str) -> String {
    let prologue = format!(
        "set -e; export PATH=/usr/sbin:/usr/bin:/sbin:/bin; SC={}; P='{}'; ENV=--env-file={}; ",
        binary().display(),
        world.places().join(" "),
        world.env_file().display()
    );
    // The first shell waits for its maps; only a program that it executes then is root with all capabilities.
    let outer = format!(
        "read go; exec {} -m {} -c \"$1\"",
        tool("unshare").display(),
        tool("sh").display()
    );
    let mut child = Command::new(tool("unshare"))
        .args([
            "--user",
            tool("sh").to_str().expect("path"),
            "-c",
            &outer,
            "sh",
            &(prologue + script),
        ])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare");
    let own = fs::read_link("/proc/self/ns/user").expect("own");
    let theirs = format!("/proc/{}/ns/user", child.id());
    tests::until("the user namespace", || {
        (fs::read_link(&theirs).ok()? != own).then_some(())
    });
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", child.id()), "0 0 65536\n").expect("map");
    }
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(b"go\n")
        .expect("go");
    let output = child.wait_with_output().expect("wait");
    assert!(
        output.status.success(),
        "{:?} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("utf8")
}

#[test]
fn in_the_outer_profile_nothing_is_dropped_and_nesting_works() {
    let Some(world) = World::new() else { return };
    let script = r#"
        R=$($SC subcontainer create-fs $P img)
        $SC subcontainer launch $P $ENV $R & L=$!
        $SC subcontainer exec $P $ENV $R true
        grep Cap /proc/self/status > /tmp/caps-$$
        $SC subcontainer exec $P $ENV $R grep Cap /proc/self/status | diff - /tmp/caps-$$
        rm /tmp/caps-$$
        [ "$(readlink /proc/self/ns/user)" = "$($SC subcontainer exec $P $ENV $R readlink /proc/self/ns/user)" ]
        $SC subcontainer exec $P $ENV $R unshare -U true
        $SC subcontainer exec $P $ENV --user=app $R unshare -U true
        $SC subcontainer exec $P $ENV --user=app $R unshare -U -r id -u
        kill $L; wait $L
        $SC subcontainer destroy-fs $P ${R##*/}
        [ ! -e $R ]
        echo outer
    "#;
    assert_eq!(in_an_outer_user_namespace(&world, script), "0\nouter\n");
}
