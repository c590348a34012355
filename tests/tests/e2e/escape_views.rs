//! What a confined container does not see, and the terminal of the caller: covered paths over an image that is hostile to
//! them, and bytes pushed into a terminal's input.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use tests::{Sentinel, Wire, World, write_file};

/// CVE-2025-31133: the image's /dev/null, which others cover files with, is something else.
#[test]
fn covers_are_none_of_the_images() {
    let everybody = Mode::from_bits_truncate(0o666);
    for kind in [
        "file",
        "symlink",
        "dangling",
        "fifo",
        "device",
        "directory",
        "missing",
    ] {
        for profile in ["confined", "hardened"] {
            let Some(world) = World::new() else { return };
            let world = world.launching_with([format!("--profile={profile}")]);
            let sentinel = Sentinel::new(world.dir.join("sentinel"));
            let image = world.base.join("images/img");
            write_file(image.join("sys/firmware/secret"), "seen\n");
            let null = image.join("dev/null");
            fs::remove_file(&null).expect("remove");
            match kind {
                "file" => write_file(&null, "seen\n"),
                "symlink" => symlink(sentinel.join("secret/key"), &null).expect("symlink"),
                "dangling" => symlink(sentinel.join("missing"), &null).expect("symlink"),
                "fifo" => mkfifo(&null, everybody).expect("mkfifo"),
                "device" => mknod(&null, SFlag::S_IFCHR, everybody, makedev(1, 5)).expect("mknod"),
                "directory" => fs::create_dir(&null).expect("directory"),
                _ => {}
            }
            let (root, _leader) = world.idle();
            let script = "for f in /proc/keys /proc/timer_list /proc/kcore /proc/slabinfo; do [ ! -e $f ] || \
                          echo $(stat -c '%t:%T' $f) $(cat $f | wc -c); done | sort -u; \
                          ls -A /sys/firmware; mkdir /sys/firmware/new 2>&1; cat /sys/firmware/secret 2>&1";
            let text = world.exec(&root).sh(script).done().out_text();
            assert_eq!(
                text.lines().collect::<Vec<_>>(),
                [
                    "1:3 0",
                    "mkdir: can't create directory '/sys/firmware/new': Read-only file system",
                    "cat: can't open '/sys/firmware/secret': No such file or directory"
                ],
                "{profile}, dev/null is a {kind}"
            );
            sentinel.assert_same();
        }
    }
}

/// A way to a covered path that leads through symlinks of the image's is not followed, and hides nothing of the kernel's.
#[test]
fn covers_follow_no_symlink_of_the_image() {
    let Some(world) = World::new() else { return };
    let world = world.launching_with(["--profile=confined"]);
    let sentinel = Sentinel::new(world.dir.join("sentinel"));
    for target in [sentinel.dir.clone(), "/etc".into(), "/proc/1/root".into()] {
        let root = world.create();
        fs::remove_dir(root.join("sys")).expect("remove");
        symlink(&target, root.join("sys")).expect("symlink");
        let table = {
            let _leader = world.launch(&root);
            world
                .exec(&root)
                .cmd(["cat", "/proc/self/mountinfo"])
                .text()
        };
        let places: Vec<&str> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .collect();
        let own = |place: &&&str| {
            **place == "/" || place.starts_with("/proc") || place.starts_with("/dev")
        };
        assert_eq!(places.iter().filter(own).count(), places.len(), "{table}");
        sentinel.assert_same();
        world.destroy(&root);
    }
}

/// CVE-2017-5226: a command pushes bytes into the terminal of its caller, who then runs them. Where nothing filters the
/// call, it is made on another terminal.
#[cfg(target_arch = "x86_64")]
#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    use tests::Pty;
    use tests::probe::{Door, write};
    const IOCTL: u32 = 16;
    const TIOCSTI: u64 = 0x5412;
    /// Where the program lies: any byte will do.
    const BYTE: u64 = 0x40_0000;
    for profile in ["confined", "hardened", "outer", "none"] {
        let Some(world) = World::new() else { return };
        let world = world.launching_with([format!("--profile={profile}")]);
        let (root, _leader) = world.idle();
        write(root.join("push"), Door::Syscall, IOCTL, &[0, TIOCSTI, BYTE]);
        write(
            root.join("push-high"),
            Door::Syscall,
            IOCTL,
            &[0, TIOCSTI | 1 << 32, BYTE],
        );
        for stdout_too in [true, false] {
            let pty = Pty::new(24, 80);
            let Wire::Given(caller) = pty.wire() else {
                return;
            };
            // Every byte counts, not only whole lines.
            let mut settings = tcgetattr(&caller).expect("settings");
            cfmakeraw(&mut settings);
            tcsetattr(&caller, SetArg::TCSANOW, &settings).expect("raw");
            for program in ["/push", "/push-high"] {
                let run = world.exec(&root).stdin(pty.wire());
                let run = if stdout_too {
                    run.stdout(pty.wire()).stderr(pty.wire())
                } else {
                    run
                };
                let code = run.cmd([program]).done().code();
                if matches!(profile, "confined" | "hardened") {
                    assert_eq!(code, Some(nix::libc::EPERM), "{profile} {program}");
                }
                let waiting = rustix::io::ioctl_fionread(&caller).expect("FIONREAD");
                assert_eq!(
                    waiting, 0,
                    "{profile} {program}: typed into the caller's terminal"
                );
            }
        }
    }
}

/// An attempt that a confined container must never see succeed, at any moment of its life.
const OPEN: &str = "(exec 3>> /proc/sys/kernel/core_pattern) 2>&- && echo OPENED; \
                    case $(stat -c '%t:%T' /proc/keys 2>&-) in 1:3) echo covered;; '') echo none;; *) echo SEEN;; esac";

#[test]
fn an_exec_that_comes_early_finds_everything_covered() {
    let Some(world) = World::new() else { return };
    let world = world.launching_with(["--profile=confined"]);
    for _ in 0..20 {
        let root = world.create();
        let launch = world.launch_run(&root).spawn();
        assert_eq!(world.exec(&root).sh(OPEN).text(), "covered");
        drop(launch);
        world.destroy(&root);
    }
}

/// Somebody who has the root filesystem as a volume swaps the directory that the covered procfs is on, while the host's
/// procfs, which nothing covers, is on its way there.
#[test]
fn a_race_at_proc_uncovers_nothing() {
    let Some(world) = World::new() else { return };
    let world = world.launching_with(["--profile=confined"]);
    // No overlay: that does not rename directories of its lower layer.
    let root = world.plain("tree");
    fs::create_dir(root.join("proc2")).expect("directory");
    let stop = AtomicBool::new(false);
    let (mut ran, swaps) = (0, AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, two) = (root.join("proc"), root.join("proc2"));
            while !stop.load(Ordering::Relaxed) {
                let swapped =
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &two, RenameFlags::RENAME_EXCHANGE);
                swaps.fetch_add(u32::from(swapped.is_ok()), Ordering::Relaxed);
            }
        });
        for _ in 0..60 {
            // Which of both it is, is the race's business.
            let text = world.launch_run(&root).sh(OPEN).done().out_text();
            ran += usize::from(text == "covered");
            if !matches!(text.as_str(), "covered" | "none" | "") {
                stop.store(true, Ordering::Relaxed);
                panic!("{text}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let swaps = swaps.into_inner();
    println!("{ran} of 60 ran, {swaps} swaps");
    assert!(swaps > 60, "the race was not run");
}
