//! Applies archives to the tree: each member's kind, what it replaces, and what a layer's whiteouts hide.
//!
//! The rules are those of image-spec layer.md. Where the members go is `tree`'s to enforce; what they contain is passed
//! through as it comes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, futimens, makedev, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{linkat, symlinkat};
use shim::{Error, Result};

use super::content::Content;
use super::copy;
use super::hide::Waiting;
use super::lower::{Entry, is_whiteout, kind};
use super::meta::{self, Rights};
use super::tree::{Directory, Tree, disk_hint, joined};
use crate::image::archive::{Archive, Kind, Mark, Member, Place, mark, show};
use crate::image::disk::flush::Flusher;
use crate::image::disk::remove::Names;
use crate::image::store::layers::contents::{Contents, Entry as Line};

/// What an archive's members mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Meaning {
    /// A whole root filesystem: every name is meant literally.
    Rootfs,
    /// The lowest layer: its whiteouts hide nothing.
    FirstLayer,
    /// A layer above others.
    Layer,
}

/// A directory's mode and time, which are set when nothing more is put into it.
#[derive(Debug)]
struct Late {
    path: Vec<u8>,
    mode: Mode,
    time: Option<TimeSpec>,
}

/// A tree being filled.
pub(in crate::image) struct Unpacker<'below> {
    pub(in crate::image) tree: Tree<'below>,
    /// By inode number: a directory that was replaced by another is found out by it.
    late: HashMap<u64, Late>,
    /// What the layer that is being applied to a whole root filesystem has made so far.
    pub(super) kept: Names,
    /// Whiteouts that are still to be applied.
    pub(super) waiting: Vec<Waiting>,
    /// What is in the tree, for who wants to compare it later.
    pub(in crate::image) contents: Contents,
    /// Whether the archive lists the root itself.
    pub(in crate::image) lists_root: bool,
    /// Whether a whole root filesystem has names that were marks in a layer.
    pub(in crate::image) literal_marks: bool,
    /// How many members were applied.
    pub(in crate::image) members: u64,
    /// How many bytes of file data were written.
    pub(in crate::image) bytes: u64,
    rights: Rights,
    flusher: &'below Flusher,
    /// How many devices and attributes were left out for want of rights.
    pub(in crate::image) left_out: LeftOut,
}

/// What is not in the tree although the archive has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::image) struct LeftOut {
    pub(in crate::image) devices: usize,
    pub(in crate::image) attributes: usize,
}

impl<'below> Unpacker<'below> {
    /// Fills `tree`, whose root gets mode 0755 unless an archive says otherwise.
    pub(in crate::image) fn new(
        tree: Tree<'below>,
        rights: Rights,
        contents: Contents,
        flusher: &'below Flusher,
    ) -> Self {
        let root = Late {
            path: Vec::new(),
            mode: Mode::from_bits_truncate(0o755),
            time: None,
        };
        let late = HashMap::from([(tree.root().inode, root)]);
        Self {
            tree,
            late,
            kept: Names::new(),
            waiting: Vec::new(),
            contents,
            lists_root: false,
            literal_marks: false,
            members: 0,
            bytes: 0,
            rights,
            flusher,
            left_out: LeftOut::default(),
        }
    }

