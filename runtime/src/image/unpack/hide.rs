//! What a layer's whiteouts and opaque directories do (image-spec layer.md, "Representing Changes").
//!
//! In a whole root filesystem they remove what lower layers have put there. In one layer of several they become what
//! overlay obeys, and only where there is something to hide: a whiteout that hides nothing would be seen as a broken name.
//! To know that, the layers below must be complete. So whiteouts wait for the end of the archive where nothing else in it
//! asks for those layers, which are unpacked at the same time.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use shim::Result;

use super::layer::{Meaning, Unpacker, refused};
use super::lower::kind;
use super::meta;
use crate::image::archive::{Kind, Mark, Member, Place};
use crate::image::disk::remove::{self, Keep};

/// How many whiteouts wait, at most.
const WAITING_MAX: usize = 4096;

/// Whiteouts that have not been applied yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    whiteouts: Vec<Whiteout>,
    /// What their names take, in bytes.
    size: usize,
}

/// A whiteout: its member's name, and what it hides.
#[derive(Debug)]
struct Whiteout {
    member: Vec<u8>,
    parent: Vec<u8>,
    name: Vec<u8>,
}

impl Unpacker<'_> {
    /// Applies a member that is a mark.
    pub(super) fn hide(
        &mut self,
        member: &Member,
        place: &Place,
        hides: &Mark<'_>,
        meaning: Meaning,
    ) -> Result<()> {
        let Place::Below { parent, .. } = place else {
            return Ok(());
        };
        if !matches!(member.kind, Kind::File | Kind::HardLink) && *hides != Mark::Aufs {
            return Err(refused(member, "a whiteout is no file"));
        }
        match hides {
            Mark::Whiteout(_) | Mark::Opaque if meaning == Meaning::FirstLayer => {
                // In another image the layer may have something below it.
                self.tree.depends = true;
                Ok(())
            }
            Mark::Whiteout(name) if self.tree.is_layer() => {
                if !self.tree.depends && self.tree.has(parent) {
                    let waiting = &mut self.waiting;
                    waiting.size += member.name.len() + parent.len() + name.len();
                    waiting.whiteouts.push(Whiteout {
                        member: member.name.clone(),
                        parent: parent.clone(),
                        name: name.to_vec(),
                    });
                    let enough = waiting.whiteouts.len() >= WAITING_MAX
                        || waiting.size >= self.tree.room / 8;
                    return if enough { self.hide_waiting() } else { Ok(()) };
                }
                self.hide_waiting()?;
                self.white_out(&member.name, parent, name)
            }
            Mark::Opaque if self.tree.is_layer() => self.make_opaque(member, parent),
            Mark::Whiteout(_) | Mark::Opaque if meaning == Meaning::Layer => {
                self.remove_lower(member, parent, hides)
            }
            _ => Ok(()),
        }
    }

    /// Applies the whiteouts that wait: at the end, and before anything else asks for the layers below or removes a
    /// directory, so that nobody can tell that they came late.
    pub(super) fn hide_waiting(&mut self) -> Result<()> {
        for waiting in std::mem::take(&mut self.waiting).whiteouts {
            self.white_out(&waiting.member, &waiting.parent, &waiting.name)?;
        }
        Ok(())
    }

    /// The same before `path` is looked for, where this tree does not have it without the layers below.
    pub(super) fn hide_before(&mut self, path: &[u8]) -> Result<()> {
        if self.waiting.whiteouts.is_empty() || self.tree.has(path) {
            return Ok(());
        }
        self.hide_waiting()
    }

    /// Removes what lower layers have put here.
    fn remove_lower(&mut self, member: &Member, parent: &[u8], hides: &Mark<'_>) -> Result<()> {
        // Where the directory is missing there is nothing to hide.
        let Some(directory) = self.tree.existing(parent)?.and_then(|spot| spot.own) else {
            return Ok(());
        };
        self.tree.forget();
        let kept = Keep::These(&self.kept);
        let done = match hides {
            Mark::Whiteout(name) => remove::remove_but(directory.as_fd(), name, kept),
            _ => remove::empty_but(directory.as_fd(), b".", kept),
        };
        done.map_err(|errno| meta::failed("apply whiteout", member, errno))
    }

    /// Hides `name`, but not what this layer itself has there.
    fn white_out(&mut self, member: &[u8], parent: &[u8], name: &[u8]) -> Result<()> {
        let failed = |errno| meta::failed_at("apply whiteout", member, errno);
        let Some(mut spot) = self.tree.existing(parent)? else {
            return Ok(());
        };
        if let Some(own) = spot.own.clone() {
            self.tree.give_back(&own, name).map_err(failed)?;
            match fstatat(&*own, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) if kind(&stat) == SFlag::S_IFDIR => {
                    let flags =
                        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let directory = openat(&*own, name, flags, Mode::empty()).map_err(failed)?;
                    self.contents.opaque(&own.below(name));
                    return self.tree.set_opaque(directory).map_err(failed);
                }
                // It hides the name already.
                Ok(_) => return Ok(()),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        if self.tree.below(&mut spot, name)?.is_none() {
            return Ok(());
        }
        let own = self.tree.directory(&spot.path)?;
        self.take_made()?;
        self.contents.whiteout(&own.below(name));
        self.tree.white_out(&own, name).map_err(failed)
    }

    /// Hides all that is below in a directory.
    fn make_opaque(&mut self, member: &Member, parent: &[u8]) -> Result<()> {
        let failed = |errno| meta::failed("apply whiteout", member, errno);
        let Some(spot) = self.tree.existing(parent)? else {
            return Ok(());
        };
        let own = self.tree.directory(&spot.path)?;
        self.take_made()?;
        self.tree.give_back(&own, b".").map_err(failed)?;
        self.contents.opaque(&own.path);
        self.tree.set_opaque(&*own).map_err(failed)
    }
}

#[cfg(test)]
#[path = "hide_tests.rs"]
mod tests;
