//! A host for one test: a mount namespace, a directory, an image.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runtime::bind_mount::{BindMount, bind};
use runtime::config::Dirs;
use runtime::rootfs::{self, Created, Ids};
use shim::sys::mount::{Change, Propagation, set_attributes_at};

pub(crate) struct Host {
    pub(crate) temp: PathBuf,
    pub(crate) dirs: Dirs,
}

/// Runs a test in a mount namespace whose mounts are all `propagation`, but none of which is in the host's groups.
pub(crate) fn on_host(propagation: Propagation, test: impl FnOnce(&Host) + Send + 'static) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temp = std::env::temp_dir().join(format!("rootfs-test-{}-{number}", std::process::id()));
    std::fs::create_dir(&temp).expect("temporary directory");
    let host = Host {
        dirs: Dirs {
            base: temp.join("base"),
            state: temp.join("state"),
            data: temp.join("data"),
        },
        temp: temp.clone(),
    };
    let outcome = std::thread::spawn(move || {
        enter(propagation);
        host.make_image("img");
        test(&host);
    })
    .join();
    // This thread never saw the mounts of the test: there are only plain files below.
    assert_eq!(mounts_below(&temp), Vec::<PathBuf>::new());
    std::fs::remove_dir_all(&temp).expect("temporary directory removed");
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// A mount namespace of the calling thread's own.
pub(crate) fn enter(propagation: Propagation) {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("unshare: root is needed");
    for propagation in [Propagation::Private, propagation] {
        let change = Change {
            propagation: Some(propagation),
            recursive: true,
            ..Change::default()
        };
        set_attributes_at(c"/", change).expect("propagation of /");
    }
}

impl Host {
    pub(crate) fn images(&self) -> PathBuf {
        self.dirs.base.join("images")
    }

    /// A small image directory.
    pub(crate) fn make_image(&self, id: &str) -> PathBuf {
        let image = self.images().join(id);
        for directory in ["bin", "etc", "dev", "data"] {
            std::fs::create_dir_all(image.join(directory)).unwrap();
        }
        std::fs::write(image.join("bin/tool"), "tool").unwrap();
        std::fs::write(image.join("etc/hostname"), "from the image\n").unwrap();
        image
    }

    pub(crate) fn create(&self) -> Created {
        rootfs::create(&self.dirs, "img", Some("a name"), &Ids::AsOnDisk).expect("create")
    }

    pub(crate) fn destroy(&self, guid: &str) -> shim::Result<()> {
        rootfs::destroy(&self.dirs, guid, |_| Ok(()))
    }

    /// A directory with one file.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        let volume = self.temp.join(name);
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(volume.join("file"), name).unwrap();
        volume
    }

    pub(crate) fn request(&self, source: &Path, target: &Path) -> BindMount {
        BindMount {
            source: source.to_path_buf(),
            target: target.to_path_buf(),
            recursive: false,
            readonly: false,
            file: false,
            idmap: Vec::new(),
            dirs: self.dirs.clone(),
        }
    }

    pub(crate) fn bind(&self, source: &Path, target: &Path) -> shim::Result<()> {
        bind(&self.request(source, target))
    }

    /// Nothing is left of any root filesystem.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(mounts_below(&self.dirs.base), Vec::<PathBuf>::new());
        assert_eq!(mounts_below(&self.dirs.data), Vec::<PathBuf>::new());
        for directory in [
            self.dirs.base.join("subcontainers"),
            self.dirs.state.join("subcontainers"),
            self.dirs.data.join("containers"),
        ] {
            assert_eq!(names(&directory), Vec::<String>::new(), "{directory:?}");
        }
        // The kernel finishes a lazy unmount, and with it the loop device, when the last reference goes.
        until(|| loop_devices_of(&self.temp).is_empty());
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The mount table of the calling thread.
pub(crate) fn mount_table() -> String {
    std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo")
}

pub(crate) fn mounts_below(path: &Path) -> Vec<PathBuf> {
    mount_table()
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .filter(|place| place.starts_with(path))
        .collect()
}

/// The line of the topmost mount at a place.
pub(crate) fn mount_line(path: &Path) -> Option<String> {
    let table = mount_table();
    let at = |line: &&str| line.split(' ').nth(4).map(Path::new) == Some(path);
    table.lines().rfind(at).map(str::to_owned)
}

/// The files below `path` that loop devices show.
pub(crate) fn loop_devices_of(path: &Path) -> Vec<String> {
    names(Path::new("/sys/block"))
        .into_iter()
        .filter_map(|name| {
            std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
        })
        .filter(|backing| backing.starts_with(path.to_str().unwrap()))
        .collect()
}

/// Waits for what the kernel does by itself, and soon.
pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

pub(crate) fn mount_tmpfs(at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    let none = None::<&str>;
    mount(Some("test"), at, Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
}

pub(crate) fn plain_bind(from: &Path, to: &Path, flags: MsFlags) {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND | flags, none).expect("bind");
}

pub(crate) fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
}

/// `mksquashfs DIRECTORY FILE`.
pub(crate) fn squashfs(directory: &Path, file: &Path) {
    let status = Command::new("mksquashfs")
        .args([directory, file])
        .args(["-quiet", "-no-progress", "-noappend"])
        .status()
        .expect("mksquashfs of squashfs-tools is needed");
    assert!(status.success());
}

/// `mkfs.erofs FILE DIRECTORY`.
pub(crate) fn erofs(directory: &Path, file: &Path) {
    let done = Command::new("mkfs.erofs")
        .args([file, directory])
        .output()
        .expect("mkfs.erofs of erofs-utils is needed");
    assert!(done.status.success(), "{done:?}");
}

pub(crate) fn chown(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("chown");
}

/// Not `umount`, which is EBUSY for as long as anything looks at the mount.
pub(crate) fn unmount(place: &Path) {
    nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH).expect("unmount");
}
