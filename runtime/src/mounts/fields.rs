//! The fields of an entry: which keys there are, which types have them, and what their values may be.

use std::path::PathBuf;

use shim::idmap::{self, IdMap};
use shim::mounts::{Attributes, Target};
use shim::sys::mount::Propagation;
use shim::{Error, Result};

use super::spec::{Kind, MountSpec, Source, refusal};
use crate::decimal::decimal;
use crate::ids::Guid;
use crate::suggest::{nearest, shown};

const BIND: u8 = 1;
const VOLUME: u8 = 2;
const TMPFS: u8 = 4;
const OVERLAY: u8 = 8;
const DEV: u8 = 16;
const TYPES: [(&str, u8); 5] = [
    ("bind", BIND),
    ("volume", VOLUME),
    ("tmpfs", TMPFS),
    ("overlay", OVERLAY),
    ("dev", DEV),
];

/// A key, its other names, the types that have it, and whether it is a switch (`ro`, `ro=true`, `ro=false`).
struct Key {
    name: &'static str,
    others: &'static [&'static str],
    types: u8,
    switch: bool,
}

const fn key(name: &'static str, others: &'static [&'static str], types: u8) -> Key {
    Key {
        name,
        others,
        types,
        switch: false,
    }
}

const fn switch(name: &'static str, others: &'static [&'static str], types: u8) -> Key {
    Key {
        switch: true,
        ..key(name, others, types)
    }
}

static KEYS: [Key; 17] = [
    key("type", &[], u8::MAX),
    key("src", &["source"], BIND | VOLUME),
    key("dst", &["target", "destination"], u8::MAX),
    switch("ro", &["readonly"], BIND | VOLUME | TMPFS | OVERLAY),
    switch("rw", &[], BIND | VOLUME | TMPFS | OVERLAY),
    switch("nosuid", &[], BIND | VOLUME | TMPFS | OVERLAY),
    switch("nodev", &[], BIND | VOLUME | TMPFS | OVERLAY),
    switch("noexec", &[], BIND | VOLUME | TMPFS | OVERLAY),
    switch("recursive", &[], BIND | VOLUME),
    key("idmap", &[], BIND | VOLUME),
    key("propagation", &["bind-propagation"], BIND | VOLUME),
    key("size", &["tmpfs-size"], TMPFS),
    key("mode", &["tmpfs-mode"], TMPFS),
    key("nr_inodes", &[], TMPFS),
    key("lower", &[], OVERLAY),
    key("upper", &[], OVERLAY),
    key("work", &[], OVERLAY),
];

/// The fields of an entry.
pub(super) struct Fields<'t> {
    entry: &'t str,
    values: Vec<(&'static Key, &'t str)>,
}

impl<'t> Fields<'t> {
    pub(super) fn read(entry: &'t str) -> Result<Self> {
        let mut fields = Self {
            entry,
            values: Vec::new(),
        };
        for field in entry.split(',') {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (field, None),
            };
            let is = |key: &&Key| key.name == name || key.others.contains(&name);
            let Some(key) = KEYS.iter().find(is) else {
                return Err(fields.unknown(name));
            };
            if fields.get(key.name).is_some() {
                return Err(fields.refuse(
                    format!("{} is given twice", key.name),
                    "each key may be given once",
                ));
            }
            let value = match (value, key.switch) {
                (None, true) => "true",
                (Some(value @ ("true" | "false")), true) => value,
                (Some(value), true) => {
                    return Err(fields.refuse(
                        format!("{name}={} is neither true nor false", shown(value.as_ref())),
                        format!("give {name} alone, or {name}=true or {name}=false"),
                    ));
                }
                (Some(value), false) if !value.is_empty() && !value.contains('\0') => value,
                (_, false) => {
                    return Err(
                        fields.refuse(format!("{name} has no value"), format!("give {name}=VALUE"))
                    );
                }
            };
            fields.values.push((key, value));
        }
        Ok(fields)
    }

    /// What the fields say together.
    pub(super) fn spec(&self) -> Result<MountSpec> {
        let (name, kind) = self.kind()?;
        self.check_types(name, kind)?;
        let attributes = self.attributes()?;
        let target = match self.get("dst") {
            Some(text) => text,
            None if kind == DEV => "/dev",
            None => return Err(self.lacks("dst", "dst=PATH is where it is mounted inside")),
        };
        let target = Target::outside_proc(target.as_ref()).map_err(|why| {
            self.refuse(
                format!("dst={target}: {why}"),
                "dst is an absolute path inside, for instance /data; not / and nothing in /proc",
            )
        })?;
        let (kind, attributes) = match kind {
            BIND | VOLUME => (self.bind(kind)?, attributes),
            TMPFS => {
                // As every container runtime mounts it.
                let usual = Attributes::NOSUID.with(Attributes::NODEV);
                (Kind::Tmpfs(self.tmpfs()?), attributes.with(usual))
            }
            OVERLAY => (self.overlay()?, attributes),
            _ => (Kind::Dev, attributes),
        };
        Ok(MountSpec {
            entry: self.entry.to_owned(),
            target,
            kind,
            attributes,
        })
    }

    fn refuse(&self, why: impl Into<String>, hint: impl Into<String>) -> Error {
        refusal(self.entry, why, hint)
    }

    fn unknown(&self, name: &str) -> Error {
        let names = || {
            KEYS.iter()
                .flat_map(|key| std::iter::once(key.name).chain(key.others.iter().copied()))
        };
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                let own: Vec<_> = KEYS.iter().map(|key| key.name).collect();
                format!("the keys are {}", own.join(", "))
            }
        };
        self.refuse(format!("unknown key {:?}", shown(name.as_ref())), hint)
    }

    fn lacks(&self, name: &str, hint: &'static str) -> Error {
        self.refuse(format!("{name} is missing"), hint)
    }

    fn get(&self, name: &str) -> Option<&'t str> {
        self.values
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, value)| *value)
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    fn kind(&self) -> Result<(&'static str, u8)> {
        let text = self
            .get("type")
            .ok_or_else(|| self.lacks("type", "give type=bind, volume, tmpfs, overlay or dev"))?;
        let found = TYPES.into_iter().find(|(name, _)| *name == text);
        found.ok_or_else(|| {
            let names = TYPES.map(|(name, _)| name);
            let hint = match nearest(text, names) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the types are {}", names.join(", ")),
            };
            self.refuse(format!("unknown type {:?}", shown(text.as_ref())), hint)
        })
    }

    /// Every key must be one of the type's.
    fn check_types(&self, name: &str, kind: u8) -> Result<()> {
        let Some((wrong, _)) = self.values.iter().find(|(key, _)| key.types & kind == 0) else {
            return Ok(());
        };
        let right: Vec<_> = TYPES
            .into_iter()
            .filter(|(_, kind)| wrong.types & kind != 0)
            .map(|(name, _)| name)
            .collect();
        Err(self.refuse(
            format!("type={name} has no {}", wrong.name),
            format!("{} belongs to type={}", wrong.name, right.join(" or ")),
        ))
    }

    fn attributes(&self) -> Result<Attributes> {
        if self.is_set("ro") && self.is_set("rw") {
            return Err(self.refuse(
                "both ro and rw",
                "give one of them; rw holds without either",
            ));
        }
        let all = [
            ("ro", Attributes::READONLY),
            ("nosuid", Attributes::NOSUID),
            ("nodev", Attributes::NODEV),
            ("noexec", Attributes::NOEXEC),
        ];
        let set = all.into_iter().filter(|(name, _)| self.is_set(name));
        Ok(set.fold(Attributes::default(), |sum, (_, one)| sum.with(one)))
    }

    fn path(&self, name: &str, text: &str) -> Result<PathBuf> {
        if !text.starts_with('/') {
            return Err(self.refuse(
                format!("{name}={text}: it is not absolute"),
                format!("{name} is a path of the host that begins with /"),
            ));
        }
        Ok(PathBuf::from(text))
    }

    fn bind(&self, kind: u8) -> Result<Kind> {
        let text = self.get("src").ok_or_else(|| {
            self.lacks(
                "src",
                "src is the path on the host, or the name of the volume",
            )
        })?;
        let source = if kind == VOLUME {
            Source::Volume(Guid::new(text).map_err(|_| {
                self.refuse(
                    format!("src={text}: no name of a volume"),
                    "a volume is a directory of BASE/volumes, by its name; for a path take type=bind",
                )
            })?)
        } else {
            Source::Path(self.path("src", text)?)
        };
        let propagation = match self.get("propagation") {
            None | Some("slave" | "rslave") => Propagation::Slave,
            Some("private" | "rprivate") => Propagation::Private,
            Some("shared" | "rshared") => Propagation::Shared,
            Some(other) => {
                return Err(self.refuse(
                    format!("unknown propagation {:?}", shown(other.as_ref())),
                    "give private, slave or shared; with an r before it they mean the same",
                ));
            }
        };
        Ok(Kind::Bind {
            source,
            recursive: self.get("recursive") != Some("false"),
            propagation,
            idmap: self
                .get("idmap")
                .map_or(Ok(Vec::new()), |text| self.idmap(text))?,
        })
    }

    fn idmap(&self, text: &str) -> Result<Vec<IdMap>> {
        let line = |line: &str| {
            let numbers: Option<Vec<u32>> = line
                .split(':')
                .map(|number| decimal(number.as_bytes()))
                .collect();
            match numbers.as_deref() {
                Some(&[from, to]) => Some(IdMap { from, to, range: 1 }),
                Some(&[from, to, range]) => Some(IdMap { from, to, range }),
                _ => None,
            }
        };
        let map: Option<Vec<IdMap>> = text.split(';').map(line).collect();
        let map = map.ok_or_else(|| {
            self.refuse(
                format!("idmap={} is no id map", shown(text.as_ref())),
                "give FROM:TO or FROM:TO:RANGE, more of them after a semicolon: idmap=0:1000;1:100000:65535",
            )
        })?;
        // Its message names the line; which entry it stands in is said as well.
        idmap::check(&map).map_err(|error| error.flags(self.entry.to_owned()))?;
        Ok(map)
    }

    fn tmpfs(&self) -> Result<Vec<(&'static str, String)>> {
        let mut options = vec![("mode", self.get("mode").unwrap_or("1777").to_owned())];
        let mode = &options[0].1;
        let is_mode =
            (1..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if !is_mode {
            return Err(self.refuse(
                format!("mode={} is no mode", shown(mode.as_ref())),
                "give one to four octal digits, for instance mode=0755",
            ));
        }
        for name in ["size", "nr_inodes"] {
            let Some(text) = self.get(name) else {
                continue;
            };
            let percent = text.strip_suffix('%').filter(|_| name == "size");
            let number = match percent {
                Some(number) => decimal(number.as_bytes()).filter(|number| *number <= 100),
                None => decimal(
                    text.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G'])
                        .as_bytes(),
                ),
            };
            let one_letter = text.bytes().filter(u8::is_ascii_alphabetic).count() <= 1;
            // 0 is "no limit" for the kernel (tmpfs(5)): one typing error would give away all memory.
            if number.is_none_or(|number| number == 0) || !one_letter {
                return Err(self.refuse(
                    format!("{name}={} is no size", shown(text.as_ref())),
                    format!(
                        "give a number above 0, with k, m or g after it if you like: {name}=64m"
                    ),
                ));
            }
            options.push((name, text.to_owned()));
        }
        Ok(options)
    }

    fn overlay(&self) -> Result<Kind> {
        let lower = self.get("lower").ok_or_else(|| {
            self.lacks(
                "lower",
                "lower=A:B are the directories below, the topmost first",
            )
        })?;
        let lower: Vec<PathBuf> = lower
            .split(':')
            .map(|text| self.path("lower", text))
            .collect::<Result<_>>()?;
        let upper = match (self.get("upper"), self.get("work")) {
            (Some(upper), Some(work)) => {
                Some((self.path("upper", upper)?, self.path("work", work)?))
            }
            (None, None) => None,
            _ => {
                return Err(self.refuse(
                    "only one of upper and work",
                    "give both, on one filesystem; or neither, for an overlay that is read-only",
                ));
            }
        };
        if upper.is_none() && lower.len() < 2 {
            return Err(self.refuse(
                "one lower directory and no upper",
                "give two lower directories, or upper and work; for one directory take type=bind,ro",
            ));
        }
        Ok(Kind::Overlay { lower, upper })
    }
}
