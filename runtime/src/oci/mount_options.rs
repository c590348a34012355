//! `options` of a mount of config.json, in the words of mount(8) and of the runtime specification.

use std::ffi::CString;

use oci_spec::runtime::Mount as Given;
use shim::Result;
use shim::idmap::IdMap;
use shim::mounts::{Attributes, Recursive};
use shim::plan::IdRange;
use shim::sys::mount::Propagation;

use super::config::{unsupported, wrong};

/// Options that belong to a filesystem, and not to one mount of it.
const OF_FILESYSTEMS: [&str; 22] = [
    "acl",
    "dirsync",
    "gid",
    "hidepid",
    "huge",
    "iversion",
    "lazytime",
    "mand",
    "max",
    "mode",
    "mpol",
    "newinstance",
    "noacl",
    "noswap",
    "nr_blocks",
    "nr_inodes",
    "ptmxmode",
    "quota",
    "size",
    "subset",
    "sync",
    "uid",
];

/// What the options of an entry say.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) bind: bool,
    pub(super) recursive: bool,
    /// What is there already is changed.
    pub(super) remount: bool,
    /// The new filesystem gets what is in the directory.
    pub(super) copy_up: bool,
    pub(super) attributes: Attributes,
    /// Those that are named as not to be there.
    pub(super) cleared: Attributes,
    pub(super) recursive_change: Recursive,
    pub(super) propagation: Option<Propagation>,
    /// Whether ids are mapped, and if so also of what is mounted below.
    pub(super) idmap: Option<bool>,
    /// How users and groups are mapped, where the option itself says it.
    pub(super) id_lines: Option<[Vec<IdMap>; 2]>,
    /// For the filesystem.
    pub(super) data: Vec<(CString, Option<CString>)>,
}

/// What a word does to the attributes.
enum Word {
    Set(Attributes),
    Clear(Attributes),
}

