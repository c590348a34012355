//! Applies archives to the tree: member after member, what a layer's whiteouts hide, and what is set at the end.
//!
//! The rules are those of image-spec layer.md. Where the members go is `tree`'s to enforce; what they contain is passed
//! through as it comes.

mod members;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use shim::error::errno_of;
use shim::{Error, Result};
use xattr::FileExt;

use super::copy;
use super::hide::Waiting;
use super::late::{Late, LateList};
use super::meta::{self, Rights};
use super::tree::Tree;
use crate::attributes::DEFAULT_ACL;
use crate::image::archive::{Archive, Kind, Mark, Member, Place, mark, show};
use crate::image::disk::flush::Flusher;
use crate::image::disk::{Names, disk_hint};
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

impl Meaning {
    /// That of an image's layer, by its place from below.
    pub(in crate::image) fn of_layer(number: usize) -> Self {
        match number {
            0 => Self::FirstLayer,
            _ => Self::Layer,
        }
    }
}

/// A tree being filled.
pub(in crate::image) struct Unpacker<'below> {
    pub(in crate::image) tree: Tree<'below>,
    /// The directories, which get mode, time and default ACL when nothing more is put into them.
    late: LateList,
    /// What the layer that is being applied to a whole root filesystem has made so far.
    pub(super) kept: Names,
    /// Whiteouts that are still to be applied.
    pub(super) waiting: Waiting,
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
            inode: tree.root().inode,
            mode: Mode::from_bits_truncate(0o755),
            time: None,
            default_acl: None,
        };
        Self {
            late: LateList::new(root, tree.room / 4),
            kept: Names::new(tree.room / 2),
            tree,
            waiting: Waiting::default(),
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
        let late = std::mem::take(&mut self.late);
        let root = self.tree.root().as_fd();
        late.each(
            root,
            |error| late_failed(errno_of(error)),
            |late, may_repeat| {
                let failed = |errno| {
                    disk_hint(
                        Error::sys("finish directory of the image", show(&late.path), errno),
                        errno,
                    )
                };
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
                let directory = match self.tree.plain(&late.path, flags) {
                    Ok(directory) => File::from(directory),
                    // A later member replaced it.
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
                    Err(errno) => return Err(failed(errno)),
                };
                if fstat(&directory).map_err(failed)?.st_ino != late.inode {
                    return Ok(());
                }
                let set = match &late.default_acl {
                    Some(acl) => directory.set_xattr(DEFAULT_ACL, acl),
                    None if may_repeat => no_default_acl(&directory),
                    None => Ok(()),
                };
                set.map_err(|error| failed(errno_of(&error)))?;
                fchmod(&directory, late.mode).map_err(failed)?;
                if let Some(time) = late.time {
                    futimens(&directory, &TimeSpec::UTIME_OMIT, &time).map_err(failed)?;
                }
                Ok(())
            },
        )
    }

    /// Takes note of what is to be set on a directory at the end.
    pub(super) fn set_late(&mut self, late: Late) -> Result<()> {
        let kept = self.late.insert(late, self.tree.root().as_fd());
        kept.map_err(|error| late_failed(errno_of(&error)))
    }

    /// Takes over the directories that the tree has made like those below: their time comes last as well.
    pub(super) fn take_made(&mut self) -> Result<()> {
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
                self.set_late(Late {
                    path: path.clone(),
                    inode: made.directory.inode,
                    mode: Mode::from_bits_truncate(mode),
                    time: Some(copy::time(&stat)),
                    default_acl: made.default_acl,
                })?;
                // Its attributes are those of the one below; they are read back at the end.
                self.tree.removed = true;
            }
            self.contents.add(&path, &line);
        }
        Ok(())
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
        self.take_made()?;
        self.left_out.attributes += meta::left_out(member, self.rights);
        match member.kind {
            Kind::File => self.put_file(archive, member, &directory, name)?,
            Kind::Directory => self.put_directory(member, &directory, name)?,
            Kind::HardLink => self.put_hard_link(member, &directory, name)?,
            Kind::Symlink => self.put_symlink(member, &directory, name)?,
            Kind::Char | Kind::Block | Kind::Fifo => self.put_node(member, &directory, name)?,
        }
        if meaning == Meaning::Layer && !self.tree.is_layer() {
            let kept = self.kept.insert(directory.inode, name, &**self.tree.root());
            kept.map_err(|errno| meta::failed("take note of", member, errno))?;
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
}

/// Takes away what a directory may have been given before.
fn no_default_acl(directory: &File) -> std::io::Result<()> {
    match directory.remove_xattr(DEFAULT_ACL) {
        Err(error) if matches!(errno_of(&error), Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(()),
        done => done,
    }
}

/// The failure to write down the directories, or to read what was written.
fn late_failed(errno: Errno) -> Error {
    disk_hint(
        Error::sys("take note of directories of", "image", errno),
        errno,
    )
}

/// The error for a member that means nothing acceptable.
pub(super) fn refused(member: &Member, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new("unpack")
        .on(show(&member.name))
        .because(why)
        .hint("the archive is hostile or damaged; nothing of it is left")
}
