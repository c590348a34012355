//! Known ways out of containers, each tried in every profile: those of the binary, of descriptors and directories, of
//! streams, and of what a runtime leaves in a root filesystem. Users and groups are in `escape_users`.
//!
//! The names are those of the vulnerabilities that others had. What more there is to each is in `docs/isolation.md`.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use tests::{Run, Wire, binary, tool, write_file};

use crate::cases::{in_each, running, started, stop};

/// What the binary is: content, inode and time of change.
fn fingerprint() -> (String, u64, i64, i64) {
    let meta = fs::metadata(binary()).expect("stat");
    let content = fs::read(binary()).expect("read");
    let digest = format!("{:x}", Sha256::digest(content));
    (digest, meta.ino(), meta.ctime(), meta.ctime_nsec())
}

/// CVE-2019-5736: the entrypoint is the runtime itself, through /proc/self/exe.
#[test]
fn the_binary_cannot_be_reached_through_proc_self_exe() {
    let before = fingerprint();
    in_each(|world, case| {
        let image = world.base.join("images/img");
        write_file(image.join("bin/evil"), "#!/proc/self/exe\n");
        fs::set_permissions(image.join("bin/evil"), fs::Permissions::from_mode(0o755))
            .expect("mode");
        symlink("/proc/self/exe", image.join("bin/evil-link")).expect("symlink");
        let (root, _leader) = running(world);
        let mut running = world.exec(&root).sh("echo up; exec sleep 100000").spawn();
        running.expect("up");
        let other = world.create();
        for command in [
            "/bin/evil",
            "/bin/evil-link",
            "/proc/self/exe",
            "/proc/1/exe",
        ] {
            for run in [
                world.exec(&root),
                world.launch_run(&other),
                world.launch_run(&other).opt("--init"),
            ] {
                let text = run.cmd([command, "--version"]).done().out_text();
                assert!(
                    !text.contains("start-container 0"),
                    "{case} {command}: {text}"
                );
            }
        }
        // Where it may be opened at all it is the sealed file in memory, which nobody can write to.
        let script = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" = init ] || continue; echo init; \
                      (: 3>> $p/exe) 2>&- && echo OPENED; done";
        let text = world.exec(&root).sh(script).done().out_text();
        assert!(
            text.contains("init") && !text.contains("OPENED"),
            "{case}: {text}"
        );
    });
    assert_eq!(fingerprint(), before);
}

/// CVE-2016-9962: a process that joins is looked into before it has become harmless. It is in the container from its fork
/// on, so a container that watches sees it at every stage.
#[test]
fn who_joins_shows_nothing_of_the_host_at_any_moment() {
    in_each(|world, case| {
        write_file(world.dir.join("marker"), "outside\n");
        let (root, _leader) = running(world);
        let marker = world.dir.join("marker");
        let watch = format!(
            "trap 'echo watched; exit' TERM; echo up; while :; do for p in /proc/[0-9]*; do \
             for f in $p/root $p/cwd $p/fd/*; do [ -e $f{0} ] && echo OUT $f; [ -e $f/..{0} ] && echo OUT $f/..; done; \
             done; done",
            marker.display()
        );
        let mut watcher = world.exec(&root).sh(&watch).spawn();
        watcher.expect("up");
        for _ in 0..40 {
            let _ = world.exec(&root).cmd(["true"]).done().expect_ok();
        }
        watcher.signal(Signal::SIGTERM);
        let done = watcher.finish();
        assert_eq!(done.out_text(), "up\nwatched", "{case}");
    });
}

