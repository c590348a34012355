//! A world of its own for every test: directories, images, containers; and its end, which leaves nothing.
//!
//! Everything lies below one directory with a name that no other test has, so that mounts, processes and files can be
//! counted per test while others run. Dropping the world kills only processes that belong to it and unmounts only
//! below its own directory, after cutting the propagation to the host's originals.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};

use crate::container::{Launch, Rootfs};
use crate::host::{mounts_below, processes_of};
use crate::image::Image;
use crate::run::Run;
use crate::until;

/// The program under test: `START_CONTAINER_BIN`, or the one cargo built beside this test, or the release build.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("START_CONTAINER_BIN") {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "START_CONTAINER_BIN={} is not a file", path.display());
            return fs::canonicalize(path).expect("canonicalize");
        }
        // target/TRIPLE/PROFILE/deps/e2e-HASH
        let own = std::env::current_exe().expect("own path");
        let profile = own.ancestors().nth(2).expect("profile directory");
        let triple = profile.parent().expect("target directory");
        [profile.to_owned(), triple.join("release"), triple.join("debug")]
            .into_iter()
            .map(|directory| directory.join("start-container"))
            .find(|path| path.is_file())
            .unwrap_or_else(|| {
                panic!(
                    "no start-container below {}; run `cargo build --bin start-container` or set START_CONTAINER_BIN",
                    triple.display()
                )
            })
    })
}

/// The path of a program of the test machine; tests run with an empty environment and name programs in full.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!("{name} is not installed; `cargo xtask test` installs what the tests need")
        })
}

/// Copies a program that is going to be executed. By another process: a descriptor that is open for writing here is, for
/// a moment, also open in whatever child another test starts, and who executes the copy then gets ETXTBSY.
///
/// # Panics
/// When that fails.
pub fn install(program: &Path, place: &Path) {
    let copy = Run::new(tool("cp")).cmd(["--preserve=mode"]);
    let _ = copy.cmd([program, place]).text();
}

/// Directories, images and containers of one test.
#[derive(Debug)]
pub struct World {
    /// Holds everything else.
    pub dir: PathBuf,
    /// `--base`.
    pub base: PathBuf,
    /// `--state`.
    pub state: PathBuf,
    /// `--data`.
    pub data: PathBuf,
    /// Options of every launch in it.
    launch_options: Vec<String>,
    /// Words before the binary that make it somebody else's.
    caller: Vec<String>,
}

