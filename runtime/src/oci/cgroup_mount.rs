//! A mount of type cgroup: what the container sees of the hierarchies that it is in.
//!
//! With version 2 alone it is the one filesystem. With version 1, or both side by side, there are several, which the host
//! has mounted in one directory: the container gets such a directory too, with a bind of its own cgroup in each. A new
//! mount of a hierarchy would show the same, but only in a cgroup namespace: without one it shows the host's. The host's, read-only,
//! is what a scope of systemd's gets without one: its cgroup is made around the process, when all that is bound has been opened.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use shim::mounts::{Attributes, Content, Covered, Mount, Target};
use shim::sys::mount::Propagation;
use shim::{Error, Result};

use crate::cgroup::{Hierarchies, Places};

/// What there is to be seen.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The container's cgroups; where it has none, it sees those that it is started in.
    pub(super) places: &'a Places,
    /// Whether it has a cgroup namespace of its own.
    pub(super) own_namespace: bool,
}

impl View<'_> {
    /// The mounts at `target`. Where they are to be read-only, so must be what is between them: the caller sees to that.
    ///
    /// # Errors
    /// The host has none.
    pub(super) fn mounts(&self, target: &Target, attributes: Attributes) -> Result<Vec<Mount>> {
        let hierarchies = Hierarchies::find()?;
        let source = |mount: &Path, own: &Path| {
            let place = self.places.below(mount);
            place.unwrap_or_else(|| mount.join(own))
        };
        if hierarchies.is_unified() {
            let whole = Content::New {
                filesystem: c"cgroup2".to_owned(),
                options: Vec::new(),
                propagation: Propagation::Private,
                covered: Covered::Nothing,
            };
            let (content, attributes) = match hierarchies.second() {
                Some(_) if self.own_namespace => (whole, attributes),
                // The others' are none of its to change. Nor may the root of a user namespace mount them anew.
                Some(one) if self.places.scope().is_some() => (
                    bind(one.mount.clone()),
                    attributes.with(Attributes::READONLY),
                ),
                Some(one) => (bind(source(&one.mount, &one.own)), attributes),
                None => (whole, attributes),
            };
            return Ok(vec![Mount::new(target.clone(), content, attributes)]);
        }
        let option = |key: &str, value: &str| {
            Some((CString::new(key).ok()?, Some(CString::new(value).ok()?)))
        };
        let directory = Content::New {
            filesystem: c"tmpfs".to_owned(),
            options: [option("mode", "755"), option("size", "64k")]
                .into_iter()
                .flatten()
                .collect(),
            propagation: Propagation::Private,
            covered: Covered::Nothing,
        };
        // Mount points are made in it, so it becomes read-only later.
        let own = attributes.without(Attributes::READONLY);
        let mut mounts = vec![Mount::new(target.clone(), directory, own)];
        for (name, one) in hierarchies.names() {
            let inside = Path::new(&target.to_string()).join(&name);
            let inside =
                Target::new(&inside).map_err(|why| Error::new("mount cgroup").because(why))?;
            let content = bind(source(&one.mount, &one.own));
            mounts.push(Mount::new(inside, content, attributes));
        }
        if mounts.len() == 1 {
            return Err(Error::new("find the cgroups of")
                .on("the caller")
                .because("there are none")
                .hint("cgroups must be mounted below /sys/fs/cgroup"));
        }
        Ok(mounts)
    }
}

fn bind(source: PathBuf) -> Content {
    Content::Bind {
        source,
        file: false,
        recursive: false,
        propagation: Propagation::Private,
        idmap: Vec::new(),
    }
}
