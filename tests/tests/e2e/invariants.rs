//! The invariants of the design that have no file of their own: 4, 5 and 10, and the descriptors of 1.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tests::{Run, Snapshot, Wire, World, binary, mounts_below, until, write_file};

/// What the binary is: content, inode and time of change.
fn fingerprint() -> (String, u64, i64) {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(binary()).expect("stat");
    (
        format!("{:x}", Sha256::digest(fs::read(binary()).expect("read"))),
        meta.ino(),
        meta.ctime(),
    )
}

// 4. No host process that the container can see is ptraceable or has a descriptor of ours.

/// Without confinement root inside has all capabilities in its user namespace and may look at everything there. So what is
/// ours and runs there must hold nothing of the host: pipes, sockets, the container's own procfs, the sealed init.
#[test]
fn init_and_attendant_show_nothing_of_the_host() {
    let Some(world) = World::new() else { return };
    let world = world.launching_with(["--profile=none"]);
    let (root, _leader) = world.idle();
    let mut running = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    running.expect("up");
    let script = "for p in /proc/[0-9]*; do n=${p#/proc/}; \
                    [ $n = $$ ] && continue; case \"$(tr '\\0' ' ' < $p/cmdline)\" in sleep*) continue;; esac; \
                    echo seen; \
                    for f in $p/fd/* $p/root $p/cwd $p/exe; do readlink $f; done; \
                    tr -d '\\0' < $p/environ | sed 's/^/environ /'; \
                  done 2>/dev/null";
    let text = world.exec(&root).sh(script).done().out_text();
    assert!(
        text.matches("/memfd:init").count() >= 3,
        "PID 1, an attendant and our own were to be looked at: {text}"
    );
    let harmless = |line: &str| {
        let names = ["seen", "/", "/dev/null", "/memfd:init (deleted)"];
        let kinds = ["pipe:[", "socket:[", "anon_inode:["];
        names.contains(&line) || kinds.iter().any(|kind| line.starts_with(kind))
    };
    let shown: Vec<&str> = text.lines().filter(|line| !harmless(line)).collect();
    assert!(shown.is_empty(), "seen from inside: {shown:?}");
}

/// A directory of the host behind a descriptor is a way out for root inside, who may look at all of them where nothing
/// confines it: `/proc/PID/fd/N/../../etc/shadow`.
#[test]
fn no_descriptor_that_is_seen_inside_leads_to_the_host() {
    let Some(world) = World::new() else { return };
    let world = world.launching_with(["--profile=none"]);
    let root = world.create();
    write_file(world.dir.join("marker"), "outside\n");
    let sh = tests::tool("sh");
    // The caller has directories of the host open, and they are not close-on-exec.
    let careless = |run: Run| {
        let open = "exec 3</ 5</tmp 8</proc; exec \"$@\"";
        run.wrap([sh.to_str().expect("path"), "-c", open, "sh"])
    };
    let _leader = tests::Launch::start(careless(world.launch_run(&root)), &root);
    let hold = "echo up; exec sleep 100000";
    let mut one = careless(world.exec(&root)).sh(hold).spawn();
    let mut two = careless(world.exec(&root))
        .opt("--force-tty")
        .sh(hold)
        .spawn();
    one.expect("up");
    two.expect("up");
    let script = format!(
        "for f in /proc/[0-9]*/fd/* /proc/[0-9]*/cwd /proc/[0-9]*/root; do up=; \
           for level in 1 2 3 4 5 6 7 8 9 10 11 12; do \
             [ -e $f$up{}/marker ] && echo OUT $f && break; up=$up/..; done; done; echo looked",
        world.dir.display()
    );
    let text = careless(world.exec(&root)).sh(&script).text();
    assert_eq!(text, "looked", "ways out of the container");
}

