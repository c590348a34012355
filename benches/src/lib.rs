//! Fixtures that the benchmarks share: what a client that checks a service's health every few seconds would send. And the
//! fuzzer of image archives.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub mod fuzz;

/// The words of a typical exec: an env-file, a user, a directory, a variable.
#[must_use]
pub fn exec_words(rootfs: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "subcontainer",
        "exec",
        "--env-file=/media/startos/images/main.env",
        "--user=app",
        "--workdir=/srv",
        "--env=LOG_LEVEL=info",
    ]
    .map(OsString::from)
    .into();
    words.push(rootfs.into());
    words.extend(["sh", "-c", "curl -fsS http://127.0.0.1/health"].map(OsString::from));
    words
}

/// A directory that looks like a root filesystem as far as planning looks: passwd and group of a Debian image.
#[derive(Debug)]
pub struct Rootfs(PathBuf);

impl Rootfs {
    /// Makes it below the system's directory for temporary files.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub fn new() -> io::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("start-container-bench-{}", std::process::id()));
        fs::create_dir_all(path.join("etc"))?;
        let (mut passwd, mut group) = (
            String::from("root:x:0:0:root:/root:/bin/sh\n"),
            String::from("root:x:0:\n"),
        );
        for id in 1..40 {
            passwd.push_str(&format!(
                "service{id}:x:{id}:{id}:service:/nonexistent:/usr/sbin/nologin\n"
            ));
            group.push_str(&format!("service{id}:x:{id}:\n"));
        }
        passwd.push_str("app:x:1000:1000:app:/home/app:/bin/sh\n");
        group.push_str("app:x:1000:\nmedia:x:2000:service7,app\n");
        fs::write(path.join("etc/passwd"), passwd)?;
        fs::write(path.join("etc/group"), group)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        // What is left of a temporary directory is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}