impl World {
    /// A new world with one image, `img`; nothing without root, which is said on standard output.
    ///
    /// # Panics
    /// When root is missing and `REQUIRE=all` is set, or the directory cannot be made.
    #[must_use]
    pub fn new() -> Option<Self> {
        let name = std::thread::current()
            .name()
            .unwrap_or("test")
            .replace("::", "-");
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("REQUIRE").is_none_or(|v| v != "all"),
                "{name}: needs root and REQUIRE=all is set"
            );
            println!("skipped {name}: needs root (mounts and namespaces are the subject)");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/sce2e-{}-{number}", std::process::id()));
        let world = Self {
            base: dir.join("base"),
            state: dir.join("state"),
            data: dir.join("data"),
            dir,
            launch_options: Vec::new(),
            caller: Vec::new(),
        };
        fs::create_dir(&world.dir).expect("world directory");
        for directory in ["images", "volumes/main", "assets", "backup"] {
            fs::create_dir_all(world.base.join(directory)).expect("base directory");
        }
        Image::at(&world.base.join("images"), "img").build();
        Some(world)
    }

    /// The name of its directory, which no other has.
    ///
    /// # Panics
    /// Never: it is ours.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.dir.file_name().and_then(OsStr::to_str);
        name.expect("world directory")
    }

    /// The same, where every launch has these options too.
    #[must_use]
    pub fn launching_with<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.launch_options
            .extend(options.into_iter().map(Into::into));
        self
    }

    /// The same for an ordinary user: `words` before a program make it run as `uid`, whose the directories are then, and
    /// who imports the image, as a directory.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn called_by<S: Into<String>>(
        mut self,
        uid: u32,
        words: impl IntoIterator<Item = S>,
    ) -> Self {
        let images = self.base.join("images");
        let archive = self.dir.join("img.tar");
        let tar = Run::new(tool("tar"))
            .cmd(["--numeric-owner", "-cf"])
            .cmd([&archive]);
        let _ = tar
            .cmd([
                OsStr::new("-C"),
                images.join("img").as_os_str(),
                OsStr::new("."),
            ])
            .text();
        fs::remove_dir_all(images.join("img")).expect("remove the image");
        for directory in [&self.base, &images, &self.state, &self.data] {
            fs::create_dir_all(directory).expect("directory");
            chown(directory, Some(uid), Some(uid)).expect("chown");
        }
        for name in ["img.env", "img.json"] {
            fs::rename(images.join(name), self.dir.join(name)).expect("rename");
        }
        self.caller = words.into_iter().map(Into::into).collect();
        install(binary(), &self.copy());
        let import = self.bare(["image", "import", "--id=img", "--flat"]);
        let base = format!("--base={}", self.base.display());
        let _ = import.verb([base]).cmd([&archive]).text();
        for name in ["img.env", "img.json"] {
            fs::rename(self.dir.join(name), images.join(name)).expect("rename");
        }
        self
    }

    /// Where [`World::called_by`] puts the binary: another user may not be able to enter the directory that it was built in.
    fn copy(&self) -> PathBuf {
        self.dir.join("start-container")
    }

    /// The three words that keep the binary away from the machine's own directories.
    #[must_use]
    pub fn places(&self) -> [String; 3] {
        [
            format!("--base={}", self.base.display()),
            format!("--state={}", self.state.display()),
            format!("--data={}", self.data.display()),
        ]
    }

    /// The binary with these words only.
    #[must_use]
    pub fn bare<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Run {
        let program = if self.caller.is_empty() {
            binary().to_owned()
        } else {
            self.copy()
        };
        Run::new(program).wrap(&self.caller).verb(words)
    }

    /// `subcontainer VERB` with the world's places.
    #[must_use]
    pub fn verb(&self, verb: &str) -> Run {
        self.bare(["subcontainer", verb]).verb(self.places())
    }

    /// `subcontainer exec` as the client calls it: with the image's environment file.
    #[must_use]
    pub fn exec(&self, rootfs: impl AsRef<Path>) -> Run {
        self.verb("exec")
            .opt(format!("--env-file={}", self.env_file().display()))
            .rootfs(rootfs)
    }

    /// `subcontainer launch` as the client calls it: with the image's environment file.
    #[must_use]
    pub fn launch_run(&self, rootfs: impl AsRef<Path>) -> Run {
        self.verb("launch")
            .opt(format!("--env-file={}", self.env_file().display()))
            .opts(&self.launch_options)
            .rootfs(rootfs)
    }

    /// The image's environment file.
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.base.join("images/img.env")
    }

    /// A new root filesystem of image `img`.
    #[must_use]
    pub fn create(&self) -> Rootfs {
        self.create_of("img")
    }

    /// A new root filesystem of another image.
    #[must_use]
    pub fn create_of(&self, image: &str) -> Rootfs {
        let path = PathBuf::from(self.verb("create-fs").cmd([image]).text());
        let guid = path
            .file_name()
            .and_then(OsStr::to_str)
            .expect("guid")
            .to_owned();
        Rootfs { path, guid }
    }

    /// A plain directory with the image's files in it, which no create-fs has seen.
    #[must_use]
    pub fn plain(&self, name: &str) -> Rootfs {
        Image::at(&self.dir, name).build();
        Rootfs {
            path: self.dir.join(name),
            guid: name.to_owned(),
        }
    }

    /// destroy-fs, which has to succeed.
    pub fn destroy(&self, rootfs: &Rootfs) {
        let _ = self.verb("destroy-fs").cmd([&rootfs.guid]).text();
    }

    /// An idle leader that is ready.
    #[must_use]
    pub fn launch(&self, rootfs: &Rootfs) -> Launch {
        Launch::start(self.launch_run(rootfs), rootfs)
    }

    /// A root filesystem with an idle leader that is ready.
    #[must_use]
    pub fn idle(&self) -> (Rootfs, Launch) {
        let rootfs = self.create();
        let launch = self.launch(&rootfs);
        // Ready is what can be joined; that PID 1 has become init as well comes a moment later.
        until("PID 1 to be init", || {
            (rootfs.cmdline(1) == "init").then_some(())
        });
        (rootfs, launch)
    }

    /// What the client does for every container: the host's /dev and /sys, recursively.
    pub fn rbind_host(&self, rootfs: &Rootfs) {
        for name in ["dev", "sys"] {
            let target = rootfs.join(name);
            mount(
                Some(&Path::new("/").join(name)),
                &target,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )
            .unwrap_or_else(|e| panic!("rbind /{name}: {e}"));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for _ in 0..20 {
            let left = processes_of(&self.dir);
            if left.is_empty() {
                break;
            }
            for process in &left {
                let _ = kill(process.pid, Signal::SIGKILL);
            }
            crate::pause();
        }
        for target in mounts_below(&self.dir).iter().rev() {
            let _ = mount(
                None::<&str>,
                target.as_path(),
                None::<&str>,
                MsFlags::MS_PRIVATE,
                None::<&str>,
            );
        }
        for target in mounts_below(&self.dir).iter().rev() {
            let _ = umount2(target.as_path(), MntFlags::MNT_DETACH);
        }
        if mounts_below(&self.dir).is_empty() {
            let _ = fs::remove_dir_all(&self.dir);
        } else {
            println!("{}: still mounted, not removed", self.dir.display());
        }
    }
}
