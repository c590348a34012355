//! Builds the root filesystem that the tests run in: a static busybox, a few users, nothing else.
//!
//! Made with plain files, without the runtime's own import, so that a fault there does not hide one elsewhere.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::run::Run;
use crate::world::tool;

/// Users of the image; `1001` is a name on purpose, with another number.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:App:/home/app:/bin/sh
1001:x:2002:2002:a name of digits:/home/digits:/bin/sh
solo:x:3000:3000::/home/solo:/bin/sh
";

const GROUP: &str = "root:x:0:
wheel:x:10:app
audio:x:29:app,root
staff:x:50:
app:x:1000:
solo:x:3000:
";

/// A directory to be filled.
#[derive(Debug)]
pub struct Image {
    dir: PathBuf,
    env: PathBuf,
    json: PathBuf,
}

impl Image {
    /// `PARENT/ID`, `PARENT/ID.env` and `PARENT/ID.json`.
    #[must_use]
    pub fn at(parent: &Path, id: &str) -> Self {
        Self {
            dir: parent.join(id),
            env: parent.join(format!("{id}.env")),
            json: parent.join(format!("{id}.json")),
        }
    }

    /// Writes the users and the directories only: enough for a plan, and possible without root.
    ///
    /// # Panics
    /// When a file cannot be made.
    pub fn users_only(&self) {
        for name in ["bin", "etc", "proc", "tmp"] {
            fs::create_dir_all(self.dir.join(name)).expect("directory");
        }
        write_file(self.dir.join("etc/passwd"), PASSWD);
        write_file(self.dir.join("etc/group"), GROUP);
    }

    /// Writes it.
    ///
    /// # Panics
    /// When a file cannot be made or busybox-static is not installed.
    pub fn build(&self) {
        let dir = &self.dir;
        for name in [
            "bin", "dev", "etc", "home/app", "mnt", "proc", "root", "run", "sys", "tmp", "var/log",
        ] {
            fs::create_dir_all(dir.join(name)).expect("directory");
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("mode");
        fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("mode");
        chown(dir.join("home/app"), Some(1000), Some(1000)).expect("chown");
        fs::copy("/bin/busybox", dir.join("bin/busybox"))
            .expect("copy /bin/busybox; `cargo xtask test` installs busybox-static");
        for applet in applets() {
            if applet != "busybox" {
                symlink("busybox", dir.join("bin").join(applet)).expect("symlink");
            }
        }
        write_file(dir.join("etc/passwd"), PASSWD);
        write_file(dir.join("etc/group"), GROUP);
        for (name, minor) in [("null", 3), ("zero", 5)] {
            let all = Mode::from_bits_truncate(0o666);
            mknod(
                &dir.join("dev").join(name),
                SFlag::S_IFCHR,
                all,
                makedev(1, minor),
            )
            .expect("mknod");
            fs::set_permissions(
                dir.join("dev").join(name),
                fs::Permissions::from_mode(0o666),
            )
            .expect("mode");
        }
        for (name, target) in [
            ("fd", "fd"),
            ("stdin", "fd/0"),
            ("stdout", "fd/1"),
            ("stderr", "fd/2"),
        ] {
            symlink(format!("/proc/self/{target}"), dir.join("dev").join(name)).expect("symlink");
        }
        write_file(
            &self.env,
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nFROM_IMAGE=yes\n",
        );
        write_file(
            &self.json,
            r#"{"user":"root","workdir":"/","entrypoint":[],"cmd":["sh"]}"#,
        );
    }
}

/// Writes a file with mode 0644, making its directory.
///
/// # Panics
/// When it cannot.
pub fn write_file(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("mode");
}

/// The names that busybox answers to.
fn applets() -> &'static [String] {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let output = Command::new("/bin/busybox")
            .arg("--list")
            .output()
            .expect("run /bin/busybox; `cargo xtask test` installs busybox-static");
        String::from_utf8(output.stdout)
            .expect("names")
            .lines()
            .map(str::to_owned)
            .collect()
    })
}

/// Packs a directory with mksquashfs.
///
/// # Panics
/// When that fails.
pub fn squashfs(directory: &Path, file: &Path) {
    let options = ["-quiet", "-no-progress", "-noappend"];
    let _ = Run::new(tool("mksquashfs"))
        .cmd([directory, file])
        .cmd(options)
        .text();
}

/// Packs a directory with mkfs.erofs.
///
/// # Panics
/// When that fails.
pub fn erofs(directory: &Path, file: &Path) {
    let _ = Run::new(tool("mkfs.erofs"))
        .cmd(["--quiet"])
        .cmd([file, directory])
        .text();
}
