//! Without root: the whole life of a container by an ordinary user, with granted ids and with the own one alone, and by
//! root without CAP_SYS_ADMIN.
//!
//! The user exists in a mount namespace of the test's own only, where passwd, group, subuid and subgid are its files.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::{
    Client, Done, Image, Rootfs, Run, Seeded, World, binary, processes_of, spin, tool, until,
    write_file,
};

/// First of the ids that `ann` is granted, and how many.
pub(crate) const GRANTED: (u32, u32) = (700_000, 65_536);

/// A user, and the mount namespace that it exists in.
pub(crate) struct User {
    pub(crate) world: World,
    pub(crate) holder: Client,
    pub(crate) uid: u32,
    pub(crate) home: PathBuf,
}

impl User {
    /// With the lines that the machine's administrator would make.
    pub(crate) fn granted() -> Option<Self> {
        let line = format!("ann:{}:{}\n", GRANTED.0, GRANTED.1);
        Self::new(&line, "true")
    }

    /// Without newuidmap.
    pub(crate) fn single() -> Option<Self> {
        Self::new("", "mount --bind /dev/null /usr/bin/newuidmap")
    }

    /// `subids` is the content of subuid and subgid; `more` is a command that prepares the namespace, with `$uid`.
    pub(crate) fn new(subids: &str, more: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let world = World::new()?;
        // No other test's and nobody's; nothing is ever granted there.
        let uid = 2_000_000_000
            + (std::process::id() % 100_000) * 100
            + NEXT.fetch_add(1, Ordering::Relaxed);
        let home = world.dir.join("home");
        fs::create_dir(&home).expect("home");
        chown(&home, Some(uid), Some(uid)).expect("chown");
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nann:x:{uid}:{uid}::{}:/bin/sh\n",
            home.display()
        );
        write_file(world.dir.join("etc/passwd"), passwd);
        let group = format!("root:x:0:\nann:x:{uid}:\n");
        write_file(world.dir.join("etc/group"), group);
        write_file(world.dir.join("etc/subuid"), subids);
        write_file(world.dir.join("etc/subgid"), subids);
        let script = format!(
            "set -e; export PATH=/usr/sbin:/usr/bin:/sbin:/bin uid={uid}; \
             for f in passwd group subuid subgid; do \
             mount --bind {0}/etc/$f /etc/$f; done; {more}; echo ready; exec cat",
            world.dir.display()
        );
        let mut holder = Run::new(tool("unshare"))
            .cmd(["-m", "sh", "-c", &script])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .pipes()
            .spawn();
        holder.expect("ready");
        Some(Self {
            world,
            holder,
            uid,
            home,
        })
    }

    /// Words that make a program the user's: in its namespace, with its ids and nothing else.
    pub(crate) fn wrap(&self, uid: u32) -> Vec<String> {
        let nsenter = tool("nsenter");
        let setpriv = tool("setpriv");
        [
            nsenter.to_str().expect("path"),
            "--mount",
            "--target",
            &self.holder.pid().to_string(),
            setpriv.to_str().expect("path"),
            &format!("--reuid={uid}"),
            &format!("--regid={uid}"),
            "--groups=4242",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The binary as the user calls it, without any option: the default directories are part of the test.
    pub(crate) fn run<const N: usize>(&self, words: [&str; N]) -> Run {
        Run::new(binary()).verb(words).wrap(self.wrap(self.uid))
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.home.join(".local/share/start-container")
    }

    pub(crate) fn state(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/start-container-{}", self.uid))
    }

    /// The image of all tests, as an archive.
    pub(crate) fn archive(&self) -> PathBuf {
        let archive = self.world.dir.join("image.tar");
        Image::at(&self.world.dir, "source").build();
        let source = self.world.dir.join("source");
        let status = Command::new(tool("tar"))
            .args([
                "--numeric-owner",
                "-C",
                source.to_str().expect("path"),
                "-cf",
            ])
            .args([archive.as_path(), Path::new(".")])
            .status();
        assert!(status.expect("tar").success());
        archive
    }

    pub(crate) fn import(&self) -> Done {
        self.import_as(&[])
    }

    /// As a directory, which a test can look into and change.
    pub(crate) fn import_flat(&self) -> Done {
        self.import_as(&["--flat"])
    }

    fn import_as(&self, options: &[&str]) -> Done {
        let archive = self.archive();
        let run = self.run(["image", "import", "--id=img"]);
        let done = run.opts(options).cmd([&archive]).done();
        let _ = done.expect_ok();
        done
    }

    pub(crate) fn create(&self) -> Rootfs {
        let path = PathBuf::from(self.run(["subcontainer", "create-fs", "img"]).text());
        let guid = path.file_name().and_then(|name| name.to_str());
        let guid = guid.expect("guid").to_owned();
        Rootfs { path, guid }
    }

    pub(crate) fn launch(&self, root: &Rootfs) -> Run {
        self.run(["subcontainer", "launch"])
            .opt("--env=PATH=/bin")
            .rootfs(root)
    }

    pub(crate) fn exec(&self, root: &Rootfs) -> Run {
        self.run(["subcontainer", "exec"])
            .opt("--env=PATH=/bin")
            .rootfs(root)
    }

    /// Where what the container writes is.
    pub(crate) fn upper(&self, root: &Rootfs) -> PathBuf {
        self.base()
            .join("data/containers")
            .join(&root.guid)
            .join("upper")
    }

    pub(crate) fn destroy(&self, root: &Rootfs) {
        let _ = self.run(["subcontainer", "destroy-fs", &root.guid]).text();
    }

    /// No process, no root filesystem, no writable layer, no record.
    pub(crate) fn assert_nothing_left(&self) {
        until("the end of every process", || {
            let others = |process: &tests::Process| process.pid != self.holder.pid();
            let left = processes_of(&self.world.dir);
            (!left.iter().any(others)).then_some(())
        });
        for directory in [
            self.base().join("subcontainers"),
            self.base().join("data/containers"),
            self.state().join("leaders"),
            self.state().join("subcontainers"),
        ] {
            let left: Vec<_> = fs::read_dir(&directory).into_iter().flatten().collect();
            assert!(left.is_empty(), "{}: {left:?}", directory.display());
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.state());
    }
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::symlink_metadata(path.as_ref());
    let found = found.unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()));
    (found.uid(), found.gid())
}

