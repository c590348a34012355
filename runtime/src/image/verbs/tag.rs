//! `image tag`: one more name for an image. Layers are shared, and so is a file; nothing is copied but what is small.

use std::os::fd::AsFd;

use nix::fcntl::AtFlags;
use nix::unistd::{fsync, linkat};
use shim::{Error, Result};

use crate::config::Dirs;
use crate::ids::ImageId;
use crate::image::store::layers::Layers;
use crate::image::store::{About, Beside, Form, Found, Store, undo};

/// Gives image `id` the name `new` as well; with `replace` one in layers also where another image has it.
///
/// # Errors
/// No such image, a plain directory (of which there cannot be two names), and a name that is taken.
pub fn tag(dirs: &Dirs, id: &ImageId, new: &ImageId, replace: bool) -> Result<()> {
    // The image may be removed meanwhile, but its layers stay until the new record names them.
    let layers = Layers::open(&dirs.data)?;
    let _held = layers.as_ref().map(Layers::hold).transpose()?;
    let found = Found::of(&dirs.base, id)?;
    if id == new {
        return Err(refused(id, "it has that name already").hint("choose another id"));
    }
    let store = Store::open(&dirs.base)?;
    let beside = Beside {
        env: read(&store, id, "env")?.unwrap_or_default(),
        json: match read(&store, id, "json")? {
            Some(text) => text,
            // What another image had under the new name must not hold for this one.
            None => About::default().text()?,
        },
    };
    match (found.form, found.record) {
        (_, Some(record)) => {
            store.publish_record(new.as_str(), &beside, &record.text()?, replace, true)
        }
        (Form::Directory, None) => Err(refused(
            id,
            "it is a plain directory, which has one name only",
        )
        .hint("import it again with the other --id, or without --flat")),
        (form, None) => link(&store, form, id, new, &beside),
    }
}

/// Gives the file that an image is a second name, which comes last.
fn link(store: &Store, form: Form, id: &ImageId, new: &ImageId, beside: &Beside) -> Result<()> {
    let _lock = store.lock()?;
    store.check_free(new.as_str(), false)?;
    // The digest that is recorded of the file holds under each name.
    let verity = read(store, id, "verity")?;
    let mut files = beside.files().to_vec();
    files.extend(verity.iter().map(|text| ("verity", text.as_bytes())));
    let steps = store.give_names(new.as_str(), &files, true)?;
    let [from, to] = [id, new].map(|id| format!("{id}{}", form.suffix()));
    let images = store.images.as_fd();
    let flags = AtFlags::empty();
    if let Err(errno) = linkat(images, from.as_str(), images, to.as_str(), flags) {
        undo(store, steps);
        return Err(store.failed("link", &to, errno));
    }
    store.forget_old(steps.iter());
    fsync(&store.images).map_err(|errno| store.failed("write to disk", &to, errno))
}

fn read(store: &Store, id: &ImageId, suffix: &str) -> Result<Option<String>> {
    let name = format!("{id}.{suffix}");
    match std::fs::read_to_string(store.path.join(&name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(store.failed("read", &name, shim::error::errno_of(&error))),
    }
}

fn refused(id: &ImageId, why: &'static str) -> Error {
    Error::new("tag image").on(id).because(why)
}
