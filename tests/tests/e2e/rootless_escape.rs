//! FIELD S7, S16 and S21 without root: covers that the image cannot forge, the caller's terminal, and who else gets to
//! the files of an ordinary user's container.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::mkfifo;
use tests::probe::{self, Door};
use tests::{Client, Pty, Rootfs, Run, Sentinel, Wire, tool, write_file};

use crate::rootless::User;

fn stop(leader: Client) {
    leader.signal(Signal::SIGTERM);
    leader.finish().expect_code(0);
}

/// A container that can be joined.
fn running(user: &User, profile: &str) -> (Rootfs, Client) {
    let root = user.create();
    let leader = user
        .launch(&root)
        .opt(format!("--profile={profile}"))
        .opt("--mount=type=volume,src=main,dst=/volume")
        .spawn();
    let _ = user.exec(&root).cmd(["true"]).text();
    (root, leader)
}

/// A user with an image and a volume.
fn ready() -> Option<User> {
    let user = User::granted()?;
    let _ = user.import_flat();
    let volume = user.base().join("volumes/main");
    fs::create_dir_all(&volume).expect("volume");
    for place in [&user.base().join("volumes"), &volume] {
        chown(place, Some(user.uid), Some(user.uid)).expect("chown");
    }
    Some(user)
}

#[test]
fn covers_are_none_of_the_images() {
    let Some(user) = ready() else { return };
    let sentinel = Sentinel::new(user.world.dir.join("sentinel"));
    let image = user.base().join("images/img");
    let null = image.join("dev/null");
    let firmware = image.join("sys/firmware");
    write_file(firmware.join("secret"), "seen\n");
    for kind in ["missing", "file", "symlink", "fifo"] {
        let _ = fs::remove_file(&null);
        match kind {
            "file" => write_file(&null, "seen\n"),
            "symlink" => symlink(sentinel.join("secret/key"), &null).expect("symlink"),
            "fifo" => mkfifo(&null, Mode::from_bits_truncate(0o666)).expect("mkfifo"),
            _ => {}
        }
        for place in [&null, &firmware, &firmware.join("secret")] {
            let _ = lchown(place, Some(user.uid), Some(user.uid));
        }
        for profile in ["confined", "hardened"] {
            let (root, leader) = running(&user, profile);
            let script = "for f in /proc/keys /proc/timer_list /proc/kcore /proc/slabinfo; do [ ! -e $f ] || \
                          echo $(stat -c '%t:%T' $f) $(cat $f | wc -c); done | sort -u; \
                          ls -A /sys/firmware; mkdir /sys/firmware/new 2>&1; cat /sys/firmware/secret 2>&1; \
                          grep -c ' /proc/sys ro,' /proc/self/mountinfo";
            let text = user.exec(&root).sh(script).done().out_text();
            assert_eq!(
                text.lines().collect::<Vec<_>>(),
                [
                    "1:3 0",
                    "mkdir: can't create directory '/sys/firmware/new': Read-only file system",
                    "cat: can't open '/sys/firmware/secret': No such file or directory",
                    "1",
                ],
                "{profile}, dev/null is a {kind}"
            );
            sentinel.assert_same();
            stop(leader);
            user.destroy(&root);
        }
    }
    user.assert_nothing_left();
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    const IOCTL: u32 = 16;
    const TIOCSTI: u64 = 0x5412;
    /// Where the program lies: any byte will do.
    const BYTE: u64 = 0x40_0000;
    let Some(user) = ready() else { return };
    let volume = user.base().join("volumes/main");
    for (name, request) in [("push", TIOCSTI), ("push-high", TIOCSTI | 1 << 32)] {
        let args = [0, request, BYTE];
        probe::write(volume.join(name), Door::Syscall, IOCTL, &args);
    }
    for (profile, filtered) in [("confined", true), ("outer", false)] {
        let (root, leader) = running(&user, profile);
        for program in ["/volume/push", "/volume/push-high"] {
            let pty = Pty::new(24, 80);
            let Wire::Given(caller) = pty.wire() else {
                return;
            };
            // Every byte counts, not only whole lines.
            let mut settings = tcgetattr(&caller).expect("settings");
            cfmakeraw(&mut settings);
            tcsetattr(&caller, SetArg::TCSANOW, &settings).expect("raw");
            let run = user.exec(&root).stdin(pty.wire());
            let code = run.cmd([program]).done().code();
            assert!(!filtered || code == Some(nix::libc::EPERM), "{code:?}");
            let waiting = rustix::io::ioctl_fionread(&caller).expect("FIONREAD");
            assert_eq!(waiting, 0, "{profile} {program}");
        }
        stop(leader);
        user.destroy(&root);
    }
    user.assert_nothing_left();
}