#[test]
fn an_ordinary_user_has_the_whole_life_of_a_container() {
    let Some(ann) = User::granted() else { return };
    let imported = ann.import_flat();
    // The image has /dev/null and /dev/zero.
    let told = imported.err_text();
    assert!(
        told.contains("warning: left out") && told.contains("2 devices"),
        "{told}"
    );
    let root = ann.create();
    assert!(
        root.path.starts_with(ann.base().join("subcontainers")),
        "{root:?}"
    );
    // Nothing is mounted where others would see it.
    assert_eq!(fs::read_dir(&root.path).expect("mount point").count(), 0);

    let volume = ann.home.join("volume");
    fs::create_dir(&volume).expect("volume");
    chown(&volume, Some(ann.uid), Some(ann.uid)).expect("chown");
    let bind = format!("type=bind,src={},dst=/data", volume.display());
    let launch = ann
        .launch(&root)
        .opts(["--share=dev", "--mount", &bind])
        .spawn();
    // exec waits for it.
    let sh = |script: &str| ann.exec(&root).sh(script).text();
    assert_eq!(
        sh("id -u; id -G; echo $PATH > /dev/null; echo $PATH"),
        "0\n0 29\n/bin"
    );
    let app = ann.exec(&root).opt("--user=app");
    assert_eq!(
        app.sh("id -u; echo $HOME; echo x > ~/mine").text(),
        "1000\n/home/app"
    );
    assert_eq!(sh("echo y > /root/roots; cat /home/app/mine"), "x");
    assert_eq!(
        sh("cat /proc/1/comm; echo /proc/1/root/*").lines().next(),
        Some("init")
    );
    let own = fs::read_link("/proc/self/ns/user").expect("own");
    assert_ne!(
        sh("readlink /proc/self/ns/user"),
        own.to_str().expect("link")
    );

    // With a terminal, too.
    for user in ["--user=root", "--user=app"] {
        let terminal = ann.exec(&root).opts([user, "--force-tty"]).pipes();
        let shown = terminal.sh("test -t 1 && echo yes > /dev/tty").text();
        assert_eq!(shown.trim(), "yes", "{user}");
    }

    // What is mounted at once and what is mounted later are the user's own directory.
    assert_eq!(sh("echo v > /data/file; stat -c %u /data/file"), "0");
    let later = format!("type=bind,src={},dst=/later,ro", volume.display());
    let add = ann.run(["subcontainer", "mount", "add"]);
    let _ = add.rootfs(&root).cmd([&later]).text();
    assert_eq!(sh("cat /later/file"), "v");
    assert_eq!(owner(volume.join("file")), (ann.uid, ann.uid));

    let (first, _) = GRANTED;
    let upper = ann.upper(&root);
    assert_eq!(
        owner(upper.join("home/app/mine")),
        (first + 999, first + 999)
    );
    assert_eq!(owner(upper.join("root/roots")), (ann.uid, ann.uid));
    assert_eq!(
        owner(ann.base().join("images/img/home/app")),
        (first + 999, first + 999)
    );

    // A second launch replaces the first, and what was written is still there.
    let second = ann.launch(&root).spawn();
    assert_eq!(launch.finish().code(), Some(0));
    assert_eq!(sh("cat /root/roots"), "y");
    second.signal(Signal::SIGTERM);
    assert_eq!(second.finish().code(), Some(0));
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn a_relative_root_filesystem_is_relative_to_the_callers_directory() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let root = ann.create();
    let launch = ann.launch(&root).spawn();
    let cd = format!("--wd={}", root.path.parent().expect("parent").display());
    let mut wrap = ann.wrap(ann.uid);
    wrap.insert(1, cd);
    let here = Rootfs {
        path: PathBuf::from(&root.guid),
        guid: root.guid.clone(),
    };
    let run = Run::new(binary()).verb(["subcontainer", "exec", "--env=PATH=/bin"]);
    assert_eq!(run.wrap(wrap).rootfs(&here).cmd(["id", "-u"]).text(), "0");
    drop(launch);
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn with_one_id_everything_is_the_users() {
    let Some(ann) = User::single() else { return };
    let told = ann.import_flat().err_text();
    assert!(told.contains("all files belong to one user"), "{told}");
    assert!(
        told.contains("newuidmap and newgidmap are not installed"),
        "{told}"
    );
    let root = ann.create();
    let launch = ann.launch(&root).spawn();
    let sh = |script: &str| ann.exec(&root).sh(script).text();
    assert_eq!(
        sh("id -u; echo x > /root/new; stat -c %u /home/app"),
        "0\n0"
    );
    let mine = (ann.uid, ann.uid);
    assert_eq!(owner(ann.upper(&root).join("root/new")), mine);
    assert_eq!(owner(ann.base().join("images/img/home/app")), mine);
    let other = ann.exec(&root).opt("--user=app").cmd(["id"]).done();
    other.expect_refused(&[125]);
    assert!(
        other.err_text().contains("not mapped"),
        "{}",
        other.err_text()
    );
    launch.signal(Signal::SIGTERM);
    let ended = launch.finish();
    assert_eq!(ended.code(), Some(0));
    let told = ended.err_text();
    assert!(
        told.contains("one user only, and the caller's groups"),
        "{told}"
    );
    ann.destroy(&root);
    ann.assert_nothing_left();
}

/// PID 1 has other ids than its launch, and ignores SIGTERM as every PID 1 without a handler does.
#[test]
fn a_killed_launch_and_destroy_take_a_container_of_any_user_away() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    for killed in [true, false] {
        let root = ann.create();
        let run = ann.launch(&root).opt("--user=app");
        let launch = run.cmd(["sleep", "1000"]).spawn();
        assert_eq!(ann.exec(&root).cmd(["id", "-u"]).text(), "0");
        if killed {
            launch.signal(Signal::SIGKILL);
        }
        ann.destroy(&root);
        drop(launch);
        ann.assert_nothing_left();
    }
}

