//! Network interfaces that go into a container, and back where it does not come to be.
//!
//! The kernel moves them and keeps what they are; their addresses it drops, and it takes them down. So that is read before.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, errno_of};
use crate::plan::{Launch, Plan};
use crate::step::Step;
use crate::sys::netlink::{Address, Route};

/// An interface as it was before it left: all that it takes to bring it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    name: String,
    index: u32,
    up: bool,
    addresses: Vec<Address>,
    /// Its number in the container; 0 before one is chosen.
    inside: u32,
}

/// Looks at the interfaces that a plan is about; changes nothing.
///
/// # Errors
/// One is not there.
pub fn look(plan: &Launch) -> Result<Vec<Lent>> {
    let devices = &plan.system.net_devices;
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let found = |(index, device): (usize, _)| {
        seen(device).map_err(|errno| Step::TakeDevice(index).failure(Plan::Launch(plan), errno))
    };
    let names = devices.iter().map(|device| device.name.as_str());
    names.enumerate().map(found).collect()
}

fn seen(name: &str) -> Result<Lent, Errno> {
    let route = Route::here()?;
    let link = route.by_name(name)?;
    Ok(Lent {
        name: name.to_owned(),
        index: link.index,
        up: link.up,
        addresses: route.addresses(link.index)?,
        inside: 0,
    })
}

/// The words for namespaces that cannot be entered.
#[must_use]
pub fn not_moved(plan: &Launch, errno: Errno) -> Error {
    Step::TakeDevice(0).failure(Plan::Launch(plan), errno)
}

/// The two network namespaces. As long as this lives the container's does, and what is in it.
#[derive(Debug)]
pub struct Ways {
    home: End,
    there: End,
}

#[derive(Debug)]
struct End {
    namespace: OwnedFd,
    route: Route,
}

impl Ways {
    /// The caller's, and that of this file.
    ///
    /// # Errors
    /// Those of open(2) and setns(2).
    pub fn new(namespace: &Path) -> Result<Self, Errno> {
        let open = |path: &Path| File::open(path).map(OwnedFd::from);
        let open = |path| open(path).map_err(|error| errno_of(&error));
        let (home, there) = (open(Path::new("/proc/self/ns/net"))?, open(namespace)?);
        Ok(Self {
            home: End {
                route: Route::here()?,
                namespace: home,
            },
            there: End {
                route: Route::within(&there)?,
                namespace: there,
            },
        })
    }

    /// Moves the interfaces of a plan into the container, one after the other. `write` is told of all of them before.
    ///
    /// # Errors
    /// What of the first that cannot go failed. The others may have gone.
    pub fn take(
        &self,
        plan: &Launch,
        lent: &mut [Lent],
        write: impl FnOnce(&[Lent]) -> Result<()>,
    ) -> Result<()> {
        let failed =
            |index: usize| move |errno| Step::TakeDevice(index).failure(Plan::Launch(plan), errno);
        let mut free = 0;
        for (index, device) in lent.iter_mut().enumerate() {
            free = self.free(device.index.max(free)).map_err(failed(index))?;
            device.inside = free;
            free += 1;
        }
        write(lent)?;
        let mut devices = plan.system.net_devices.iter().zip(&*lent).enumerate();
        devices.try_for_each(|(index, (device, lent))| {
            self.take_one(lent, &device.inside).map_err(failed(index))
        })
    }

    /// A number that no interface of the container has: its own, unless that is taken.
    fn free(&self, mut index: u32) -> Result<u32, Errno> {
        loop {
            match self.there.route.by_index(index) {
                Err(Errno::ENODEV) => return Ok(index),
                other => other?,
            };
            index += 1;
        }
    }

    fn take_one(&self, lent: &Lent, name: &str) -> Result<(), Errno> {
        let there = &self.there;
        match there.route.by_name(name) {
            Err(Errno::ENODEV) => {}
            other => return other.and(Err(Errno::EEXIST)),
        }
        let home = &self.home.route;
        home.move_to(&there.namespace, lent.index, name, lent.inside)?;
        let same = name == lent.name;
        let lasting = lent.addresses.iter().filter(|one| one.is_lasting());
        settle(&there.route, lent.inside, lasting, same)?;
        there.route.raise(lent.inside)
    }

    /// Brings back those that have left, as they were.
    ///
    /// # Errors
    /// What of the first that does not come back failed.
    pub fn give_back(&self, lent: &[Lent]) -> Result<()> {
        let mut all = Ok(());
        for lent in lent {
            // Each of them, whatever becomes of the others.
            all = all.and(self.give_one_back(lent).map_err(|errno| {
                Error::sys("give back network device", &lent.name, errno)
                    .hint("it may still be in the network namespace that the container was in")
            }));
        }
        all
    }

    fn give_one_back(&self, lent: &Lent) -> Result<(), Errno> {
        let (home, there) = (&self.home, &self.there.route);
        if home.route.by_name(&lent.name).map(|link| link.index) != Ok(lent.index) {
            there.move_to(&home.namespace, lent.inside, &lent.name, lent.index)?;
        }
        // Also of one that has not left: somebody who brought it back may have been killed.
        settle(&home.route, lent.index, lent.addresses.iter(), true)?;
        match lent.up {
            true => home.route.raise(lent.index),
            false => Ok(()),
        }
    }
}

/// Gives an interface the addresses that it has lost on its way.
fn settle<'a>(
    route: &Route,
    index: u32,
    mut addresses: impl Iterator<Item = &'a Address>,
    same_name: bool,
) -> Result<(), Errno> {
    addresses.try_for_each(|address| match route.add(index, address, same_name) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    })
}
