//! What a directory tree is made of, read name by name, and the first differences between two of them.
//!
//! Nothing is read by a path that a tree has a say in: every directory is opened from the top with links forbidden, and
//! every name is looked at through a descriptor of itself, so that names may have any byte and paths any length. A file's
//! content counts, not where its holes are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use nix::unistd::{Whence, lseek};
use sha2::{Digest, Sha256};

/// The longest piece of a path that is opened at once; the kernel takes 4,095 bytes.
const PIECE: usize = 4000;
/// The unit in which content is compared with zeros.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// How many differences are told.
const TOLD: usize = 20;

/// Every name of a tree and what it is. The top is called `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<Vec<u8>, Node>);

/// What one name is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
    /// Of a file, its length; of anything else 0, because a directory's depends on the filesystem.
    size: i64,
    /// A file's digest, a link's target, a device's numbers.
    content: String,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first of the names that it has in this tree, if these are several.
    first_name: Option<String>,
}

impl Tree {
    /// Reads the tree below `top`.
    ///
    /// # Panics
    /// When something in it cannot be read.
    #[must_use]
    pub fn of(top: &Path) -> Self {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(top, flags, Mode::empty())
            .unwrap_or_else(|errno| panic!("{}: {errno}", top.display()));
        let mut nodes = BTreeMap::from([(b".".to_vec(), node(&root, b"."))]);
        let mut names: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
        let mut open = vec![Vec::new()];
        while let Some(path) = open.pop() {
            let directory = descend(&root, &path);
            for name in list(&directory) {
                let whole = if path.is_empty() {
                    name.clone()
                } else {
                    [&path, &b"/"[..], &name].concat()
                };
                let found = node(&directory, &name);
                if found.kind == "directory" {
                    open.push(whole.clone());
                } else {
                    let stat = stat(&directory, &name);
                    names
                        .entry((stat.st_dev, stat.st_ino))
                        .or_default()
                        .push(whole.clone());
                }
                nodes.insert(whole, found);
            }
        }
        for group in names.into_values().filter(|group| group.len() > 1) {
            let first = group.iter().min().map(|name| show(name));
            for name in group {
                if let Some(node) = nodes.get_mut(&name) {
                    node.first_name.clone_from(&first);
                }
            }
        }
        Self(nodes)
    }

    /// How many names it has, the top included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no name, which no tree that was read is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same without the attributes whose names begin with one of these.
    #[must_use]
    pub fn without_xattrs(mut self, prefixes: &[&str]) -> Self {
        for node in self.0.values_mut() {
            node.xattrs
                .retain(|name, _| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
        }
        self
    }

    /// The same without these names.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        for name in names {
            self.0.remove(name.as_bytes());
        }
        self
    }

    /// The same with the time of the top set to 0.
    #[must_use]
    pub fn without_time_of_top(mut self) -> Self {
        if let Some(top) = self.0.get_mut(&b"."[..]) {
            top.mtime = (0, 0);
        }
        self
    }

    /// Whether a name is there.
    #[must_use]
    pub fn has(&self, name: impl AsRef<[u8]>) -> bool {
        self.0.contains_key(name.as_ref())
    }

    /// What the tree is, a line for each name.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, node)| format!("{} {node}", show(name)))
            .collect()
    }

    /// What the tree is but for owners and times, a few words for each name.
    #[must_use]
    pub fn shape(&self) -> Vec<String> {
        let one = |(name, node): (&Vec<u8>, &Node)| {
            let content = match node.kind {
                "file" => node.size.to_string(),
                _ => node.content.clone(),
            };
            let mut words = vec![show(name), node.kind.into(), format!("{:04o}", node.mode)];
            words.push(content);
            words.extend(node.xattrs.keys().cloned());
            words.extend(node.first_name.iter().map(|name| format!("=={name}")));
            words.retain(|word| !word.is_empty());
            words.join(" ")
        };
        self.0.iter().map(one).collect()
    }

    /// The names in which the trees differ, and how, in order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            match (self.0.get(name), other.0.get(name)) {
                (Some(one), Some(two)) if one == two => {}
                (one, two) => {
                    let word =
                        |node: Option<&Node>| node.map_or("is not there".into(), Node::to_string);
                    found.push(format!("{}: {} | {}", show(name), word(one), word(two)));
                }
            }
        }
        found
    }

    /// Expects both to be the same.
    ///
    /// # Panics
    /// With the first differences.
    pub fn assert_same(&self, own: &str, other: &Self, others: &str) {
        let all = self.differences(other);
        let first: Vec<&String> = all.iter().take(TOLD).collect();
        assert!(
            all.is_empty(),
            "{own} | {others} differ in {} of {} names: {first:#?}",
            all.len(),
            self.len()
        );
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:04o} {}:{} {}.{:09}",
            self.kind, self.mode, self.owner.0, self.owner.1, self.mtime.0, self.mtime.1
        )?;
        if self.kind == "file" {
            write!(f, " {}", self.size)?;
        }
        if !self.content.is_empty() {
            write!(f, " {}", self.content)?;
        }
        for (name, value) in &self.xattrs {
            write!(f, " {name}={}", value.escape_ascii())?;
        }
        if let Some(first) = &self.first_name {
            write!(f, " =={first}")?;
        }
        Ok(())
    }
}

