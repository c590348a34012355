//! Gives an import its name: `ID.env`, `ID.json`, and last the directory or file that is the image, whose appearing is
//! the commit.
//!
//! Each step exchanges names (renameat2(2), Linux 3.15), so each can be undone by doing it again; when a later one fails,
//! the earlier ones are.

use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, fsync, syncfs, unlinkat};
use shim::{Error, Result};

use super::remove;
use super::store::{Staging, Store, temporary};
use super::tree::disk_hint;

/// What is written beside the directory.
pub(super) struct Beside {
    /// The content of `ID.env`.
    pub(super) env: String,
    /// The content of `ID.json`.
    pub(super) json: String,
}

/// A name that was given, and what it takes to take it back.
pub(super) struct Step {
    temporary: String,
    name: String,
    /// Something had the name before, and has the temporary one now.
    exchanged: bool,
}

impl Staging<'_> {
    /// Gives the unpacked directory its name. With `durable` everything is on disk before that.
    pub(super) fn publish(mut self, beside: &Beside, replace: bool, durable: bool) -> Result<()> {
        let store = self.store;
        if durable {
            // One call for all files; before the lock, because it may take long.
            syncfs(&store.images)
                .map_err(|errno| store.failed("write to disk", &self.name, errno))?;
        }
        let lock = store.lock()?;
        store.check_free(self.id, replace)?;
        // What is replaced stays locked while it is removed, so that no other import takes it for its own to remove.
        let old = store.open_directory(self.id).ok();
        if let Some(old) = &old {
            // Nobody has it: an import unlocks what it has published before it unlocks the store.
            let _ = old.try_lock();
        }
        let mut steps = Vec::new();
        let done = self.give_names(beside, durable, &mut steps);
        if let Err(error) = done {
            undo(store, steps);
            return Err(error);
        }
        self.published = true;
        settle(
            store,
            steps.iter().filter(|step| step.temporary != self.name),
        );
        if durable {
            fsync(&store.images).map_err(|errno| store.failed("write to disk", self.id, errno))?;
        }
        // It is an image now. Whoever replaces it can lock it before we have done the rest, and has to.
        let _ = self.directory.unlock();
        drop(lock);
        if steps
            .iter()
            .any(|step| step.exchanged && step.temporary == self.name)
        {
            remove::remove(store.images.as_fd(), self.name.as_bytes()).map_err(|errno| {
                store
                    .failed("remove the image that was replaced", &self.name, errno)
                    .hint("the new image is in place; remove the directory by hand")
            })?;
        }
        Ok(())
    }

    fn give_names(&self, beside: &Beside, durable: bool, steps: &mut Vec<Step>) -> Result<()> {
        beside.give_names(self.store, self.id, durable, steps)?;
        steps.push(give_name(self.store, &self.name, self.id)?);
        Ok(())
    }
}

impl Beside {
    /// Writes the files and gives them their names; what it takes to undo it is put into `steps`.
    pub(super) fn give_names(
        &self,
        store: &Store,
        id: &str,
        durable: bool,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        for (suffix, content) in [("env", &self.env), ("json", &self.json)] {
            steps.push(give_text(store, id, suffix, content, durable)?);
        }
        Ok(())
    }
}

/// Writes the file `ID.SUFFIX`.
pub(super) fn give_text(
    store: &Store,
    id: &str,
    suffix: &str,
    content: &str,
    durable: bool,
) -> Result<Step> {
    let name = format!("{id}.{suffix}");
    let temporary = temporary(id, ".json");
    let written = store
        .create(&temporary)
        .map_err(Into::into)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            if durable { file.sync_all() } else { Ok(()) }
        });
    let given = written.map_err(|error: std::io::Error| {
        let error = Error::io("write", store.path.join(&name).display(), &error);
        error
            .raw_errno()
            .map_or_else(|| error.clone(), |errno| disk_hint(error.clone(), errno))
    });
    let given = given.and_then(|()| give_name(store, &temporary, &name));
    if given.is_err() {
        let _ = unlinkat(
            &store.images,
            temporary.as_str(),
            UnlinkatFlags::NoRemoveDir,
        );
    }
    given
}

/// Removes what had the names before.
pub(super) fn settle<'s>(store: &Store, steps: impl IntoIterator<Item = &'s Step>) {
    for step in steps.into_iter().filter(|step| step.exchanged) {
        // What cannot be removed now, the next import of this ID removes.
        let _ = remove::remove(&store.images, step.temporary.as_bytes());
    }
}

/// Renames, and keeps what had the name before under the temporary one.
pub(super) fn give_name(store: &Store, temporary: &str, name: &str) -> Result<Step> {
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
pub(super) fn undo(store: &Store, steps: Vec<Step>) {
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
