//! Gives an import its name: `ID.env`, `ID.json`, and last what is the image, whose appearing is the commit: the directory
//! `ID`, the record `ID.image`, or the file of a filesystem.
//!
//! Each step exchanges names (renameat2(2), Linux 3.15), so each can be undone by doing it again; when a later one fails,
//! the earlier ones are. Where an image of the other form is replaced, that goes last: as long as both are there, the
//! directory counts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use shim::{Error, Result};

use super::images::{Staging, Store, temporary};
use super::record::file_name;
use crate::image::disk::disk_hint;
use crate::image::disk::remove;
use crate::image::source::Config;

/// What is written beside the directory or the record.
pub(in crate::image) struct Beside {
    /// The content of `ID.env`.
    pub(in crate::image) env: String,
    /// The content of `ID.json`.
    pub(in crate::image) json: String,
}

impl Beside {
    /// What a configuration says.
    pub(in crate::image) fn of(config: &Config) -> Result<Self> {
        Ok(Self {
            env: config.env()?,
            json: config.meta()?,
        })
    }

    /// The files: what their names end in, and what they contain.
    pub(in crate::image) fn files(&self) -> [(&'static str, &[u8]); 2] {
        [("env", self.env.as_bytes()), ("json", self.json.as_bytes())]
    }
}

/// A name that was given, and what it takes to take it back.
pub(in crate::image) struct Step {
    temporary: String,
    name: String,
    /// Something had the name before, and has the temporary one now.
    exchanged: bool,
}

impl Staging<'_> {
    /// Gives the unpacked directory its name, when what is in it is on disk. With `durable` the name is as well.
    pub(in crate::image) fn publish(
        mut self,
        beside: &Beside,
        replace: bool,
        durable: bool,
    ) -> Result<()> {
        let store = self.store;
        let lock = store.lock()?;
        store.check_free(self.id, replace)?;
        // What is replaced stays locked while it is removed, so that no other import takes it for its own to remove.
        let _old = store.lock_old(self.id);
        let mut steps = store.give_names(self.id, &beside.files(), durable)?;
        match give_name(store, &self.name, self.id) {
            Ok(step) => steps.push(step),
            Err(error) => {
                undo(store, steps);
                return Err(error);
            }
        }
        self.published = true;
        store.forget(&file_name(self.id))?;
        store.forget_old(steps.iter().filter(|step| step.temporary != self.name));
        if durable {
            fsync(&store.images).map_err(|errno| store.failed("write to disk", self.id, errno))?;
        }
        // It is an image now. Whoever replaces it can lock it before we have done the rest, and has to.
        let _ = self.directory.unlock();
        drop(lock);
        match steps.last() {
            Some(step) if step.exchanged => store.remove_old(&self.name),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Makes an image of a record whose layers are there. With `durable` it is on disk afterwards.
    pub(in crate::image) fn publish_record(
        &self,
        id: &str,
        beside: &Beside,
        record: &str,
        replace: bool,
        durable: bool,
    ) -> Result<()> {
        let lock = self.lock()?;
        self.check_free(id, replace)?;
        let old = self.lock_old(id);
        let [env, json] = beside.files();
        let files = [env, json, ("image", record.as_bytes())];
        let steps = self.give_names(id, &files, durable)?;
        self.forget_old(steps.iter());
        let replaced = old.is_some().then(|| self.hide(id)).transpose()?;
        if durable {
            fsync(&self.images).map_err(|errno| self.failed("write to disk", id, errno))?;
        }
        drop(lock);
        replaced.map_or(Ok(()), |name| self.remove_old(&name))
    }

    /// Writes files beside an image and gives them their names; all of them, or none.
    pub(in crate::image) fn give_names(
        &self,
        id: &str,
        files: &[(&str, &[u8])],
        durable: bool,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (suffix, content) in files {
            let name = format!("{id}.{suffix}");
            let temporary = temporary(id, &format!(".{suffix}"));
            let write = || -> io::Result<()> {
                let mut file = self.create(&temporary)?;
                file.write_all(content)?;
                if durable { file.sync_all() } else { Ok(()) }
            };
            let given = write().map_err(|error| {
                let error = Error::io("write", self.path.join(&name).display(), &error);
                error
                    .raw_errno()
                    .map_or_else(|| error.clone(), |errno| disk_hint(error.clone(), errno))
            });
            match given.and_then(|()| give_name(self, &temporary, &name)) {
                Ok(step) => steps.push(step),
                Err(error) => {
                    let flags = UnlinkatFlags::NoRemoveDir;
                    let _ = unlinkat(&self.images, temporary.as_str(), flags);
                    undo(self, steps);
                    return Err(error);
                }
            }
        }
        Ok(steps)
    }

    /// The directory of an image that is going to be removed, locked.
    pub(in crate::image) fn lock_old(&self, id: &str) -> Option<File> {
        let old = self.open_directory(id).ok()?;
        // Nobody has it: an import unlocks what it has published before it unlocks the store.
        let _ = old.try_lock();
        Some(old)
    }

    /// Removes what had the names before. What cannot be removed now, the next import of this ID removes.
    pub(in crate::image) fn forget_old<'steps>(&self, steps: impl Iterator<Item = &'steps Step>) {
        for step in steps.filter(|step| step.exchanged) {
            let _ = remove::remove(&self.images, step.temporary.as_bytes());
        }
    }

    /// Gives the directory of an image a temporary name, and says which.
    pub(in crate::image) fn hide(&self, id: &str) -> Result<String> {
        let name = temporary(id, "");
        let (images, flags) = (&self.images, RenameFlags::RENAME_NOREPLACE);
        renameat2(images, id, images, name.as_str(), flags)
            .map_err(|errno| self.failed("take the name of", id, errno))?;
        Ok(name)
    }

    /// Removes a file, if it is there; says whether it was.
    pub(in crate::image) fn forget(&self, name: &str) -> Result<bool> {
        match unlinkat(&self.images, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Removes a directory that has a temporary name.
    pub(in crate::image) fn remove_old(&self, name: &str) -> Result<()> {
        remove::remove(self.images.as_fd(), name.as_bytes()).map_err(|errno| {
            self.failed("remove the image that was replaced", name, errno)
                .hint("the image itself is gone; remove the directory by hand")
        })
    }
}

/// Renames, and keeps what had the name before under the temporary one.
pub(in crate::image) fn give_name(store: &Store, temporary: &str, name: &str) -> Result<Step> {
    let images = &store.images;
    let rename = |flags| renameat2(images, temporary, images, name, flags);
    let exchanged = match rename(RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(false),
        Err(Errno::EEXIST) => rename(RenameFlags::RENAME_EXCHANGE).map(|()| true),
        Err(errno) => Err(errno),
    };
    let exchanged = exchanged.map_err(|errno| match errno {
        Errno::EINVAL => store.failed("give name", name, errno).hint(
            "the filesystem of the base directory lacks renameat2; choose another with --base",
        ),
        _ => store.failed("give name", name, errno),
    })?;
    Ok(Step {
        temporary: temporary.into(),
        name: name.into(),
        exchanged,
    })
}

/// Takes the names back, last first. There is nothing better to do where that fails, too.
pub(in crate::image) fn undo(store: &Store, steps: Vec<Step>) {
    let images = &store.images;
    for step in steps.into_iter().rev() {
        let flags = if step.exchanged {
            RenameFlags::RENAME_EXCHANGE
        } else {
            RenameFlags::RENAME_NOREPLACE
        };
        let _ = renameat2(
            images,
            step.name.as_str(),
            images,
            step.temporary.as_str(),
            flags,
        );
        let _ = unlinkat(images, step.temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}
