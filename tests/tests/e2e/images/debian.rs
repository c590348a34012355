//! An image like those that people use: Debian as debootstrap makes it, and layers above it that delete, replace and add.
//!
//! The lowest layer is made once and kept below the build directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::pack::{Tar, dir, file, hardlink, symlink};
use tests::{lacking, tool};

/// The release, and where it comes from.
const RELEASE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";

/// The layers, lowest first; nothing, which is said, where Debian cannot be reached.
pub(crate) fn layers() -> Option<Vec<Vec<u8>>> {
    let lowest = match lowest() {
        Ok(path) => fs::read(path).expect("the lowest layer"),
        Err(why) => {
            lacking(&why);
            return None;
        }
    };
    let deletes = Tar::of([
        dir("usr/share").mtime(10),
        file("usr/share/.wh.doc", ""),
        file("usr/share/.wh.man", ""),
        dir("etc/apt").mtime(11),
        file("etc/apt/.wh..wh..opq", ""),
        file("etc/apt/trusted.list", "only this\n"),
        file("usr/bin/.wh.perl", ""),
    ]);
    let replaces = Tar::of([
        dir("etc").mode(0o750).owner(0, 4).mtime(12),
        file("etc/hostname", "replaced\n").mode(0o600),
        file("etc/.wh.debian_version", ""),
        symlink("etc/issue", "hostname"),
        file("etc/skel", "a file instead of a directory\n"),
        dir("etc/motd").mtime(13),
        file("etc/motd/first", "a directory instead of a file\n"),
        hardlink("usr/bin/shell", "usr/bin/bash"),
        // Debian's /lib leads to /usr/lib, which this layer does not say.
        file("lib/new-in-usr", "by the link's name\n"),
        file("bin/.wh.sed", ""),
    ]);
    let adds = Tar::of([
        dir("srv/site").mode(0o2775).owner(33, 33).mtime(14),
        file("srv/site/index.html", "<p>\n".repeat(5000)).owner(33, 33),
        dir("usr/share/doc").mtime(15),
        file("usr/share/doc/.wh..wh..opq", ""),
        file("usr/share/.wh.doc", ""),
        hardlink("etc/bash.again", "etc/bash.bashrc"),
    ]);
    Some(vec![lowest, deletes, replaces, adds])
}

/// The archive of a minimal Debian.
fn lowest() -> Result<PathBuf, String> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
    let archive = kept.join(format!("{RELEASE}.tar"));
    let failed = |what: &str| format!("needs a Debian: {what}");
    fs::create_dir_all(&kept).map_err(|error| failed(&error.to_string()))?;
    let lock = File::create(kept.join("lock")).map_err(|error| failed(&error.to_string()))?;
    // Whoever comes second waits for the first to have made it.
    lock.lock().map_err(|error| failed(&error.to_string()))?;
    if archive.exists() {
        return Ok(archive);
    }
    let made = kept.join("root");
    let _ = fs::remove_dir_all(&made);
    let command = |program: &str| {
        let mut command = Command::new(tool(program));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    run(command("debootstrap")
        .args(["--variant=minbase", RELEASE])
        .arg(&made)
        .arg(MIRROR))?;
    let temporary = archive.with_extension("tmp");
    run(command("tar")
        .args(["--format=pax", "--xattrs", "--xattrs-include=*"])
        .args(["--numeric-owner", "--sort=name", "--create", "--file"])
        .arg(&temporary)
        .arg("--directory")
        .arg(&made)
        .arg("."))?;
    fs::rename(&temporary, &archive).map_err(|error| failed(&error.to_string()))?;
    let _ = fs::remove_dir_all(&made);
    Ok(archive)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Err(format!(
        "{command:?} ended with {}: {last:?}",
        output.status
    ))
}
