//! `image tag`: one more name for an image. Layers are shared, and so is a file; nothing is copied but what is small.

use std::os::fd::AsFd;

use nix::fcntl::AtFlags;
use nix::unistd::{fsync, linkat};
use shim::{Error, Result};

use super::about::About;
use super::kind::Kind;
use super::publish::{Step, undo};
use super::store::Store;
use crate::config::Dirs;
use crate::ids::ImageId;

/// Gives image `id` the name `new` as well; with `replace` also where another image in layers has it.
///
/// # Errors
/// No such image, a plain directory (of which there cannot be two names), and a name that is taken.
pub fn tag(dirs: &Dirs, id: &ImageId, new: &ImageId, replace: bool) -> Result<()> {
    let kind = Kind::of(&dirs.base, id)?;
    if id == new {
        return Err(refused(id, "it has that name already"));
    }
    if kind == Kind::Directory {
        return Err(refused(id, "it is a plain directory, which has one name")
            .hint("import it again, with the other --id and without --flat"));
    }
    let store = Store::open(&dirs.base)?;
    let _lock = store.lock()?;
    // What was there a moment ago may have been removed or replaced before the lock.
    let kind = Kind::of(&dirs.base, id)?;
    let replaceable = matches!(
        (replace, Kind::find(&dirs.base, new)?),
        (true, Some(Kind::Layers(_)))
    );
    if !replaceable && Kind::find(&dirs.base, new)?.is_some() {
        return Err(refused(new, "an image of that id exists")
            .hint("choose another id; --replace replaces an image that is in layers"));
    }
    let steps = name(&store, &kind, id, new)?;
    store.forget_old(steps.iter());
    fsync(&store.images).map_err(|errno| store.failed("write to disk", new.as_str(), errno))
}

/// What the image is comes last: with it the name is there.
fn name(store: &Store, kind: &Kind, id: &ImageId, new: &ImageId) -> Result<Vec<Step>> {
    // Where an image has neither, what another one had under the new name must not hold for it.
    let env = read(store, id, "env")?.unwrap_or_default();
    let json = match read(store, id, "json")? {
        Some(json) => json,
        None => About::default().text()?,
    };
    let mut files = vec![("env", env.into_bytes()), ("json", json.into_bytes())];
    match kind {
        Kind::Layers(record) => files.push(("image", record.text()?)),
        // The digest that is recorded of the file holds under each name.
        Kind::Directory | Kind::Squashfs | Kind::Erofs => {
            let digest = read(store, id, "verity")?;
            files.extend(digest.map(|digest| ("verity", digest.into_bytes())));
        }
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(end, text)| (*end, &**text)).collect();
    let steps = store.give_names(new.as_str(), &files, true)?;
    if matches!(kind, Kind::Layers(_)) {
        return Ok(steps);
    }
    let [from, to] = [id, new].map(|id| format!("{id}.{}", kind.name()));
    let images = store.images.as_fd();
    match linkat(images, from.as_str(), images, to.as_str(), AtFlags::empty()) {
        Ok(()) => Ok(steps),
        Err(errno) => {
            undo(store, steps);
            Err(store.failed("link", &to, errno))
        }
    }
}

fn read(store: &Store, id: &ImageId, suffix: &str) -> Result<Option<String>> {
    let path = store.path.join(format!("{id}.{suffix}"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let errno = shim::error::errno_of(&error);
            Err(store.failed("read", &format!("{id}.{suffix}"), errno))
        }
    }
}

fn refused(id: &ImageId, why: &'static str) -> Error {
    Error::new("tag image").on(id).because(why)
}
