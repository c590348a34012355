//! A directory for one test, with a base to import to and a sentinel tree beside it that no import may change.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use runtime::ids::ImageId;
use runtime::image::{ImportRequest, Imported, import};

use crate::pack::sha256;
use crate::twin;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Removed when the test ends, however it ends.
pub(crate) struct Place {
    pub(crate) top: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        // The file system's own removal does not follow links either.
        let _ = fs::remove_dir_all(&self.top);
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let top =
            std::env::temp_dir().join(format!("image-import-{}-{number}", std::process::id()));
        fs::create_dir(&top).unwrap();
        let sentinel = top.join("sentinel");
        fs::create_dir(&sentinel).unwrap();
        fs::create_dir(sentinel.join("sub")).unwrap();
        fs::write(sentinel.join("victim"), "untouched").unwrap();
        fs::write(sentinel.join("sub/inner"), "untouched").unwrap();
        fs::set_permissions(sentinel.join("victim"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(sentinel.join("sub"), fs::Permissions::from_mode(0o710)).unwrap();
        symlink("victim", sentinel.join("link")).unwrap();
        Self { top }
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.top.join("base")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.top.join("data")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.base().join("images")
    }

    pub(crate) fn sentinel(&self) -> PathBuf {
        self.top.join("sentinel")
    }

    /// Writes a source file; its name says nothing of its kind.
    pub(crate) fn source(&self, data: &[u8]) -> PathBuf {
        let path = self.top.join(format!("source-{}", sha256(data)));
        fs::write(&path, data).unwrap();
        path
    }

    /// A request that does not wait for the disk.
    pub(crate) fn request(&self, source: impl Into<PathBuf>) -> ImportRequest {
        ImportRequest {
            durable: false,
            flat: true,
            ..ImportRequest::new(source, id("img"), self.base(), self.data())
        }
    }

    /// Imports into one directory, and as layers, which must come to the same.
    pub(crate) fn import(&self, data: &[u8]) -> shim::Result<Imported> {
        let request = self.request(self.source(data));
        let flat = import(&request);
        twin::check(self, &request, &flat);
        flat
    }

    /// Imports and lists the result.
    pub(crate) fn unpacked(&self, data: &[u8]) -> Vec<String> {
        let imported = self.import(data).unwrap();
        list(&imported.root)
    }

    /// Every name in the store, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.images()).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// All that an import could change outside its base: names, kinds, modes, owners, sizes, times and contents.
    pub(crate) fn outside(&self) -> Vec<String> {
        let mut lines = Vec::new();
        walk(&self.sentinel(), Path::new(""), &mut |path, relative| {
            let stat = fs::symlink_metadata(path).unwrap();
            lines.push(format!(
                "{} {}.{} {}",
                line(path, relative),
                stat.mtime(),
                stat.mtime_nsec(),
                stat.ctime_nsec()
            ));
        });
        lines
    }
}

pub(crate) fn id(name: &str) -> ImageId {
    ImageId::new(name).unwrap()
}

/// One line for each name below `root`: `path kind mode uid:gid size links [content]`, without times.
pub(crate) fn list(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut |path, relative| {
        lines.push(line(path, relative))
    });
    lines
}

/// The modification time of each name below `root` as `path seconds.nanoseconds`.
pub(crate) fn times(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, Path::new(""), &mut |path, relative| {
        let stat = fs::symlink_metadata(path).unwrap();
        lines.push(format!(
            "{} {}.{:09}",
            relative.display(),
            stat.mtime(),
            stat.mtime_nsec()
        ));
    });
    lines
}

/// Hands every path below `path`, and what it is below the top, to `each`.
pub(crate) fn walk(path: &Path, relative: &Path, each: &mut dyn FnMut(&Path, &Path)) {
    each(path, relative);
    if fs::symlink_metadata(path).unwrap().is_dir() {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            walk(&path.join(&name), &relative.join(&name), each);
        }
    }
}

fn line(path: &Path, relative: &Path) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let name = relative.as_os_str().as_bytes().escape_ascii();
    let (kind, content) = match stat.mode() & 0o170_000 {
        0o040_000 => ("dir", String::new()),
        0o120_000 => ("link", fs::read_link(path).unwrap().display().to_string()),
        0o010_000 => ("fifo", String::new()),
        0o020_000 => ("char", device(stat.rdev())),
        0o060_000 => ("block", device(stat.rdev())),
        _ => ("file", content(path)),
    };
    let mut line = format!(
        "/{name} {kind} {:04o} {}:{}",
        stat.mode() & 0o7777,
        stat.uid(),
        stat.gid()
    );
    if kind == "file" {
        write!(line, " {} n{}", stat.len(), stat.nlink()).unwrap();
    }
    if !content.is_empty() {
        write!(line, " {content}").unwrap();
    }
    for name in xattr::list(path).unwrap() {
        let value = xattr::get(path, &name).unwrap().unwrap_or_default();
        write!(line, " {}={}", name.display(), value.escape_ascii()).unwrap();
    }
    line
}

fn device(rdev: u64) -> String {
    format!(
        "{}:{}",
        nix::sys::stat::major(rdev),
        nix::sys::stat::minor(rdev)
    )
}

/// Short text as it is, anything else by its digest.
fn content(path: &Path) -> String {
    let data = fs::read(path).unwrap();
    if data.len() <= 40 {
        data.escape_ascii().to_string()
    } else {
        sha256(&data)
    }
}

/// Whether this is root of the initial user namespace, where owners, devices and all attributes can be set. Without it a
/// test says that it was not run, and fails where everything was asked for.
pub(crate) fn is_root(test: &str) -> bool {
    let root = may_mount();
    if !root {
        assert!(
            std::env::var("REQUIRE").as_deref() != Ok("all"),
            "{test} needs root"
        );
        #[expect(clippy::print_stderr, reason = "a test that was not run says so")]
        {
            eprintln!("{test}: not run, needs root");
        }
    }
    root
}

/// Whether overlay can be mounted here; the trees of layers are not compared otherwise.
pub(crate) fn may_mount() -> bool {
    nix::unistd::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}
