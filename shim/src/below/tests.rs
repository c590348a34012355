//! The walk of [`super`] beside the kernel's own openat2(2): the same answer for the same path, flags and way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::*;
use crate::RootDir;

/// A tree with everything that leads out or in circles.
struct Ground(PathBuf);

impl Ground {
    fn new(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("below-{name}-{}", std::process::id()));
        let tree = top.join("tree");
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(top.join("outside")).unwrap();
        fs::write(top.join("outside/file"), "out").unwrap();
        fs::write(tree.join("file"), "in").unwrap();
        fs::write(tree.join("a/b/file"), "deep").unwrap();
        let outside = top.join("outside");
        for (target, link) in [
            (outside.to_str().unwrap(), "absolute"),
            ("../outside", "climbing"),
            ("/a/b", "inside"),
            ("a/b", "relative"),
            ("../../../../a", "a/overclimbing"),
            ("circle", "circle"),
            ("missing", "dangling"),
            ("/proc/self/root", "magic"),
            ("/proc/self/cwd", "a/magic"),
            ("b/", "a/slash"),
            ("file", "a/b/link"),
        ] {
            symlink(target, tree.join(link)).unwrap();
        }
        Self(top)
    }

    fn tree(&self) -> RootDir {
        RootDir::open(&self.0.join("tree")).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const WAYS: [ResolveFlag; 3] = [
    ResolveFlag::RESOLVE_IN_ROOT.union(ResolveFlag::RESOLVE_NO_MAGICLINKS),
    ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS),
    ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_MAGICLINKS),
];

/// Device and inode of what was found.
fn identity(found: Result<OwnedFd, Errno>) -> Result<(u64, u64), Errno> {
    found.map(|fd| {
        let stat = fstat(&fd).unwrap();
        (stat.st_dev, stat.st_ino)
    })
}

/// The walk answers what the kernel answers: the same file, or the same errno.
#[test]
fn the_walk_finds_what_the_kernel_finds() {
    let ground = Ground::new("same");
    let tree = ground.tree();
    let paths = [
        "",
        ".",
        "/",
        "..",
        "file",
        "/file",
        "a",
        "a/",
        "file/",
        "a/b/c",
        "a//b/./c/.",
        "a/b/file",
        "a/b/file/x",
        "missing",
        "missing/x",
        "a/missing",
        "absolute",
        "absolute/file",
        "climbing",
        "climbing/file",
        "inside",
        "inside/file",
        "relative",
        "relative/file",
        "a/overclimbing",
        "a/overclimbing/b/file",
        "circle",
        "circle/x",
        "dangling",
        "magic",
        "a/magic",
        "a/slash",
        "a/slash/file",
        "a/b/link",
        "a/b/link/x",
        "a/b/..",
        "a/../file",
        "../outside/file",
        "a/b/c/..",
    ];
    for resolve in WAYS {
        for mount in [ResolveFlag::empty(), ResolveFlag::RESOLVE_NO_XDEV] {
            for flags in [
                OFlag::O_PATH,
                OFlag::O_PATH | OFlag::O_NOFOLLOW,
                OFlag::O_PATH | OFlag::O_DIRECTORY,
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW,
                OFlag::O_RDONLY,
                OFlag::O_RDONLY | OFlag::O_NOFOLLOW,
                OFlag::O_RDONLY | OFlag::O_DIRECTORY,
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW,
            ] {
                for path in paths {
                    let way = resolve | mount;
                    if way.contains(ResolveFlag::RESOLVE_NO_SYMLINKS) && path.contains("..") {
                        continue;
                    }
                    let flags = flags | OFlag::O_CLOEXEC;
                    let path = std::ffi::CString::new(path).unwrap();
                    let kernel = open_below(&tree, path.as_c_str(), flags, Mode::empty(), way);
                    let walked = by_walking(tree.as_fd(), &path, flags, Mode::empty(), way);
                    assert_eq!(
                        identity(walked),
                        identity(kernel),
                        "{path:?} {flags:?} {way:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_walk_makes_files_where_the_kernel_does() {
    let ground = Ground::new("makes");
    let tree = ground.tree();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    for resolve in WAYS {
        for (path, expected) in [
            (c"a/new", Ok(())),
            (c"file", Err(Errno::EEXIST)),
            (c"dangling", Err(Errno::EEXIST)),
            (c"missing/new", Err(Errno::ENOENT)),
            (c"file/new", Err(Errno::ENOTDIR)),
        ] {
            let made = by_walking(tree.as_fd(), path, flags, Mode::S_IRWXU, resolve);
            assert_eq!(made.map(drop), expected, "{path:?} {resolve:?}");
            if expected.is_err() {
                let made = open_below(&tree, path, flags, Mode::S_IRWXU, resolve);
                assert_eq!(made.map(drop), expected, "{path:?} {resolve:?}");
            }
        }
        fs::remove_file(ground.0.join("tree/a/new")).unwrap();
    }
    assert!(!ground.0.join("outside/new").exists());
}

#[test]
fn the_walk_stays_on_its_mount() {
    let root = RootDir::open(Path::new("/")).unwrap();
    for resolve in WAYS {
        let way = resolve | ResolveFlag::RESOLVE_NO_XDEV;
        for path in [c"proc", c"proc/self/mounts"] {
            for flags in [OFlag::O_PATH, OFlag::O_RDONLY] {
                let walked = by_walking(root.as_fd(), path, flags, Mode::empty(), way);
                assert_eq!(walked.map(drop), Err(Errno::EXDEV), "{path:?} {way:?}");
            }
        }
    }
}

/// Somebody swaps a directory for a link that leads out, and moves the directory that the walk is in to another place.
#[test]
fn a_race_never_leads_the_walk_out() {
    let ground = Ground::new("race");
    let tree = ground.tree();
    let base = ground.0.join("tree");
    let outside = identity(nix::fcntl::open(
        &ground.0.join("outside/file"),
        OFlag::O_PATH,
        Mode::empty(),
    ))
    .unwrap();
    fs::create_dir_all(base.join("swap/b")).unwrap();
    fs::write(base.join("swap/file"), "in").unwrap();
    symlink(ground.0.join("outside"), base.join("out")).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut found = [0_u32; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, two) = (base.join("swap"), base.join("out"));
            while !stop.load(Ordering::Relaxed) {
                let flag = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &one, AT_FDCWD, &two, flag).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0_u32.. {
            if round >= 4_000 && swaps.load(Ordering::Relaxed) >= 2_000 {
                break;
            }
            for resolve in WAYS {
                for path in [c"swap/file", c"swap/b/../file"] {
                    let walked =
                        by_walking(tree.as_fd(), path, OFlag::O_RDONLY, Mode::empty(), resolve);
                    match identity(walked) {
                        Ok(file) => {
                            assert_ne!(file, outside, "{resolve:?}");
                            found[0] += 1;
                        }
                        Err(_) => found[1] += 1,
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        found[0] > 0 && found[1] > 0,
        "{found:?}: the race was not run"
    );
}
