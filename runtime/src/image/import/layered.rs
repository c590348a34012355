//! Imports an image as layers: those that are there already are used, the others unpacked at the same time, lowest first,
//! and all of them given their names when everything is verified and on disk. The record comes last.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use shim::{Error, Result};

use crate::image::archive::show;
use crate::image::disk::flush::{self, Flusher};
use crate::image::limits::WINDOWS;
use crate::image::source::Image;
use crate::image::store::layers::claim::{Claim, Place};
use crate::image::store::layers::contents::{Contents, Entry};
use crate::image::store::layers::scan::scan;
use crate::image::store::layers::{Basis, Info, LayerKey, Layers};
use crate::image::stream::sha256;
use crate::image::unpack::lower::{Lower, Marks, Source};
use crate::image::unpack::{LeftOut, Meaning, Rights, Tree, Unpacker, disk_hint};

/// What the layers of an image are now.
pub(super) struct Unpacked {
    /// The layers, lowest first.
    pub(super) layers: Vec<(LayerKey, Info)>,
    /// How many members and bytes were written now.
    pub(super) members: u64,
    pub(super) bytes: u64,
    pub(super) left_out: LeftOut,
}

/// A layer that has been unpacked and has no name yet.
struct Fresh {
    place: Place,
    info: Info,
    /// Whether it is other than it were with other layers below.
    depends: bool,
}

/// How far a layer is.
enum State {
    Pending,
    Failed,
    There(LayerKey),
    Fresh(Box<Fresh>),
}

/// What the workers share.
struct Board<'import> {
    image: &'import Image,
    /// For each layer the chain id of those below.
    chains: Vec<String>,
    layers: &'import Layers,
    rights: Rights,
    /// The rights to unpack what is missing, and to which DiffIDs.
    claims: Vec<(LayerKey, Claim<'import>)>,
    states: Mutex<Vec<State>>,
    changed: Condvar,
    /// Layers that nobody has taken yet, lowest last.
    todo: Mutex<Vec<usize>>,
}

/// Makes the layers of `image` be there. The store must be held.
pub(super) fn unpack(
    image: &Image,
    layers: &Layers,
    rights: Rights,
    durable: bool,
) -> Result<Unpacked> {
    image.check_layers()?;
    let board = Board::of(image, layers, rights)?;
    let missing = board.todo.lock().map_or(Vec::new(), |todo| todo.clone());
    let workers = available_parallelism()
        .map_or(1, usize::from)
        .min(side_by_side(image, &missing)?)
        .min(missing.len());
    if !missing.is_empty() {
        flush::to_disk(
            durable,
            || layers.sync(),
            |flusher| board.work_all(workers, flusher),
        )?;
    }
    let unpacked = board.publish()?;
    if durable && !missing.is_empty() {
        layers.sync_names()?;
    }
    Ok(unpacked)
}

/// Which of an image's layers are there. The store must be held for as long as that shall be true.
pub(super) fn there(layers: &Layers, diff_ids: &[String], rights: Rights) -> Result<Vec<bool>> {
    let below = chains(diff_ids);
    diff_ids
        .iter()
        .zip(&below)
        .map(|(diff_id, below)| find(layers, diff_id, below, rights).map(|key| key.is_some()))
        .collect()
}

/// How many layers can be decompressed at the same time without taking more memory than one may take alone.
fn side_by_side(image: &Image, todo: &[usize]) -> Result<usize> {
    let mut largest = 1;
    for number in todo {
        let (_, window) = image.layers[*number].compression()?;
        largest = largest.max(window.unwrap_or(WINDOWS));
    }
    Ok(usize::try_from(WINDOWS / largest)
        .unwrap_or(usize::MAX)
        .max(1))
}

fn damaged(layers: &Layers, key: &LayerKey) -> Error {
    Error::new("use layer")
        .on(layers.path().join(key.as_str()).display())
        .because("it has no record")
        .hint("remove the directory by hand, and import the image again")
}

