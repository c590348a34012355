//! `options` of a mount of config.json, in the words of mount(8) and of the runtime specification.

use std::ffi::CString;

use oci_spec::runtime::Mount as Given;
use shim::Result;
use shim::mounts::{Attributes, Recursive};
use shim::sys::mount::Propagation;

use super::config::{unsupported, wrong};

/// What the options of an entry say.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) bind: bool,
    pub(super) recursive: bool,
    pub(super) attributes: Attributes,
    pub(super) recursive_change: Recursive,
    pub(super) propagation: Option<Propagation>,
    /// Whether ids are mapped, and if so also of what is mounted below.
    pub(super) idmap: Option<bool>,
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
            self.attributes = match word {
                Word::Set(one) => self.attributes.with(one),
                Word::Clear(one) => self.attributes.without(one),
            };
            return Ok(());
        }
        if let Some(word) = word.strip_prefix('r').and_then(Word::read) {
            let Recursive { set, clear } = self.recursive_change;
            self.recursive_change = match word {
                Word::Set(one) => Recursive {
                    set: set.with(one),
                    clear: clear.without(one),
                },
                Word::Clear(one) => Recursive {
                    set: set.without(one),
                    clear: clear.with(one),
                },
            };
            return Ok(());
        }
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "defaults" | "async" | "nolazytime" | "nomand" | "noiversion" => {}
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "unbindable" | "runbindable" => self.propagation = Some(Propagation::Unbindable),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" | "remount" | "copy-symlink" | "src-nofollow" => {
                return Err(unsupported(format!("{field}.options: {word}")));
            }
            _ => {
                let (key, value) = match word.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (word, None),
                };
                let text = |text: &str| {
                    CString::new(text).map_err(|_| wrong(field, "an option contains a NUL byte"))
                };
                self.data.push((text(key)?, value.map(text).transpose()?));
            }
        }
        Ok(())
    }

    /// For a new filesystem, which nothing is mounted below.
    pub(super) fn flatten(&mut self) {
        let Recursive { set, clear } = std::mem::take(&mut self.recursive_change);
        self.attributes = self.attributes.without(clear).with(set);
    }
}