    /// Applies all members of `archive`.
    pub(in crate::image) fn apply<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        meaning: Meaning,
    ) -> Result<()> {
        self.kept.clear();
        while let Some(member) = archive.next()? {
            let place = Place::parse(&member.name).map_err(|why| refused(&member, why))?;
            let hides = mark(&place);
            if meaning != Meaning::Rootfs {
                let hides = hides.map_err(|why| refused(&member, why))?;
                if hides != Mark::None {
                    self.hide(&member, &place, &hides, meaning)?;
                    continue;
                }
            } else if hides != Ok(Mark::None) {
                self.literal_marks = true;
            }
            self.put(archive, &member, &place, meaning)?;
            self.members += 1;
        }
        self.hide_waiting()
    }

    /// Sets what was left for the end. Deepest first, because a mode may keep us from entering.
    pub(in crate::image) fn settle(&mut self) -> Result<()> {
        let mut late: Vec<(u64, Late)> = std::mem::take(&mut self.late).into_iter().collect();
        late.sort_by_key(|(_, late)| {
            std::cmp::Reverse(late.path.iter().filter(|byte| **byte == b'/').count())
        });
        late.sort_by_key(|(_, late)| late.path.is_empty());
        for (inode, late) in late {
            let failed = |errno| {
                disk_hint(
                    Error::sys("finish directory of the image", show(&late.path), errno),
                    errno,
                )
            };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let directory = match self.tree.plain(&late.path, flags) {
                Ok(directory) => directory,
                // A later member replaced it.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            if fstat(&directory).map_err(failed)?.st_ino != inode {
                continue;
            }
            fchmod(&directory, late.mode).map_err(failed)?;
            if let Some(time) = late.time {
                futimens(&directory, &TimeSpec::UTIME_OMIT, &time).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Takes over the directories that the tree has made like those below: their time comes last as well.
    pub(super) fn take_made(&mut self) {
        for made in std::mem::take(&mut self.tree.made) {
            let path = made.directory.path.clone();
            let mut line = Line {
                kind: "dir",
                opaque: made.opaque,
                ..Line::default()
            };
            if let Some(stat) = made.stat {
                let mode = stat.st_mode & 0o7777;
                line.mode = Some(mode);
                line.owner = Some((stat.st_uid, stat.st_gid));
                let late = Late {
                    path: path.clone(),
                    mode: Mode::from_bits_truncate(mode),
                    time: Some(copy::time(&stat)),
                };
                self.late.insert(made.directory.inode, late);
                // Its attributes are those of the one below; they are read back at the end.
                self.tree.removed = true;
            }
            self.contents.add(&path, &line);
        }
    }

    fn put<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        member: &Member,
        place: &Place,
        meaning: Meaning,
    ) -> Result<()> {
        let Place::Below { parent, name } = place else {
            return self.put_root(member);
        };
        self.hide_before(parent)?;
        let directory = self.tree.directory(parent)?;
        self.take_made();
        self.left_out.attributes += meta::left_out(member, self.rights);
        match member.kind {
            Kind::File => self.put_file(archive, member, &directory, name)?,
            Kind::Directory => self.put_directory(member, &directory, name)?,
            Kind::HardLink => self.put_hard_link(member, &directory, name)?,
            Kind::Symlink => {
                self.create(member, &directory, name, || {
                    symlinkat(member.link.as_slice(), &directory, name.as_slice())
                })?;
                meta::on_special(&directory, name, member, self.rights)?;
                self.note(member, &directory.below(name), None);
            }
            Kind::Char | Kind::Block | Kind::Fifo => self.put_node(member, &directory, name)?,
        }
        if meaning == Meaning::Layer && !self.tree.is_layer() {
            self.kept.insert((directory.inode, name.as_slice().into()));
        }
        Ok(())
    }

    /// Writes down what was made of a member.
    fn note(&mut self, member: &Member, path: &[u8], sha256: Option<String>) {
        if !self.contents.is_wanted() {
            return;
        }
        let kind = match member.kind {
            Kind::File => "file",
            Kind::HardLink => "hard",
            Kind::Symlink => "link",
            Kind::Char => "char",
            Kind::Block => "block",
            Kind::Directory => "dir",
            Kind::Fifo => "fifo",
        };
        let is_device = matches!(member.kind, Kind::Char | Kind::Block);
        let line = Line {
            kind,
            mode: (member.kind != Kind::Symlink).then_some(member.mode & 0o7777),
            owner: Some(meta::effective_owner(member, self.rights)),
            time: Some(member.mtime),
            size: (member.kind == Kind::File).then_some(member.size),
            sha256,
            link: (member.kind == Kind::Symlink).then(|| member.link.clone()),
            device: is_device.then(|| (member.device.0.into(), member.device.1.into())),
            xattrs: meta::wanted(member, self.rights)
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect::<BTreeMap<_, _>>(),
            opaque: false,
        };
        self.contents.add(path, &line);
    }

    fn put_root(&mut self, member: &Member) -> Result<()> {
        if member.kind != Kind::Directory {
            return Err(refused(member, "the root of an image is a directory"));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&**self.tree.root(), ".", flags, Mode::empty());
        let root = File::from(root.map_err(|errno| meta::failed("open", member, errno))?);
        meta::on_directory(&root, member, true, self.rights)?;
        let late = Late {
            path: Vec::new(),
            mode: Mode::from_bits_truncate(member.mode),
            time: Some(meta::time(member)),
        };
        self.late.insert(self.tree.root().inode, late);
        self.lists_root = true;
        self.note(member, b"", None);
        Ok(())
    }

    fn put_file<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        member: &Member,
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = self.create(member, directory, name, || {
            openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        })?;
        let mut file = File::from(made);
        let failed = |error: &std::io::Error| match error.raw_os_error() {
            Some(raw) => meta::failed("write file", member, Errno::from_raw(raw)),
            None => Error::io("write file", show(&member.name), error)
                .hint("the image was not imported; nothing of it is left"),
        };
        let mut hash = self.contents.is_wanted().then(Content::default);
        if let Some(extents) = &member.extents {
            for extent in extents {
                let mut offset = extent.offset;
                if let Some(hash) = &mut hash {
                    hash.hole_until(offset);
                }
                archive.data(extent.length, |piece| {
                    file.write_all_at(piece, offset)
                        .map_err(|error| failed(&error))?;
                    if let Some(hash) = &mut hash {
                        hash.update(piece);
                    }
                    offset += piece.len() as u64;
                    self.flusher.wrote(piece.len() as u64);
                    Ok(())
                })?;
                self.bytes += extent.length;
            }
            file.set_len(member.size).map_err(|error| failed(&error))?;
            if let Some(hash) = &mut hash {
                hash.hole_until(member.size);
            }
        } else {
            archive.data(member.size, |piece| {
                if let Some(hash) = &mut hash {
                    hash.update(piece);
                }
                self.flusher.wrote(piece.len() as u64);
                file.write_all(piece).map_err(|error| failed(&error))
            })?;
            self.bytes += member.size;
        }
        meta::on_file(&file, member, self.rights)?;
        self.note(member, &directory.below(name), hash.map(Content::finish));
        Ok(())
    }

    fn put_directory(&mut self, member: &Member, directory: &Directory, name: &[u8]) -> Result<()> {
        let failed = |errno| meta::failed("make directory", member, errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let (mut existed, mut replaced) = (false, false);
        match mkdirat(directory, name, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let stat =
                    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
                existed = kind(&stat) == SFlag::S_IFDIR;
                replaced = !existed;
                if replaced {
                    self.hide_waiting()?;
                    self.tree.remove(directory, name).map_err(failed)?;
                    mkdirat(directory, name, Mode::S_IRWXU).map_err(failed)?;
                }
            }
            Err(errno) => return Err(failed(errno)),
        }
        let made = File::from(openat(directory, name, flags, Mode::empty()).map_err(failed)?);
        self.tree.is_own(directory, name);
        meta::on_directory(&made, member, existed, self.rights)?;
        self.note(member, &directory.below(name), None);
        if replaced && self.tree.is_layer() {
            // What was there before, a whiteout perhaps, has hidden what is below.
            self.tree.set_opaque(&made).map_err(failed)?;
            self.contents.opaque(&directory.below(name));
        }
        // The owner can always enter while the tree is being made; what the archive says comes at the end.
        let mode = Mode::from_bits_truncate(member.mode);
        fchmod(&made, mode | Mode::S_IRWXU).map_err(failed)?;
        let late = Late {
            path: directory.below(name),
            mode,
            time: Some(meta::time(member)),
        };
        self.late.insert(fstat(&made).map_err(failed)?.st_ino, late);
        Ok(())
    }

    /// Links `name` to an earlier member. A link's own header repeats what its target has, so nothing is set.
    fn put_hard_link(&mut self, member: &Member, directory: &Directory, name: &[u8]) -> Result<()> {
        let target = Place::parse(&member.link).map_err(|why| refused(member, why))?;
        let Place::Below {
            parent,
            name: target_name,
        } = &target
        else {
            return Err(refused(member, "a hard link leads to the root"));
        };
        let missing = || {
            refused(
                member,
                format!(
                    "a hard link leads to \"{}\", which is not there",
                    show(&member.link)
                ),
            )
        };
        self.hide_before(&joined(parent, target_name))?;
        let mut spot = self.tree.existing(parent)?.ok_or_else(missing)?;
        let look = |directory: &Directory, name: &[u8]| match fstatat(
            directory,
            name,
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(meta::failed("link", member, errno)),
        };
        let here = match &spot.own {
            Some(own) => look(own, target_name)?,
            None => None,
        };
        let target_stat = match here {
            Some(stat) if self.tree.is_layer() && is_whiteout(&stat) => return Err(missing()),
            Some(stat) => stat,
            None => match self
                .tree
                .below(&mut spot, target_name)?
                .ok_or_else(missing)?
            {
                Entry::Leaf(from, stat) => {
                    self.borrow_file(member, &spot.path, &from, &stat, target_name)?
                }
                Entry::Directory(_) => {
                    return Err(refused(member, "a hard link leads to a directory"));
                }
            },
        };
        let target_directory = self.tree.directory(&spot.path)?;
        if kind(&target_stat) == SFlag::S_IFDIR {
            return Err(refused(member, "a hard link leads to a directory"));
        }
        if look(directory, name)?.is_some_and(|stat| stat.st_ino == target_stat.st_ino) {
            return Ok(());
        }
        // Without AT_SYMLINK_FOLLOW a link at the end is itself what gets another name.
        self.create(member, directory, name, || {
            linkat(
                &*target_directory,
                target_name.as_slice(),
                directory,
                name,
                AtFlags::empty(),
            )
        })?;
        let line = Line {
            kind: "hard",
            link: Some(target_directory.below(target_name)),
            ..Line::default()
        };
        self.contents.add(&directory.below(name), &line);
        Ok(())
    }

    fn put_node(&mut self, member: &Member, directory: &Directory, name: &[u8]) -> Result<()> {
        let kind = match member.kind {
            Kind::Char => SFlag::S_IFCHR,
            Kind::Block => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        let device = makedev(member.device.0.into(), member.device.1.into());
        if member.kind == Kind::Char && device == 0 {
            return self.put_whiteout(member, directory, name);
        }
        let made = self.create(member, directory, name, || {
            mknodat(directory, name, kind, Mode::S_IRUSR, device)
        });
        match made {
            // The kernel keeps devices for root of the initial user namespace.
            Err(error) if member.kind != Kind::Fifo && error.raw_errno() == Some(Errno::EPERM) => {
                if matches!(self.rights, Rights::Root | Rights::NoMounts) {
                    return Err(error.hint("making devices needs the capability CAP_MKNOD"));
                }
                self.left_out.devices += 1;
                return Ok(());
            }
            other => other?,
        }
        meta::on_special(directory, name, member, self.rights)?;
        self.note(member, &directory.below(name), None);
        Ok(())
    }

    /// A device 0:0: overlay takes it for a whiteout, and nobody can open it anyway. So it is left out, also of a directory.
    fn put_whiteout(&mut self, member: &Member, directory: &Directory, name: &[u8]) -> Result<()> {
        self.left_out.devices += 1;
        self.hide_waiting()?;
        let failed = |errno| meta::failed("make device", member, errno);
        self.tree.remove(directory, name).map_err(failed)?;
        let hidden = match self.tree.existing(&directory.path)? {
            Some(mut spot) => self.tree.below(&mut spot, name)?.is_some(),
            None => false,
        };
        if hidden {
            self.tree.white_out(directory, name).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a name that must not lead anywhere that was there before: what has it is removed first, and `make` must fail
    /// where it exists.
    fn create<T>(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<T> {
        let mut made = make();
        if matches!(made, Err(Errno::EEXIST)) {
            self.hide_waiting()?;
            made = self.tree.remove(directory, name).and_then(|()| make());
        }
        self.tree.is_own(directory, name);
        made.map_err(|errno| {
            let op = match member.kind {
                Kind::File => "make file",
                Kind::HardLink => "link",
                Kind::Symlink => "make symbolic link",
                Kind::Char | Kind::Block => "make device",
                Kind::Fifo => "make named pipe",
                Kind::Directory => "make directory",
            };
            meta::failed(op, member, errno)
        })
    }
}

/// The error for a member that means nothing acceptable.
pub(super) fn refused(member: &Member, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new("unpack")
        .on(show(&member.name))
        .because(why)
        .hint("the archive is hostile or damaged; nothing of it is left")
}