#[test]
fn the_environment_of_the_client_does_not_show_in_pid_1() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let run = world
        .launch_run(&root)
        .env("SECRET_OF_THE_CLIENT", "do-not-show");
    let _leader = tests::Launch::start(run, &root);
    let seen = world
        .exec(&root)
        .sh("cat /proc/1/environ /proc/1/cmdline 2>/dev/null")
        .done();
    assert!(!seen.out_text().contains("do-not-show"));
    // What shows of PID 1's command line names nothing of the host.
    assert!(
        !seen.out_text().contains(world.dir.to_str().expect("path")),
        "{}",
        seen.out_text()
    );
}

#[test]
fn the_client_does_not_show_inside() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let text = world
        .exec(&root)
        .sh("for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done")
        .text();
    assert!(
        !text.contains("start-container") && !text.contains("--env-file"),
        "{text}"
    );
}

/// Words before a program that take from it, and from all that it starts, the right to trace whom it likes. Between equals
/// without that right it is a matter of dumpability alone who may look into whom.
fn equal() -> [String; 3] {
    [
        tests::tool("setpriv").display().to_string(),
        "--bounding-set=-sys_ptrace".to_owned(),
        "--inh-caps=-sys_ptrace".to_owned(),
    ]
}

/// What the client forks is seen inside for a moment, as a copy of it.
#[test]
fn the_client_cannot_be_looked_into_by_its_equals() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let looks_into = |pid: nix::unistd::Pid| {
        tests::Run::new(tests::tool("readlink"))
            .wrap(equal())
            .cmd([format!("/proc/{pid}/exe")])
            .done()
            .status
            .success()
    };
    let mut plain = tests::Run::new(tests::tool("sh"))
        .wrap(equal())
        .cmd(["-c", "echo up; read line"])
        .spawn();
    plain.expect("up");
    assert!(looks_into(plain.pid()), "this test can tell nothing");
    let mut client = world
        .exec(&root)
        .wrap(equal())
        .sh("echo up; read line")
        .spawn();
    client.expect("up");
    assert!(!looks_into(client.pid()));
}

/// Elsewhere the attendant has capabilities that a command lacks, or another has the right to trace in its namespace
/// anyway. In a container whose ids are the caller's, and whose caller may not trace, they are equals.
#[test]
fn the_attendant_cannot_be_looked_into_by_its_equals() {
    let Some(world) = World::new() else { return };
    let root = world.create();
    let open = ["--profile=none", "--userns=host"];
    let run = world.launch_run(&root).wrap(equal()).opts(open);
    let _leader = tests::Launch::start(run, &root);
    let exec = || world.exec(&root).wrap(equal());
    let mut running = exec().sh("echo up; exec sleep 100000").spawn();
    running.expect("up");
    let script = "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] && continue; \
                  echo $(cat $p/comm) $(readlink $p/exe || echo refused); done 2>/dev/null | sort";
    let seen = exec().sh(script).text();
    let lines: Vec<&str> = seen
        .lines()
        .filter(|line| line.starts_with("init") || line.starts_with("sleep"))
        .collect();
    assert_eq!(
        lines,
        ["init refused", "init refused", "sleep /bin/busybox"],
        "{seen}"
    );
}

// 5. /proc/self/exe never leads to a writable host binary.

#[test]
fn proc_self_exe_of_a_workload_is_never_the_binary() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let before = fingerprint();
    write_file(root.join("bin/evil"), "#!/proc/self/exe\n");
    std::os::unix::fs::symlink("/proc/self/exe", root.join("bin/evil-link")).expect("symlink");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root.join("bin/evil"), fs::Permissions::from_mode(0o755)).expect("mode");
    let other = world.create();
    for command in [
        "/bin/evil",
        "/bin/evil-link",
        "/proc/self/exe",
        "/proc/1/exe",
    ] {
        // Whatever it does, it ends, and it is not the binary that runs as somebody's workload.
        let done = world.exec(&root).cmd([command, "--version"]).done();
        assert!(
            !done.out_text().contains("start-container 0"),
            "{command}: {}",
            done.out_text()
        );
        let done = world
            .launch_run(&other)
            .opt("--init")
            .cmd([command, "--version"])
            .done();
        assert!(
            !done.out_text().contains("start-container 0"),
            "{command}: {}",
            done.out_text()
        );
    }
    assert_eq!(fingerprint(), before);
}