/// Bytes of a name, all of them legible.
#[must_use]
pub fn show(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// Opens the directory `path` below `root`, piece by piece, through no link.
fn descend(root: &OwnedFd, path: &[u8]) -> OwnedFd {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let open = |at: &OwnedFd, piece: &[u8]| {
        openat2(at, piece, how).unwrap_or_else(|errno| panic!("open {}: {errno}", show(path)))
    };
    let mut here = open(root, b".");
    let mut piece: Vec<u8> = Vec::new();
    for part in path.split(|byte| *byte == b'/').filter(|p| !p.is_empty()) {
        if piece.len() + part.len() > PIECE {
            here = open(&here, &piece);
            piece.clear();
        }
        if !piece.is_empty() {
            piece.push(b'/');
        }
        piece.extend_from_slice(part);
    }
    if piece.is_empty() {
        here
    } else {
        open(&here, &piece)
    }
}

fn list(directory: &OwnedFd) -> Vec<Vec<u8>> {
    let own = openat(
        directory,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let mut listing = Dir::from_fd(own.expect("directory")).expect("directory");
    listing
        .iter()
        .map(|entry| entry.expect("list").file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect()
}

fn stat(directory: &OwnedFd, name: &[u8]) -> FileStat {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .unwrap_or_else(|errno| panic!("stat {}: {errno}", show(name)))
}

fn node(directory: &OwnedFd, name: &[u8]) -> Node {
    let failed = |errno: Errno| -> ! { panic!("{}: {errno}", show(name)) };
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let itself =
        openat(directory, name, flags, Mode::empty()).unwrap_or_else(|errno| failed(errno));
    let stat = fstat(&itself).unwrap_or_else(|errno| failed(errno));
    let format = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let numbers = || format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
    let (kind, content) = match format {
        SFlag::S_IFDIR => ("directory", String::new()),
        SFlag::S_IFLNK => {
            let target = readlinkat(&itself, "").unwrap_or_else(|errno| failed(errno));
            let target = target.as_encoded_bytes().escape_ascii().to_string();
            ("link", format!("-> {target}"))
        }
        SFlag::S_IFIFO => ("fifo", String::new()),
        SFlag::S_IFSOCK => ("socket", String::new()),
        SFlag::S_IFCHR => ("char", numbers()),
        SFlag::S_IFBLK => ("block", numbers()),
        _ => ("file", digest(&itself)),
    };
    Node {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        size: if kind == "file" { stat.st_size } else { 0 },
        content,
        xattrs: xattrs(&itself),
        first_name: None,
    }
}

/// The attributes of what the descriptor is; the magic link leads to just that, also where it is a symbolic link.
fn xattrs(itself: &OwnedFd) -> BTreeMap<String, Vec<u8>> {
    let path = format!("/proc/self/fd/{}", itself.as_raw_fd());
    let names = xattr::list_deref(&path).unwrap_or_else(|error| panic!("attributes: {error}"));
    names
        .map(|name| {
            let value = xattr::get_deref(&path, &name).expect("attribute");
            (show(name.as_encoded_bytes()), value.unwrap_or_default())
        })
        .collect()
}

/// The digest of every block that is not all zeros, with its place: a hole and zeros are the same.
fn digest(itself: &OwnedFd) -> String {
    let path = format!("/proc/self/fd/{}", itself.as_raw_fd());
    let file = File::open(path).expect("open file");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * BLOCK];
    let mut at = 0;
    while let Ok(data) = lseek(file.as_fd(), at, Whence::SeekData) {
        at = data - data % i64::try_from(BLOCK).expect("small");
        let end = lseek(file.as_fd(), data, Whence::SeekHole).expect("the end is a hole");
        while at < end {
            let count = file
                .read_at(&mut buffer, at.unsigned_abs())
                .expect("read file");
            if count == 0 {
                break;
            }
            // Blocks lie where they lie, however much one read gives.
            let whole = count - if count > BLOCK { count % BLOCK } else { 0 };
            for (number, block) in buffer[..whole].chunks(BLOCK).enumerate() {
                if *block != ZEROS[..block.len()] {
                    let place = at.unsigned_abs() + (number * BLOCK) as u64;
                    hash.update(place.to_le_bytes());
                    hash.update(block);
                }
            }
            at += i64::try_from(whole).expect("small");
        }
    }
    format!("{:.16}", format!("{:x}", hash.finalize()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    struct Pair(PathBuf);

    impl Drop for Pair {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Pair {
        /// Two equal trees, and what they differ in after `change` has been done to the second.
        fn after(name: &str, change: impl Fn(&Path)) -> Vec<String> {
            let pair =
                Self(std::env::temp_dir().join(format!("tree-{name}-{}", std::process::id())));
            for top in ["one", "two"] {
                let top = pair.0.join(top);
                fs::create_dir_all(top.join("d")).expect("directory");
                fs::write(top.join("d/f"), [&[1; 5000][..], &[0; 9000]].concat()).expect("file");
                fs::write(top.join("g"), "text").expect("file");
                fs::hard_link(top.join("g"), top.join("h")).expect("link");
                symlink("d/f", top.join("l")).expect("link");
            }
            change(&pair.0.join("two"));
            for top in ["one", "two"] {
                for name in ["d/f", "g", "l", "d", "new", "."] {
                    let at = nix::sys::time::TimeSpec::new(1, 2);
                    let path = pair.0.join(top).join(name);
                    let no = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
                    let _ = nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, &path, &at, &at, no);
                }
            }
            let tree = |top| Tree::of(&pair.0.join(top));
            tree("one").differences(&tree("two"))
        }
    }

    #[test]
    fn what_is_the_same_is_the_same() {
        assert_eq!(Pair::after("same", |_| {}), [""; 0]);
        let sparse = |two: &Path| {
            fs::write(two.join("d/f"), [1; 5000]).expect("file");
            let file = File::options().write(true).open(two.join("d/f"));
            file.expect("file").set_len(14_000).expect("length");
        };
        assert_eq!(Pair::after("sparse", sparse), [""; 0]);
    }

    #[test]
    fn every_difference_is_found() {
        let found = |name, change: &dyn Fn(&Path)| {
            let found = Pair::after(name, change);
            assert!(!found.is_empty(), "{name}");
            found
        };
        let _ = found("content", &|two| {
            fs::write(two.join("g"), "tex2").expect("file")
        });
        let _ = found("size", &|two| {
            let file = File::options().write(true).open(two.join("d/f"));
            file.expect("file").set_len(14_001).expect("length");
        });
        let _ = found("mode", &|two| {
            let mode = fs::Permissions::from_mode(0o4755);
            fs::set_permissions(two.join("d"), mode).expect("mode");
        });
        let _ = found("target", &|two| {
            fs::remove_file(two.join("l")).expect("remove");
            symlink("d/g", two.join("l")).expect("link");
        });
        let _ = found("attribute", &|two| {
            xattr::set(two.join("d/f"), "user.a", b"1").expect("attribute");
        });
        let links = found("links", &|two| {
            fs::remove_file(two.join("h")).expect("remove");
            fs::copy(two.join("g"), two.join("h")).expect("copy");
        });
        assert!(links.iter().any(|line| line.contains("==g")), "{links:?}");
        let more = found("more", &|two| {
            fs::write(two.join("new"), "").expect("file");
        });
        assert!(more[0].starts_with("new: is not there | file"), "{more:?}");
    }
}
