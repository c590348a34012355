//! Reads the configuration file: TOML with known keys and good values, or an error with the line.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use shim::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Pull, Settings, pull};
use crate::capabilities::{List, Request};
use crate::cli::parse_userns;
use crate::decimal::decimal;
use crate::idrange::{self, Pool};
use crate::ids::ImageId;
use crate::image::parse_limit;
use crate::mounts::{self, MountSpec, Share};
use crate::profile::{ProfileName, SeccompChoice};
use crate::regular::Source;
use crate::suggest::{Wrong, nearest, shown};

/// Largest configuration, in bytes.
const LIMIT: u64 = 1 << 20;

/// Keys that only the whole file has.
pub(super) const OF_THE_FILE: [&str; 7] = [
    "base", "state", "data", "id_pool", "import", "pull", "image",
];
/// Keys that the whole file and the table of an image have.
pub(super) const OF_CONTAINERS: [&str; 9] = [
    "profile",
    "userns",
    "caps",
    "seccomp",
    "no_new_privileges",
    "read_only",
    "share",
    "mounts",
    "resolv_conf",
];

type Key<'t> = Spanned<Cow<'t, str>>;
type Value<'t> = Spanned<DeValue<'t>>;

/// What the file at `config` says.
pub(super) fn read(config: &Path) -> shim::Result<Config> {
    let source = Source {
        op: "read configuration",
        name: config,
        limit: LIMIT,
    };
    let seen = match source.look() {
        Ok(seen) => seen,
        Err(Errno::ENOENT) => return Ok(Config::default()),
        Err(errno) => {
            return Err(source
                .error()
                .errno(errno)
                .hint("correct its permissions, or remove it"));
        }
    };
    let bytes = source.read(source.open(&seen)?)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        source
            .error()
            .flags(format!("line {line}"))
            .because("not UTF-8")
            .hint("TOML is UTF-8 text")
    })?;
    let file = File {
        source,
        text: &text,
    };
    file.parse()
}

/// The text, and where it comes from.
struct File<'f> {
    source: Source<'f>,
    text: &'f str,
}

