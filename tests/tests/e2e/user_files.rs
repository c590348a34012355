//! CONTRACT 5: the users' files of a rootfs may be missing, broken or hostile. Nothing outside is read for them, no
//! size or kind of file holds the client up, and nobody becomes root by them.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use tests::{Rootfs, Sentinel, World, write_file};

use crate::users::{Ids, exec, ids};

/// What the user files are, and what then has to be.
fn with_passwd(set: impl FnOnce(&World, &Rootfs), check: impl FnOnce(&World, &Rootfs)) {
    let Some(world) = World::new() else { return };
    let (root, _leader) = world.idle();
    for name in ["etc/passwd", "etc/group"] {
        fs::remove_file(root.join(name)).expect("remove");
    }
    set(&world, &root);
    check(&world, &root);
}

/// A number goes on to work (as itself) or is refused; a name is refused; both soon, and never as root.
fn names_are_refused_and_numbers_are_numbers(world: &World, root: &Rootfs) {
    exec(world, root, "app")
        .cmd(["touch", "/tmp/ran"])
        .done()
        .expect_refused(&[125]);
    assert!(!root.join("tmp/ran").exists());
    let done = exec(world, root, "1234:77").sh("id -u; id -g").done();
    if done.code() == Some(0) {
        assert_eq!(done.out_text(), "1234\n77");
    } else {
        done.expect_refused(&[125]);
    }
}

#[test]
fn missing_user_files() {
    with_passwd(
        |_, _| {},
        |world, root| {
            names_are_refused_and_numbers_are_numbers(world, root);
            assert_eq!(
                exec(world, root, "1234")
                    .sh("id -u; id -g; echo $HOME")
                    .text(),
                "1234\n0\n/"
            );
        },
    );
}

#[test]
fn user_files_that_are_fifos() {
    with_passwd(
        |_, root| {
            for name in ["etc/passwd", "etc/group"] {
                nix::unistd::mkfifo(&root.join(name), Mode::from_bits_truncate(0o666))
                    .expect("mkfifo");
            }
        },
        names_are_refused_and_numbers_are_numbers,
    );
}

#[test]
fn user_files_that_are_directories_or_devices() {
    with_passwd(
        |_, root| {
            fs::create_dir(root.join("etc/group")).expect("directory");
            symlink("/dev/zero", root.join("etc/passwd")).expect("symlink");
        },
        names_are_refused_and_numbers_are_numbers,
    );
}

#[test]
fn user_files_that_are_huge() {
    with_passwd(
        |_, root| {
            for name in ["etc/passwd", "etc/group"] {
                fs::File::create(root.join(name))
                    .expect("create")
                    .set_len(1 << 30)
                    .expect("sparse");
            }
        },
        |world, root| {
            // With 64 MiB of address space, the client cannot even try to hold the file.
            let sh = tests::tool("sh");
            let wrap = [
                sh.to_str().expect("path"),
                "-c",
                "ulimit -v 65536; exec \"$@\"",
                "sh",
            ];
            let run = world.exec(root).wrap(wrap).opt("--user=app");
            run.cmd(["true"]).done().expect_refused(&[125]);
            names_are_refused_and_numbers_are_numbers(world, root);
        },
    );
}

#[test]
fn user_files_with_an_endless_line() {
    with_passwd(
        |_, root| {
            let line = "x".repeat(32 << 20);
            write_file(root.join("etc/passwd"), format!("root:x:0:0::/root:{line}"));
            write_file(root.join("etc/group"), format!("root:x:0:{line}"));
        },
        names_are_refused_and_numbers_are_numbers,
    );
}

#[test]
fn broken_lines_do_not_hide_good_ones() {
    with_passwd(
        |_, root| {
            let odd = "\n:::::\nnonsense\nbad:x:abc:0::/:\nover:x:4294967296:0::/:\nneg:x:-1:0::/:\n#app:x:0:0::/:\n\
                       app:x:1000:1000::/home/app:/bin/sh\napp:x:0:0::/root:/bin/sh\n";
            write_file(root.join("etc/passwd"), odd);
            write_file(
                root.join("etc/group"),
                "\nbroken\nwheel:x:10:other,app\nbig:x:99999999999:app\n",
            );
        },
        |world, root| {
            assert_eq!(
                ids(exec(world, root, "app")),
                Ids {
                    uid: 1000,
                    gid: 1000,
                    groups: vec![10, 1000]
                }
            );
            for user in ["bad", "over", "neg", "nonsense", "broken"] {
                exec(world, root, user)
                    .cmd(["true"])
                    .done()
                    .expect_refused(&[125]);
            }
        },
    );
}

#[test]
fn absolute_symlinks_resolve_in_the_rootfs() {
    with_passwd(
        |_, root| {
            write_file(
                root.join("usr/share/passwd"),
                "linked:x:1500:1500::/linked:/bin/sh\n",
            );
            write_file(
                root.join("usr/share/group"),
                "linked:x:1500:\nextra:x:1600:linked\n",
            );
            symlink("/usr/share/passwd", root.join("etc/passwd")).expect("symlink");
            symlink("/usr/share/group", root.join("etc/group")).expect("symlink");
        },
        |world, root| {
            assert_eq!(
                ids(exec(world, root, "linked")),
                Ids {
                    uid: 1500,
                    gid: 1500,
                    groups: vec![1500, 1600]
                }
            );
        },
    );
}

#[test]
fn symlinks_out_of_the_rootfs_are_not_followed() {
    for climb in [false, true] {
        with_passwd(
            |world, root| {
                let sentinel = Sentinel::new(world.dir.join("sentinel"));
                for name in ["passwd", "group"] {
                    let outside = sentinel.join("etc").join(name);
                    let up = format!(
                        "{}{}",
                        "../".repeat(30),
                        outside.to_str().expect("path").trim_start_matches('/')
                    );
                    let target = if climb { up.into() } else { outside };
                    symlink(target, root.join("etc").join(name)).expect("symlink");
                }
            },
            |world, root| {
                for user in ["evil", "victim"] {
                    exec(world, root, user)
                        .cmd(["true"])
                        .done()
                        .expect_refused(&[125]);
                }
            },
        );
    }
}

#[test]
fn magic_links_are_not_followed() {
    for target in [
        "/proc/self/root/etc/passwd",
        "/proc/1/root/etc/passwd",
        "/proc/self/cwd/etc/passwd",
        "/proc/self/fd/3",
    ] {
        with_passwd(
            |_, root| symlink(target, root.join("etc/passwd")).expect("symlink"),
            names_are_refused_and_numbers_are_numbers,
        );
    }
}