/// The key under which a layer is there, if it is.
fn find(layers: &Layers, diff_id: &str, below: &str, rights: Rights) -> Result<Option<LayerKey>> {
    for basis in [Basis::Alone, Basis::On(below)] {
        let key = LayerKey::new(diff_id, basis, rights)?;
        if layers.tree(&key)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// The digest of nothing: the chain id of no layers, and the DiffID of a layer where an image has none.
pub(super) fn nothing() -> String {
    format!("sha256:{}", sha256(b""))
}

/// For each layer the chain id of those below (image-spec config.md); for the lowest the digest of nothing.
fn chains(diff_ids: &[String]) -> Vec<String> {
    let mut chains = vec![nothing()];
    for diff_id in diff_ids {
        let chain = match chains.last() {
            Some(below) if chains.len() > 1 => {
                format!("sha256:{}", sha256(format!("{below} {diff_id}").as_bytes()))
            }
            _ => diff_id.clone(),
        };
        chains.push(chain);
    }
    chains
}

impl<'import> Board<'import> {
    /// Finds out which layers are there, and claims the others.
    fn of(image: &'import Image, layers: &'import Layers, rights: Rights) -> Result<Self> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let chains = chains(diff_ids);
        let mut missing = BTreeSet::new();
        for (diff_id, below) in diff_ids.iter().zip(&chains) {
            if find(layers, diff_id, below, rights)?.is_none() {
                missing.insert(LayerKey::new(diff_id, Basis::Alone, rights)?);
            }
        }
        // In one order for everybody, so that no two wait for each other.
        let claims = missing
            .into_iter()
            .map(|key| layers.claim(key.as_str()).map(|claim| (key, claim)))
            .collect::<Result<_>>()?;
        let mut states = Vec::new();
        let mut todo = Vec::new();
        for (number, (diff_id, below)) in diff_ids.iter().zip(&chains).enumerate() {
            // Somebody may have made it while we waited.
            states.push(match find(layers, diff_id, below, rights)? {
                Some(key) => {
                    image.layers[number].part().present();
                    State::There(key)
                }
                None => {
                    todo.push(number);
                    State::Pending
                }
            });
        }
        todo.reverse();
        Ok(Self {
            image,
            chains,
            layers,
            rights,
            claims,
            states: Mutex::new(states),
            changed: Condvar::new(),
            todo: Mutex::new(todo),
        })
    }

    fn diff_id(&self, number: usize) -> &str {
        &self.image.config.rootfs.diff_ids[number]
    }

    fn claim(&self, number: usize) -> Result<&Claim<'import>> {
        let diff_id = self.diff_id(number);
        let of_layer = |(key, _): &&(LayerKey, Claim<'_>)| key.diff_id() == diff_id;
        let found = self.claims.iter().find(of_layer).map(|(_, claim)| claim);
        found.ok_or_else(|| self.layers.failed("claim layer", diff_id, Errno::ENOENT))
    }

    /// Unpacks all that is missing with so many threads.
    fn work_all(&self, workers: usize, flusher: &Flusher) -> Result<()> {
        let failures = std::thread::scope(|scope| {
            let work = || self.work(flusher);
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut failures: Vec<_> = work().into_iter().collect();
            for other in others {
                failures.extend(other.join().ok().flatten());
            }
            failures
        });
        // The lowest: those above may have failed because of it.
        match failures.into_iter().min_by_key(|(number, _)| *number) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Unpacks layers until there is nothing left to do; the first failure.
    fn work(&self, flusher: &Flusher) -> Option<(usize, Error)> {
        while let Some(number) = self.take() {
            match self.unpack(number, flusher) {
                Ok(fresh) => self.set(number, State::Fresh(Box::new(fresh))),
                Err(error) => {
                    self.set(number, State::Failed);
                    return Some((number, error));
                }
            }
        }
        None
    }

    /// Gives the layers that were unpacked their names.
    fn publish(&self) -> Result<Unpacked> {
        let mut unpacked = Unpacked {
            layers: Vec::new(),
            members: 0,
            bytes: 0,
            left_out: LeftOut::default(),
        };
        for (number, state) in self.states().iter().enumerate() {
            let (key, info) = match state {
                State::Fresh(fresh) => {
                    let basis = if fresh.depends {
                        Basis::On(&self.chains[number])
                    } else {
                        Basis::Alone
                    };
                    let key = LayerKey::new(self.diff_id(number), basis, self.rights)?;
                    self.claim(number)?.publish(&fresh.place, &key)?;
                    unpacked.members += fresh.info.members;
                    unpacked.bytes += fresh.info.size;
                    (key, fresh.info.clone())
                }
                State::There(key) => {
                    let info = self.layers.info(key)?;
                    (key.clone(), info.ok_or_else(|| damaged(self.layers, key))?)
                }
                State::Pending | State::Failed => {
                    return Err(self.layers.failed(
                        "unpack layer",
                        self.diff_id(number),
                        Errno::ENOENT,
                    ));
                }
            };
            unpacked.left_out.devices += info.devices_left_out;
            unpacked.left_out.attributes += info.attributes_left_out;
            unpacked.layers.push((key, info));
        }
        Ok(unpacked)
    }

    /// The next layer to unpack; none when there is nothing left to do, or no use in it.
    fn take(&self) -> Option<usize> {
        if self
            .states()
            .iter()
            .any(|state| matches!(state, State::Failed))
        {
            return None;
        }
        self.todo
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, number: usize, state: State) {
        if let Some(slot) = self.states().get_mut(number) {
            *slot = state;
        }
        self.changed.notify_all();
    }

    /// Waits until all layers below `number` are complete, and opens them, lowest first.
    fn below(&self, number: usize) -> Result<Vec<OwnedFd>> {
        let mut states = self.states();
        loop {
            let below = states.get(..number).unwrap_or_default();
            if below.iter().any(|state| matches!(state, State::Failed)) {
                return Err(Error::new("unpack layer").because("a layer below it has failed"));
            }
            if !below.iter().any(|state| matches!(state, State::Pending)) {
                return below.iter().map(|state| self.open(state)).collect();
            }
            states = self
                .changed
                .wait(states)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self, state: &State) -> Result<OwnedFd> {
        match state {
            State::Fresh(fresh) => open_again(&fresh.place.tree)
                .map_err(|errno| self.layers.failed("open layer", "", errno)),
            State::There(key) => match self.layers.tree(key)? {
                Some(tree) => open_again(&tree)
                    .map_err(|errno| self.layers.failed("open layer", key.as_str(), errno)),
                None => Err(self
                    .layers
                    .failed("open layer", key.as_str(), Errno::ENOENT)),
            },
            State::Pending | State::Failed => Err(Error::new("open layer")),
        }
    }

    fn unpack(&self, number: usize, flusher: &Flusher) -> Result<Fresh> {
        let (layer, diff_id) = (&self.image.layers[number], self.diff_id(number));
        let place = self.claim(number)?.place(&number.to_string())?;
        let below: Source<'_> = Box::new(|| self.below(number));
        let fresh = (&place, self.rights, flusher);
        let (filled, ()) = fill(self.layers, fresh, below, |unpacker| {
            layer.apply(unpacker, Meaning::Layer, diff_id)
        })?;
        let info = filled.info(diff_id);
        place.write_info(&info)?;
        Ok(Fresh {
            place,
            info,
            depends: filled.depends,
        })
    }
}

/// Fills a place with what `apply` brings; says whether the layers below had a say in it.
fn fill<T>(
    layers: &Layers,
    (place, rights, flusher): (&Place, Rights, &Flusher),
    below: Source<'_>,
    apply: impl FnOnce(&mut Unpacker<'_>) -> Result<T>,
) -> Result<(Filled, T)> {
    let failed = |errno| layers.failed("make directory", "", errno);
    let marks = Marks::of(rights);
    let root = open_again(&place.tree).map_err(failed)?;
    let tree = Tree::layer(root, Lower::new(below, marks), marks).map_err(failed)?;
    let contents = place.create("contents").map_err(failed)?;
    let mut unpacker = Unpacker::new(tree, rights, Contents::new(Some(contents)), flusher);
    let applied = apply(&mut unpacker)?;
    unpacker.settle()?;
    let scanned_root = open_again(&place.tree).map_err(failed)?;
    let opaque_root = marks.is_opaque(&scanned_root).map_err(failed)?;
    if !unpacker.lists_root {
        let root = Entry {
            kind: "dir",
            ..Entry::default()
        };
        unpacker.contents.add(b"", &root);
    }
    if unpacker.tree.removed {
        let contents = &mut unpacker.contents;
        contents.restart();
        scan(&scanned_root, marks, |path, entry, _| {
            contents.add(path, &entry)
        })
        .map_err(|(path, errno)| disk_hint(Error::sys("list layer", show(&path), errno), errno))?;
    }
    let filled = Filled {
        members: unpacker.members,
        size: unpacker.bytes,
        lists_root: unpacker.lists_root,
        opaque_root,
        left_out: unpacker.left_out,
        depends: unpacker.tree.depends,
        literal_marks: unpacker.literal_marks,
    };
    unpacker
        .contents
        .finish()
        .map_err(|error| Error::io("write contents of layer", "", &error))
        .map_err(|error| match error.raw_errno() {
            Some(errno) => disk_hint(error, errno),
            None => error,
        })?;
    Ok((filled, applied))
}

/// What is known of a layer that was unpacked.
struct Filled {
    members: u64,
    size: u64,
    lists_root: bool,
    opaque_root: bool,
    left_out: LeftOut,
    depends: bool,
    literal_marks: bool,
}

impl Filled {
    fn info(&self, diff_id: &str) -> Info {
        Info {
            version: 1,
            diff_id: diff_id.to_owned(),
            members: self.members,
            size: self.size,
            lists_root: self.lists_root,
            opaque_root: self.opaque_root,
            devices_left_out: self.left_out.devices,
            attributes_left_out: self.left_out.attributes,
        }
    }
}

/// Makes a layer of what `apply` brings, whose DiffID it only knows at the end. The store must be held.
pub(super) fn unpack_one(
    layers: &Layers,
    rights: Rights,
    durable: bool,
    apply: impl FnOnce(&mut Unpacker<'_>) -> Result<String>,
) -> Result<Unpacked> {
    let claim = layers.claim_new()?;
    let place = claim.place("0")?;
    let below: Source<'_> = Box::new(|| Ok(Vec::new()));
    let (filled, info) = flush::to_disk(
        durable,
        || layers.sync(),
        |flusher| {
            let (filled, diff_id) = fill(layers, (&place, rights, flusher), below, apply)?;
            let info = filled.info(&diff_id);
            place.write_info(&info)?;
            Ok((filled, info))
        },
    )?;
    let nothing = nothing();
    let basis = match (filled.literal_marks, filled.depends) {
        (true, _) => Basis::Literal,
        (false, true) => Basis::On(&nothing),
        (false, false) => Basis::Alone,
    };
    let key = LayerKey::new(&info.diff_id, basis, rights)?;
    claim.publish(&place, &key)?;
    if durable {
        layers.sync_names()?;
    }
    Ok(Unpacked {
        members: info.members,
        bytes: info.size,
        left_out: filled.left_out,
        layers: vec![(key, info)],
    })
}

fn open_again(directory: impl AsFd) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(directory, ".", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let chains = chains(&[digest("a"), digest("b"), digest("c")]);
        assert_eq!(chains[0], format!("sha256:{}", sha256(b"")));
        assert_eq!(chains[1], digest("a"));
        let second = format!(
            "sha256:{}",
            sha256(format!("{} {}", digest("a"), digest("b")).as_bytes())
        );
        assert_eq!(chains[2], second);
        let third = format!(
            "sha256:{}",
            sha256(format!("{second} {}", digest("c")).as_bytes())
        );
        assert_eq!(chains[3], third);
    }
}