#[test]
fn no_process_inside_gives_a_writable_exe() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let before = fingerprint();
    let mut running = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
    running.expect("up");
    let script = "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline)\" in sh*|sleep*) continue;; esac; \
                  echo tried; (echo x >> $p/exe) 2>/dev/null && echo WRITTEN $p; (: > $p/exe) 2>/dev/null && echo CUT $p; done";
    let text = world.exec(&root).sh(script).done().out_text();
    assert!(
        text.contains("tried") && !text.contains("WRITTEN") && !text.contains("CUT"),
        "{text}"
    );
    assert_eq!(fingerprint(), before);
}

// 10. A root filesystem mount is never half built.

#[test]
fn a_root_filesystem_is_complete_when_it_appears() {
    let Some(world) = World::new() else { return };
    for _ in 0..30 {
        let mut client = world.verb("create-fs").cmd(["img"]).spawn();
        let path = until("the mount", || {
            let found = mounts_below(&world.base.join("subcontainers"))
                .into_iter()
                .next();
            let running = client.ended().is_none_or(|status| status.success());
            assert!(found.is_some() || running, "create-fs failed");
            found
        });
        for name in ["etc/hostname", "etc/hosts", "bin/sh"] {
            let length = fs::metadata(path.join(name)).map_or(0, |meta| meta.len());
            assert!(length > 0, "attached before /{name} was complete");
        }
        let printed = client.finish();
        assert_eq!(PathBuf::from(printed.expect_ok()), path);
        let guid = path.file_name().expect("guid").to_owned();
        let _ = world.verb("destroy-fs").cmd([&guid]).text();
    }
}

#[test]
fn a_failing_create_attaches_nothing() {
    let Some(world) = World::new() else { return };
    // The image's etc is a file, so hostname and hosts cannot be written.
    let image = world.base.join("images/broken");
    write_file(image.join("etc"), "not a directory");
    let before = Snapshot::of(&world);
    let done = world.verb("create-fs").cmd(["broken"]).done();
    done.expect_refused(&[125]);
    before.assert_same(&world);
}

#[test]
fn a_create_whose_path_cannot_be_told_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let before = Snapshot::of(&world);
    let full = || {
        let file = fs::OpenOptions::new().write(true).open("/dev/full");
        Wire::Given(OwnedFd::from(file.expect("/dev/full")))
    };
    let done = world.verb("create-fs").cmd(["img"]).stdout(full()).done();
    done.expect_refused(&[125]);
    assert!(done.err_text().contains("ENOSPC"), "{}", done.err_text());
    before.assert_same(&world);

    // And where the reader of a pipe is gone: an error, and no death by SIGPIPE half way.
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let done = world
        .verb("create-fs")
        .cmd(["img"])
        .stdout(Wire::Given(writer.into()))
        .done();
    done.expect_refused(&[125]);
    before.assert_same(&world);
}

// 1, once more: descriptors.

#[test]
fn the_launch_process_keeps_few_descriptors() {
    let Some(world) = World::new() else { return };
    let (root, leader) = world.idle();
    let count = || {
        fs::read_dir(format!("/proc/{}/fd", leader.pid()))
            .expect("fds")
            .count()
    };
    let before = count();
    for _ in 0..20 {
        let _ = world.exec(&root).cmd(["true"]).text();
    }
    assert_eq!(
        count(),
        before,
        "an exec costs the launch process a descriptor"
    );
    assert!(before < 32, "{before} descriptors");
}

#[test]
fn few_descriptors_are_enough() {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    let bash = tests::tool("sh");
    let limited = |run: Run| {
        run.wrap([
            bash.to_str().expect("path"),
            "-c",
            "ulimit -n 40; exec \"$@\"",
            "sh",
        ])
    };
    assert_eq!(limited(world.exec(&root)).cmd(["echo", "in"]).text(), "in");
    assert_eq!(
        limited(world.exec(&root).opt("--force-tty"))
            .cmd(["echo", "in"])
            .text(),
        "in"
    );
}