impl File<'_> {
    fn parse(&self) -> shim::Result<Config> {
        let table = DeTable::parse(self.text).map_err(|error| {
            self.at(error.span().map_or(0, |span| span.start))
                .because(error.message().replace('\n', ", "))
                .hint("the file is TOML: base = \"/media/startos\"")
        })?;
        let mut config = Config::default();
        for (key, value) in table.into_inner() {
            let name: &str = key.as_ref();
            match name {
                "base" => config.base = Some(self.good(&key, &value, path)?),
                "state" => config.state = Some(self.good(&key, &value, path)?),
                "data" => config.data = Some(self.good(&key, &value, path)?),
                "id_pool" => config.id_pool = Some(self.good(&key, &value, id_pool)?),
                "pull" => self.pull(&mut config.pull, &key, &value)?,
                "import" => self.import(&mut config, &key, &value)?,
                "image" => self.images(&mut config, &key, &value)?,
                _ => {
                    let known = OF_THE_FILE.into_iter().chain(OF_CONTAINERS);
                    self.set(&mut config.everywhere, &key, &value, known)?;
                }
            }
        }
        Ok(config)
    }

    fn import(&self, config: &mut Config, key: &Key<'_>, value: &Value<'_>) -> shim::Result<()> {
        const KEYS: [&str; 4] = ["max_size", "max_files", "max_ratio", "max_window"];
        for (key, value) in self.good(key, value, table)? {
            let name: &str = key.as_ref();
            let limits = &mut config.import;
            let slot = match name {
                "max_size" => &mut limits.size,
                "max_files" => &mut limits.files,
                "max_ratio" => &mut limits.ratio,
                "max_window" => &mut limits.window,
                _ => return Err(self.unknown(key, KEYS.into_iter())),
            };
            *slot = Some(self.good(key, value, limit)?);
        }
        Ok(())
    }

    fn images(&self, config: &mut Config, key: &Key<'_>, value: &Value<'_>) -> shim::Result<()> {
        for (id, value) in self.good(key, value, table)? {
            let image = ImageId::new(id.as_ref().as_ref())
                .map_err(|error| Wrong::from(&error).at(self.at(id.span().start)))?;
            let settings = config.images.entry(image.into()).or_default();
            for (key, value) in self.good(id, value, table)? {
                self.set(settings, key, value, OF_CONTAINERS.into_iter())?;
            }
        }
        Ok(())
    }

    fn pull(&self, settings: &mut Pull, key: &Key<'_>, value: &Value<'_>) -> shim::Result<()> {
        for (key, value) in self.good(key, value, table)? {
            let name: &str = key.as_ref();
            match name {
                "authfile" => settings.authfile = Some(self.good(key, value, path)?),
                "ca_cert" => settings.ca_cert = Some(self.good(key, value, path)?),
                "plain_http" => settings.plain_http = self.good(key, value, registries)?,
                "proxy" => settings.proxy = Some(self.good(key, value, proxy)?),
                "timeout" => settings.timeout = Some(self.good(key, value, timeout)?),
                _ => return Err(self.unknown(key, pull::KEYS.into_iter())),
            }
        }
        Ok(())
    }

    /// Sets what `key` says of containers; `known` are the keys that can stand where it stands.
    fn set(
        &self,
        settings: &mut Settings,
        key: &Key<'_>,
        value: &Value<'_>,
        known: impl Iterator<Item = &'static str>,
    ) -> shim::Result<()> {
        let name: &str = key.as_ref();
        match name {
            "profile" => settings.profile = Some(self.good(key, value, profile)?),
            "userns" => settings.userns = Some(self.good(key, value, userns)?),
            "caps" => settings.caps = vec![self.good(key, value, caps)?],
            "seccomp" => settings.seccomp = Some(self.good(key, value, seccomp)?),
            "no_new_privileges" => {
                settings.no_new_privileges = Some(self.good(key, value, boolean)?);
            }
            "read_only" => settings.read_only = Some(self.good(key, value, boolean)?),
            "share" => settings.share = Some(self.good(key, value, share)?),
            "mounts" => settings.mounts = self.good(key, value, mounts)?,
            "resolv_conf" => {
                settings.resolv_conf = Some(self.good(key, value, path)?);
            }
            _ => return Err(self.unknown(key, known)),
        }
        Ok(())
    }

    /// The value of `key` as `read` understands it.
    fn good<'v, 't, T>(
        &self,
        key: &Key<'_>,
        value: &'v Value<'t>,
        read: impl FnOnce(&'v DeValue<'t>) -> Result<T, Wrong>,
    ) -> shim::Result<T> {
        read(value.as_ref()).map_err(|wrong| {
            let why = format!("{} {}", shown(OsStr::new(key.as_ref().as_ref())), wrong.why);
            self.at(value.span().start).because(why).hint(wrong.hint)
        })
    }

    fn unknown(&self, key: &Key<'_>, known: impl Iterator<Item = &'static str>) -> Error {
        let name: &str = key.as_ref();
        let known: Vec<&str> = known.collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None if OF_THE_FILE.contains(&name) => {
                format!("{name} is said once, above the first table")
            }
            None => format!("the keys are {}", known.join(", ")),
        };
        self.at(key.span().start)
            .because(format!("unknown key {}", shown(name.as_ref())))
            .hint(hint)
    }

    fn at(&self, offset: usize) -> Error {
        let line = line_of(self.text.as_bytes(), offset);
        self.source.error().flags(format!("line {line}"))
    }
}

fn wrong_type<T>(value: &DeValue<'_>, hint: &str) -> Result<T, Wrong> {
    Err(Wrong::new(format!("is of type {}", value.type_str()), hint))
}

fn string<'v>(value: &'v DeValue<'_>, hint: &str) -> Result<&'v str, Wrong> {
    match value {
        DeValue::String(text) if text.contains('\0') => {
            Err(Wrong::new("contains a NUL byte", hint))
        }
        DeValue::String(text) => Ok(text),
        other => wrong_type(other, hint),
    }
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    const HINT: &str = "it is an absolute path in quotes";
    let text = string(value, HINT)?;
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err(Wrong::new("is not an absolute path", HINT))
    }
}

fn limit(value: &DeValue<'_>) -> Result<u64, Wrong> {
    const HINT: &str =
        "give a number above 0, or in quotes one with k, m, g or t after it, or \"none\"";
    let parsed = match value {
        DeValue::Integer(number) => parse_limit(&number.to_string()),
        other => parse_limit(string(other, HINT)?),
    };
    parsed.map_err(named)
}

fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    match value {
        DeValue::Boolean(yes) => Ok(*yes),
        other => wrong_type(other, "it is true or false, without quotes"),
    }
}

fn table<'v, 't>(value: &'v DeValue<'t>) -> Result<&'v DeTable<'t>, Wrong> {
    match value {
        DeValue::Table(table) => Ok(table),
        other => wrong_type(
            other,
            "it is a table: [import], [pull] or [image.ID], and keys below it",
        ),
    }
}

