//! Imports an image as layers: those that are there already are used, the others unpacked at the same time, lowest first,
//! and all of them given their names when everything is verified and on disk. The record comes last.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::available_parallelism;

use nix::errno::Errno;
use shim::{Error, Result};

use super::one_layer::{fill, open_again};
use crate::image::disk::flush::{self, Flusher};
use crate::image::limits::{Budget, TABLES};
use crate::image::source::Image;
use crate::image::store::layers::chain::chains;
use crate::image::store::layers::claim::{Claim, Place};
use crate::image::store::layers::{Basis, Info, LayerKey, Layers};
use crate::image::unpack::lower::Source;
use crate::image::unpack::{LeftOut, Meaning, Rights};

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
    /// The first: others may have failed because of it.
    failure: OnceLock<Error>,
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
    let too_little = || image.budget().is_some_and(Budget::was_too_little);
    match attempt(image, layers, (rights, durable), usize::MAX) {
        // Nobody may wait for memory: a layer has its own while it waits for those below it.
        Err(_) if too_little() => attempt(image, layers, (rights, durable), 1),
        done => done,
    }
}

/// The same with so many threads at most.
fn attempt(
    image: &Image,
    layers: &Layers,
    (rights, durable): (Rights, bool),
    threads: usize,
) -> Result<Unpacked> {
    let board = Board::of(image, layers, rights)?;
    let missing = board.todo.lock().map_or(Vec::new(), |todo| todo.clone());
    let workers = available_parallelism()
        .map_or(1, usize::from)
        .min(side_by_side(image, &missing)?)
        .min(missing.len())
        .min(threads);
    if let Some(budget) = image.budget() {
        budget.begin(workers);
    }
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

/// How many layers can be decompressed at the same time without taking more memory than all may take.
fn side_by_side(image: &Image, todo: &[usize]) -> Result<usize> {
    let mut largest = 1;
    for number in todo {
        let (_, window) = image.layers[*number].compression()?;
        largest = largest.max(window.unwrap_or(u64::MAX));
    }
    Ok(Budget::side_by_side(largest))
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
            failure: OnceLock::new(),
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
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| self.work(flusher));
            }
            self.work(flusher);
        });
        match self.failure.get() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Unpacks layers until there is nothing left to do, or no use in it.
    fn work(&self, flusher: &Flusher) {
        while let Some(number) = self.take() {
            match self.unpack(number, flusher) {
                Ok(fresh) => self.set(number, State::Fresh(Box::new(fresh))),
                Err(error) => {
                    // Before anybody stops because of it.
                    let _ = self.failure.set(error);
                    self.image.layers[number].give_up();
                    self.set(number, State::Failed);
                }
            }
        }
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
        if self.failure.get().is_some() {
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
        let room = self.image.budget().map_or(TABLES, Budget::table);
        let (filled, ()) = fill(self.layers, fresh, room, below, |unpacker| {
            layer.apply(unpacker, Meaning::of_layer(number), diff_id)
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