impl Word {
    /// One of those that have a recursive form with an `r` in front.
    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "ro" => Self::Set(Attributes::READONLY),
            "nosuid" => Self::Set(Attributes::NOSUID),
            "nodev" => Self::Set(Attributes::NODEV),
            "noexec" => Self::Set(Attributes::NOEXEC),
            "noatime" => Self::Set(Attributes::NOATIME),
            "strictatime" => Self::Set(Attributes::STRICTATIME),
            "nodiratime" => Self::Set(Attributes::NODIRATIME),
            "nosymfollow" => Self::Set(Attributes::NOSYMFOLLOW),
            "rw" => Self::Clear(Attributes::READONLY),
            "suid" => Self::Clear(Attributes::NOSUID),
            "dev" => Self::Clear(Attributes::NODEV),
            "exec" => Self::Clear(Attributes::NOEXEC),
            "diratime" => Self::Clear(Attributes::NODIRATIME),
            "symfollow" => Self::Clear(Attributes::NOSYMFOLLOW),
            // The kernel's own way, which the others differ from.
            "relatime" | "atime" | "norelatime" | "nostrictatime" => Self::Clear(Attributes::ATIME),
            _ => return None,
        })
    }

    /// What is set and what is cleared with this word behind the others.
    fn change(self, set: Attributes, clear: Attributes) -> (Attributes, Attributes) {
        match self {
            // Values of one field, of which it has one at a time.
            Self::Set(one) if !one.without(Attributes::ATIME).is_empty() => {
                (set.with(one), clear.without(one))
            }
            Self::Set(one) => (
                set.without(Attributes::ATIME).with(one),
                clear.without(Attributes::ATIME),
            ),
            Self::Clear(one) => (set.without(one), clear.with(one)),
        }
    }
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// Names the one that is not supported.
    pub(super) fn read(given: &Given, field: &str) -> Result<Self> {
        let mut options = Self {
            bind: given.typ().as_deref() == Some("bind"),
            ..Self::default()
        };
        for word in given.options().iter().flatten() {
            options.take(word, field)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str, field: &str) -> Result<()> {
        if let Some(word) = Word::read(word) {
            (self.attributes, self.cleared) = word.change(self.attributes, self.cleared);
            return Ok(());
        }
        if let Some(word) = word.strip_prefix('r').and_then(Word::read) {
            let Recursive { set, clear } = self.recursive_change;
            let (set, clear) = word.change(set, clear);
            self.recursive_change = Recursive { set, clear };
            return Ok(());
        }
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            // What every filesystem is anyway, and what is only about messages of the kernel.
            "defaults" | "async" | "nolazytime" | "nomand" | "noiversion" | "silent" | "loud" => {}
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "unbindable" | "runbindable" => self.propagation = Some(Propagation::Unbindable),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "copy-symlink" | "src-nofollow" => {
                return Err(unsupported(format!("{field}.options: {word}")));
            }
            _ => {
                let (key, value) = match word.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (word, None),
                };
                if let ("idmap" | "ridmap", Some(lines)) = (key, value) {
                    self.idmap = Some(key == "ridmap");
                    let lines = id_lines(lines).ok_or_else(|| {
                        wrong(format!("{field}.options: {key}"), "no map of ids")
                            .hint("it is as uids=0-1000-10#10-2000-5;gids=0-1000-10#10-2000-5")
                    })?;
                    self.id_lines = Some(lines);
                    return Ok(());
                }
                let text = |text: &str| {
                    CString::new(text).map_err(|_| wrong(field, "an option contains a NUL byte"))
                };
                self.data.push((text(key)?, value.map(text).transpose()?));
            }
        }
        Ok(())
    }

    /// A bind has the filesystem of its source, whose options it cannot change: as the kernel, runc and crun, passes them over,
    /// but says so.
    pub(super) fn drop_filesystems(&mut self, field: &str, warnings: &mut Vec<String>) {
        self.data.retain(|(key, _)| {
            let key = key.to_string_lossy();
            let passed_over = OF_FILESYSTEMS.contains(&key.as_ref());
            if passed_over {
                warnings.push(format!(
                    "{field}.options: {key} is passed over: a bind has the filesystem of its source"
                ));
            }
            !passed_over
        });
    }

    /// For a new filesystem, which nothing is mounted below.
    pub(super) fn flatten(&mut self) {
        let Recursive { set, clear } = std::mem::take(&mut self.recursive_change);
        self.attributes = self.attributes.without(clear).with(set);
    }
}

/// Maps as crun and podman write them: `uids=FIRST-SECOND-COUNT#…;gids=…`, with the numbers of `uidMappings`.
fn id_lines(text: &str) -> Option<[Vec<IdMap>; 2]> {
    let mut maps = [Vec::new(), Vec::new()];
    for part in text.split(';') {
        let (name, lines) = part.split_once('=')?;
        let index = ["uids", "gids"].iter().position(|known| *known == name)?;
        for line in lines.split('#') {
            let numbers = line.split('-').map(|number| number.parse().ok());
            let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
            let &[inside, outside, count] = numbers.as_slice() else {
                return None;
            };
            maps.get_mut(index)?
                .push(IdRange::new(inside, outside, count).into());
        }
    }
    Some(maps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_three_numbers_each() {
        let line = |from, to, range| IdMap { from, to, range };
        let one = [line(0, 1, 10), line(10, 30, 5)];
        let read = id_lines("uids=0-1-10#10-30-5;gids=0-1-10").unwrap();
        assert_eq!(read, [one.to_vec(), one[..1].to_vec()]);
        for text in [
            "",
            "uids",
            "uids=",
            "uids=0-1",
            "uids=0-1-2-3",
            "ids=0-1-2",
            "uids=@0-1-2",
            "uids=0--1-2",
        ] {
            assert!(id_lines(text).is_none(), "{text}");
        }
    }
}