/// A set-user-ID program of the container's root is the caller's own on disk: nobody else may get to it, nor to what
/// create-fs and launch have written down.
#[test]
fn other_users_do_not_reach_into_it() {
    let Some(user) = ready() else { return };
    for profile in ["confined", "outer"] {
        let (root, leader) = running(&user, profile);
        let script = "cp /bin/busybox /tmp/become; chmod 4755 /tmp/become; echo x > /tmp/file";
        let _ = user.exec(&root).sh(script).text();
        let upper = user.upper(&root);
        assert!(upper.join("tmp/become").exists());
        let words = ["--reuid=4000", "--regid=4000", "--clear-groups"];
        let stranger = |program: &Path| Run::new(program).wrap([tool("setpriv")]).wrap(words);
        for place in [
            upper.join("tmp/file"),
            user.state().join("leaders"),
            user.state().join("subcontainers"),
            user.base().join("data/containers"),
        ] {
            let done = stranger(&tool("ls")).cmd([&place]).done();
            assert_ne!(done.code(), Some(0), "{profile}: {}", place.display());
        }
        let done = stranger(&upper.join("tmp/become")).cmd(["id", "-u"]).done();
        assert_ne!(done.code(), Some(0), "{profile}: {}", done.out_text());
        stop(leader);
        user.destroy(&root);
    }
    user.assert_nothing_left();
}

/// Whatever mask the caller has, what create-fs and launch make is the caller's alone.
#[test]
fn what_is_made_has_its_mode_whatever_the_mask_is() {
    let Some(user) = ready() else { return };
    let sh = tool("sh");
    for (mask, profile) in [("000", "confined"), ("077", "outer")] {
        let line = format!("umask {mask}; exec \"$@\"");
        // Outermost: the user may not be able to enter the directory that the binary was built in.
        let masked = |run: Run| run.wrap_around([sh.to_str().expect("path"), "-c", &line, "sh"]);
        let path = masked(user.run(["subcontainer", "create-fs", "img"])).text();
        let guid = path.rsplit('/').next().expect("guid").to_owned();
        let root = Rootfs {
            path: path.into(),
            guid,
        };
        let run = user.launch(&root).opt(format!("--profile={profile}"));
        let leader = masked(run).spawn();
        let _ = user.exec(&root).cmd(["true"]).text();
        let container = user.base().join("data/containers").join(&root.guid);
        // What is in the last two nobody else can reach.
        for (directory, files) in [
            (user.state(), true),
            (user.state().join("leaders"), true),
            (user.state().join("subcontainers"), true),
            (user.base().join("data"), false),
            (container, false),
        ] {
            let entries = fs::read_dir(&directory).expect("list").flatten();
            let entries = entries.map(|entry| entry.path()).filter(|_| files);
            for path in entries.chain([directory.clone()]) {
                let meta = fs::symlink_metadata(&path).expect("stat");
                let open = meta.permissions().mode() & 0o077;
                assert_eq!(open, 0, "umask {mask}: {}", path.display());
            }
        }
        stop(leader);
        user.destroy(&root);
    }
    user.assert_nothing_left();
}