/// The same with ptrace(2): whoever joins is traced by nobody before it is a process of the container's, also not by root
/// with CAP_SYS_PTRACE inside. What it executes then, our attendant and the command, is the container's own.
#[test]
fn who_joins_cannot_be_traced_while_it_is_the_hosts() {
    in_each(|world, case| {
        let guest = world.base.join("images/img/bin/guest");
        fs::copy(env!("CARGO_BIN_EXE_guest"), guest).expect("copy");
        let root = world.create();
        let leader = started(
            world,
            &root,
            world.launch_run(&root).opt("--cap-add=SYS_PTRACE"),
        );
        let watcher = world.exec(&root).stdin(Wire::Pipe).stdout(Wire::Pipe);
        let mut watcher = watcher.cmd(["guest", "trace"]).spawn();
        watcher.expect("tracing");
        for _ in 0..40 {
            // A command that is traced may end by it.
            let _ = world.exec(&root).cmd(["true"]).done();
        }
        watcher.end_input();
        let text = watcher.finish().expect_ok();
        assert!(!text.contains("TRACED"), "{case}: {text}");
        let refused = text.lines().last().and_then(|line| line.parse().ok());
        assert!(
            refused.is_some_and(|times: u64| times > 0),
            "{case}: {text}"
        );
        stop(leader);
    });
}

/// CVE-2024-21626: a working directory behind a descriptor of the host's, and descriptors that leak.
#[test]
fn no_descriptor_and_no_directory_of_the_host_is_inherited() {
    in_each(|world, case| {
        write_file(world.dir.join("marker"), "outside\n");
        let sh = tool("sh");
        // The caller has directories of the host open, and they are not close-on-exec.
        let careless = |run: Run| {
            let open = format!("exec 3</ 5<{} 8</proc; exec \"$@\"", world.dir.display());
            run.wrap([sh.to_str().expect("path"), "-c", &open, "sh"])
        };
        let (root, _leader) = running(world);
        let other = world.create();
        let forms: [&dyn Fn() -> Run; 3] = [
            &|| careless(world.exec(&root)),
            &|| careless(world.launch_run(&other)),
            &|| careless(world.launch_run(&other).opt("--init")),
        ];
        for form in forms {
            let text = form().sh("pwd -P; echo $(ls /proc/self/fd)").text();
            // The last is that of `ls` itself.
            assert_eq!(text, "/\n0 1 2 3", "{case}");
            for number in (3..32).chain([47, 48, 63, 64]) {
                let done = form()
                    .opt(format!("--workdir=/proc/self/fd/{number}"))
                    .sh("pwd -P; ls")
                    .done();
                assert_eq!(
                    done.code(),
                    Some(125),
                    "{case} {number}: {}",
                    done.out_text()
                );
                assert_eq!(done.out_text(), "", "{case} {number}");
            }
        }
    });
}

/// Runtimes that give the user its streams by changing their owner change files of the host.
#[test]
fn streams_keep_their_owner_and_mode() {
    in_each(|world, case| {
        let (root, _leader) = running(world);
        let other = world.create();
        let file = world.dir.join("stream");
        write_file(&file, "");
        let paths = [Path::new("/dev/null"), &file];
        let owner = |path: &Path| {
            let meta = fs::metadata(path).expect("stat");
            (meta.uid(), meta.gid(), meta.mode())
        };
        let before = paths.map(owner);
        for user in ["app", "4321:77", "root"] {
            for path in paths {
                let open = || {
                    let file = fs::File::options().read(true).append(true).open(path);
                    Wire::Given(OwnedFd::from(file.expect("open")))
                };
                for run in [world.exec(&root), world.launch_run(&other)] {
                    let run = run.opt(format!("--user={user}"));
                    let done = run
                        .stdin(open())
                        .stdout(open())
                        .stderr(open())
                        .cmd(["true"])
                        .done();
                    done.expect_code(0);
                }
            }
            assert_eq!(paths.map(owner), before, "{case} {user}");
        }
    });
}

