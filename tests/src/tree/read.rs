//! Reads a tree, name by name.
//!
//! Nothing is read by a path that a tree has a say in: every directory is opened from the top with links forbidden, and
//! every name is looked at through a descriptor of itself, so that names may have any byte and paths any length.

use std::collections::BTreeMap;
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

use super::{Node, show};

/// The longest piece of a path that is opened at once; the kernel takes 4,095 bytes.
const PIECE: usize = 4000;
/// The unit in which content is compared with zeros.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Every name below `top`, itself included.
pub(super) fn nodes(top: &Path) -> BTreeMap<Vec<u8>, Node> {
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
    nodes
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