fn strings(value: &DeValue<'_>) -> Result<Vec<String>, Wrong> {
    const HINT: &str = "it is a list of texts: [\"one\", \"two\"]";
    match value {
        DeValue::Array(list) => list
            .iter()
            .map(|one| string(one.as_ref(), HINT).map(str::to_owned))
            .collect(),
        other => wrong_type(other, HINT),
    }
}

/// Puts "is wrong:" between the key and what is said of its value.
fn named(wrong: Wrong) -> Wrong {
    Wrong {
        why: format!("is wrong: {}", wrong.why),
        ..wrong
    }
}

fn profile(value: &DeValue<'_>) -> Result<ProfileName, Wrong> {
    let text = string(value, "give confined, outer, hardened or none in quotes")?;
    ProfileName::parse(text).map_err(named)
}

fn userns(value: &DeValue<'_>) -> Result<crate::cli::Userns, Wrong> {
    let text = string(value, "give host, identity, auto or a map in quotes")?;
    parse_userns(text).map_err(named)
}

fn seccomp(value: &DeValue<'_>) -> Result<SeccompChoice, Wrong> {
    const HINT: &str = "give default, unconfined, or an absolute path in quotes";
    let choice = SeccompChoice::parse(string(value, HINT)?.into()).map_err(named)?;
    match choice {
        SeccompChoice::File(path) if !path.is_absolute() => {
            Err(Wrong::new("is not an absolute path", HINT))
        }
        choice => Ok(choice),
    }
}

/// A list is the exact set; a table has `add` and `drop`.
fn caps(value: &DeValue<'_>) -> Result<Request, Wrong> {
    const HINT: &str =
        "give [\"ALL\"] or the exact set as a list, or { add = [...], drop = [...] }";
    let mut request = Request::default();
    match value {
        DeValue::Array(_) => request.exact = Some(capabilities(value)?),
        DeValue::Table(table) => {
            for (key, value) in table {
                match key.as_ref().as_ref() {
                    "add" => request.add = capabilities(value.as_ref())?,
                    "drop" => request.drop = capabilities(value.as_ref())?,
                    other => {
                        let why = format!("has an unknown key {}", shown(other.as_ref()));
                        return Err(Wrong::new(why, HINT));
                    }
                }
            }
        }
        other => return wrong_type(other, HINT),
    }
    request.check().map_err(named)?;
    Ok(request)
}

fn capabilities(value: &DeValue<'_>) -> Result<List, Wrong> {
    strings(value)?
        .iter()
        .try_fold(List::default(), |list, name| {
            Ok(list | List::parse_one(name).map_err(named)?)
        })
}

/// Each once, in the order that `--share` gives them.
fn share(value: &DeValue<'_>) -> Result<Vec<Share>, Wrong> {
    let names = strings(value)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    mounts::parse_share(&names.join(",")).map_err(|error| named(Wrong::from(&error)))
}

fn mounts(value: &DeValue<'_>) -> Result<Vec<MountSpec>, Wrong> {
    let entries = strings(value)?;
    let entries = entries.iter().map(|entry| mounts::parse(entry));
    entries
        .collect::<shim::Result<_>>()
        .map_err(|error| named(Wrong::from(&error)))
}

/// `START:COUNT`
fn id_pool(value: &DeValue<'_>) -> Result<Pool, Wrong> {
    const HINT: &str =
        "give \"START:COUNT\": at least 65536 ids, none above 4294967294, and not 0, which is root";
    let text = string(value, HINT)?;
    let numbers = text
        .split_once(':')
        .and_then(|(start, count)| Some((decimal(start.as_bytes())?, decimal(count.as_bytes())?)));
    match numbers {
        Some((start @ 1.., count @ idrange::SIZE..)) if start.checked_add(count).is_some() => {
            Ok(Pool { start, count })
        }
        _ => Err(Wrong::new(
            format!("is wrong: \"{}\" is no pool of ids", shown(text.as_ref())),
            HINT,
        )),
    }
}

fn registries(value: &DeValue<'_>) -> Result<Vec<String>, Wrong> {
    strings(value)?
        .iter()
        .map(|text| pull::registry(text))
        .collect()
}

fn proxy(value: &DeValue<'_>) -> Result<String, Wrong> {
    pull::proxy(string(value, "give http://HOST:PORT in quotes")?)
}

fn timeout(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    match value {
        DeValue::Integer(number) => pull::timeout(decimal(number.as_str().as_bytes())),
        other => wrong_type(other, "give a number of seconds, without quotes"),
    }
}

/// The line, counted from one, that a byte offset is in.
fn line_of(text: &[u8], offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