/// CVE-2025-24965: files of the runtime in the root filesystem, reached through symlinks of the image's.
#[test]
fn nothing_of_ours_is_written_into_a_root_filesystem() {
    in_each(|world, case| {
        let sentinel = tests::Sentinel::new(world.dir.join("sentinel"));
        for name in [
            ".put_old",
            ".old_root",
            "old",
            ".start-container",
            "init",
            ".pivot_root",
            "dev/console",
        ] {
            let _ = symlink(&sentinel.dir, world.base.join("images/img").join(name));
        }
        let root = world.create();
        let upper = world.data.join("containers").join(&root.guid).join("upper");
        let listing = || {
            let done = Run::new(tool("find"))
                .cmd([&upper])
                .cmd(["-printf", "%P %y %m %U %l %T@\n"])
                .done();
            let mut lines: Vec<String> = done.expect_ok().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let before = listing();
        let leader = started(world, &root, world.launch_run(&root));
        for user in ["root", "app"] {
            let _ = world
                .exec(&root)
                .opt(format!("--user={user}"))
                .cmd(["true"])
                .text();
            let _ = world
                .exec(&root)
                .opt(format!("--user={user}"))
                .opt("--force-tty")
                .cmd(["true"])
                .text();
        }
        stop(leader);
        world.launch_run(&root).cmd(["true"]).done().expect_code(0);
        assert_eq!(listing(), before, "{case}");
        sentinel.assert_same();
        // And it works where nothing can be written.
        let leader = started(world, &root, world.launch_run(&root).opt("--read-only"));
        assert_eq!(
            world.exec(&root).sh("(: > /new) 2>&-; echo $?").text(),
            "1",
            "{case}"
        );
        stop(leader);
    });
}

/// CVE-2022-0492, CVE-2023-25809: the host's cgroups are written to from inside.
#[test]
fn the_hosts_cgroups_are_not_in_reach() {
    in_each(|world, case| {
        if matches!(case.profile, "outer" | "none") {
            // These leave /sys as the caller gives it; the outer container's own files say who may write.
            return;
        }
        let root = world.create();
        let run = world.launch_run(&root).opt("--share=sys");
        let _leader = started(world, &root, run);
        let script = "exec 2>&1; find /sys/fs/cgroup -maxdepth 2 | while read f; do \
                      if [ -d $f ]; then mkdir $f/mine; else [ -w $f ] && (: 3>> $f); fi; done; echo end";
        let text = world.exec(&root).sh(script).done().out_text();
        let (end, lines) = {
            let lines: Vec<&str> = text.lines().collect();
            let (end, rest) = lines.split_last().expect("text");
            (*end, rest.to_vec())
        };
        assert_eq!(end, "end", "{case}: {text}");
        assert!(!lines.is_empty(), "{case}: no cgroup was tried");
        let wrong: Vec<_> = lines
            .iter()
            .filter(|line| {
                !line.ends_with("Read-only file system") && !line.ends_with("Permission denied")
            })
            .collect();
        assert!(wrong.is_empty(), "{case}: {wrong:#?}");
        // Its own place is the top of what it sees.
        let own = world
            .exec(&root)
            .sh("cut -d: -f3 /proc/self/cgroup | sort -u")
            .text();
        assert!(
            own.lines()
                .all(|line| line == "/" || line.starts_with("/..")),
            "{case}: {own}"
        );
    });
}

/// The leader is what it was, whatever the container puts where its process directory is looked for.
#[test]
fn a_container_that_forges_its_procfs_leads_no_exec_elsewhere() {
    in_each(|world, case| {
        let (victim, _victim) = running(world);
        let (root, _leader) = running(world);
        let own = fs::read_link("/proc/self/ns/pid").expect("own");
        let theirs = world
            .exec(&victim)
            .cmd(["readlink", "/proc/self/ns/pid"])
            .text();
        let mine = world
            .exec(&root)
            .cmd(["readlink", "/proc/self/ns/pid"])
            .text();
        // From outside, as a client that is tricked would; inside, only the profiles that leave everything can mount.
        let inside = "mkdir -p /fake/1/ns; for n in pid mnt user ipc cgroup; do ln -s /proc/self/ns/$n /fake/1/ns/$n; done; \
                      mount --bind /fake /proc";
        let _ = world.exec(&root).sh(inside).done();
        let seen = world
            .exec(&root)
            .sh("readlink /proc/self/ns/pid; ls /proc")
            .done();
        assert!(
            !seen.out_text().contains(own.to_str().expect("utf8")),
            "{case}"
        );
        assert!(!seen.out_text().contains(&theirs), "{case}");
        let _ = world.exec(&root).sh("umount /proc; rm -r /fake").done();
        assert_eq!(
            world
                .exec(&root)
                .cmd(["readlink", "/proc/self/ns/pid"])
                .text(),
            mine,
            "{case}"
        );
    });
}
