//! Random access to the files of an image archive: a directory, or a tar whose members' places are known.
//!
//! Names come from the archive itself, so a name is looked up inside it and nowhere else.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use shim::{Error, Result};

use super::document;
use crate::image::archive::{Archive, Kind, Place, read_failed, show};
use crate::image::disk::resolve_in;
use crate::image::stream::{Section, buffered, skip_section};

/// An archive with more members than this is no image archive but a root filesystem.
const MEMBERS_MAX: usize = 1 << 16;
/// So is one whose names take more than this, in bytes.
const NAMES_MAX: usize = 8 << 20;
/// The most links from name to name.
const LINKS_MAX: usize = 40;

/// Where a tar's member is.
#[derive(Debug, Clone)]
enum Slot {
    Data { offset: u64, length: u64 },
    Link(Vec<u8>),
    Sparse,
}

#[derive(Debug)]
enum Files {
    Directory(OwnedFd),
    Tar(Section, HashMap<Vec<u8>, Slot>),
}

/// The files of an image archive.
#[derive(Debug)]
pub(in crate::image) struct Bundle {
    label: String,
    files: Files,
}

impl Bundle {
    /// The files of a directory.
    pub(super) fn directory(directory: OwnedFd, label: &str) -> Self {
        Self {
            label: label.into(),
            files: Files::Directory(directory),
        }
    }

    /// The members of an uncompressed tar; nothing if there are too many for an image archive.
    pub(super) fn tar(section: &Section, label: &str) -> Result<Option<Self>> {
        let mut archive = Archive::with_skip(buffered(section.clone()), label, skip_section);
        let mut slots = HashMap::new();
        let mut names = 0;
        while let Some(member) = archive.next()? {
            names += member.name.len() + member.link.len();
            if slots.len() >= MEMBERS_MAX || names > NAMES_MAX {
                return Ok(None);
            }
            let Ok(Place::Below { parent, name }) = Place::parse(&member.name) else {
                continue;
            };
            let whole = Place::Below {
                parent: parent.clone(),
                name,
            }
            .whole()
            .into_owned();
            let slot = match member.kind {
                Kind::File if member.extents.is_some() => Slot::Sparse,
                Kind::File => Slot::Data {
                    offset: member.offset,
                    length: member.size,
                },
                // docker before 1.10 stored equal layers once, and links to them.
                Kind::Symlink => Slot::Link(joined(&parent, &member.link)),
                Kind::HardLink => Slot::Link(joined(b"", &member.link)),
                Kind::Char | Kind::Block | Kind::Directory | Kind::Fifo => continue,
            };
            slots.insert(whole, slot);
        }
        Ok(Some(Self {
            label: label.into(),
            files: Files::Tar(section.clone(), slots),
        }))
    }

    /// The name of the archive, for messages.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The content of the file `name`, if it is there.
    pub(super) fn find(&self, name: &str) -> Result<Option<Section>> {
        match &self.files {
            Files::Directory(directory) => self.find_in_directory(directory, name),
            Files::Tar(section, slots) => self.find_in_tar(section, slots, name),
        }
    }

    /// The content of the file `name`, which must be there.
    pub(super) fn get(&self, name: &str) -> Result<Section> {
        self.find(name)?.ok_or_else(|| {
            self.failed(name)
                .because("it is not in the archive")
                .hint("the archive is incomplete; fetch or export it again")
        })
    }

    /// The whole of a small file.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let section = self.get(name)?;
        if let Some(why) = document::too_large(section.length()) {
            return Err(document::refused(self.failed(name), why));
        }
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut section.clone(), &mut data)
            .map_err(|error| read_failed(&self.label, &error))?;
        match document::too_many_words(&data) {
            Some(why) => Err(document::refused(self.failed(name), why)),
            None => Ok(data),
        }
    }

    fn find_in_directory(&self, directory: &OwnedFd, name: &str) -> Result<Option<Section>> {
        let failed = |errno| self.failed(name).errno(errno);
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        // Without O_NONBLOCK a named pipe in the place of a file would hold us up.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = match resolve_in(directory.as_fd(), name.as_bytes(), flags, resolve) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno @ (Errno::EXDEV | Errno::ELOOP)) => {
                return Err(failed(errno).hint("it is a symbolic link that leads out of the directory; copy the file itself into it"));
            }
            Err(errno) => return Err(failed(errno).hint("check its permissions")),
        };
        let file = File::from(fd);
        let io_failed = |error: &std::io::Error| read_failed(&self.label, error);
        if !file
            .metadata()
            .map_err(|error| io_failed(&error))?
            .is_file()
        {
            return Err(self
                .failed(name)
                .because("it is no regular file")
                .hint("the directory is no OCI image layout"));
        }
        Section::whole(Arc::new(file))
            .map(Some)
            .map_err(|error| io_failed(&error))
    }

    fn find_in_tar(
        &self,
        section: &Section,
        slots: &HashMap<Vec<u8>, Slot>,
        name: &str,
    ) -> Result<Option<Section>> {
        let mut name_now = joined(b"", name.as_bytes());
        for _ in 0..LINKS_MAX {
            match slots.get(&name_now) {
                None => return Ok(None),
                Some(Slot::Data { offset, length }) => {
                    return Ok(Some(section.part(*offset, *length)));
                }
                Some(Slot::Link(target)) => name_now.clone_from(target),
                Some(Slot::Sparse) => {
                    return Err(self
                        .failed(name)
                        .because("it is stored with holes")
                        .hint("make the archive without tar's --sparse"));
                }
            }
        }
        Err(self
            .failed(name)
            .errno(Errno::ELOOP)
            .hint("the archive's links lead in a circle"))
    }

    fn failed(&self, name: &str) -> Error {
        Error::new(format!("read {} of image archive", show(name.as_bytes()))).on(&self.label)
    }
}

/// A link's target as a member's name; what leads above the archive's top stays at the top.
fn joined(parent: &[u8], link: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start = if link.starts_with(b"/") {
        &b""[..]
    } else {
        parent
    };
    for part in start
        .split(|byte| *byte == b'/')
        .chain(link.split(|byte| *byte == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_archive() {
        assert_eq!(joined(b"abc", b"../def/layer.tar"), b"def/layer.tar");
        assert_eq!(joined(b"abc", b"/def/./x"), b"def/x");
        assert_eq!(joined(b"a", b"../../../etc/passwd"), b"etc/passwd");
        assert_eq!(joined(b"", b"./blobs//x"), b"blobs/x");
    }
}