#[test]
fn root_without_cap_sys_admin_keeps_every_id() {
    let Some(world) = World::new() else { return };
    let setpriv = tool("setpriv");
    let weak = |verb: &str| {
        let wrap = [
            setpriv.to_str().expect("path"),
            "--inh-caps=-sys_admin",
            "--bounding-set=-sys_admin",
        ];
        world.verb(verb).wrap(wrap)
    };
    let path = PathBuf::from(weak("create-fs").cmd(["img"]).text());
    let guid = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("guid")
        .to_owned();
    let root = Rootfs { path, guid };
    let launch = weak("launch").rootfs(&root).spawn();
    let exec = || weak("exec").opt("--env=PATH=/bin").rootfs(&root);
    let text = exec().opt("--user=app").sh("id -u; echo x > ~/mine").text();
    assert_eq!(text, "1000");
    let upper = world.data.join("containers").join(&root.guid).join("upper");
    assert_eq!(owner(upper.join("home/app/mine")), (1000, 1000));
    launch.signal(Signal::SIGTERM);
    assert_eq!(launch.finish().code(), Some(0));
    let _ = weak("destroy-fs").cmd([&root.guid]).text();
    assert!(!root.path.exists() && !upper.exists());
}

#[test]
fn a_launch_that_is_killed_at_any_moment_leaves_nothing() {
    let Some(ann) = User::granted() else { return };
    let _ = ann.import();
    let root = ann.create();
    let mut moments = Seeded::new(3);
    for _ in 0..12 {
        let launch = ann.launch(&root).spawn();
        spin(Duration::from_micros(moments.below(40_000)));
        launch.signal(Signal::SIGKILL);
    }
    ann.destroy(&root);
    ann.assert_nothing_left();
}

#[test]
fn the_state_is_where_the_login_has_made_room_for_it() {
    let login =
        "mount -t tmpfs none /run; mkdir -p -m 700 /run/user/$uid; chown $uid /run/user/$uid";
    let Some(ann) = User::new("", login) else {
        return;
    };
    let _ = ann.import();
    let root = ann.create();
    assert!(!ann.state().exists());
    ann.destroy(&root);
}
