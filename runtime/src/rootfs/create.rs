//! `subcontainer create-fs`: journal, writable layer, overlay, what is inside, and the mount attached last.

use std::fs::{DirBuilder, File, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use shim::plan::IdMaps;
use shim::sys::mount::{Change, Propagation, attach, set_attributes};
use shim::{Error, Result, RootDir};

use super::idmapped::{self, Ids, LayerIds};
use super::journal::{self, Journal, Record, State};
use super::layers::{self, Layer, Writable};
use super::lower::Lower;
use super::overlay::{Refusal, Stack};
use super::{Places, destroy, errno_of, inside, overlay, probe, ranges, remove};
use crate::config::Dirs;
use crate::identity::boot_id;
use crate::verity::Wanted;
use crate::{host, leader};

/// How many names may be lost to another create-fs that takes our journal for a dead one's.
const ATTEMPTS: usize = 16;

/// A root filesystem that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Where it is: `BASE/subcontainers/GUID`.
    pub rootfs: PathBuf,
    /// Its name: 32 hexadecimal digits.
    pub guid: String,
    /// What went other than asked for: changes live in memory, or remains of others could not be removed.
    pub warning: Option<String>,
}

/// Makes a root filesystem from image `image` (an id without `/`, as already checked), remembers `name` with it, and
/// removes what killed creates and earlier boots have left.
///
/// # Errors
/// An unknown image; an image whose `/proc`, `/dev`, `/sys` or `/etc` is no real directory; no free ids, or a
/// filesystem whose ids cannot be mapped; whatever the kernel refuses. Nothing is left then.
pub fn create(dirs: &Dirs, image: &str, name: Option<&str>, ids: &Ids) -> Result<Created> {
    create_verified(dirs, image, None, name, ids)
}

/// The same from an image that is a file with this digest.
///
/// # Errors
/// As [`create`]; and a file that has another digest, or none.
pub fn create_verified(
    dirs: &Dirs,
    image: &str,
    verity: Option<Wanted>,
    name: Option<&str>,
    ids: &Ids,
) -> Result<Created> {
    let (made, _) = create_as(dirs, (image, verity), name, ids, Kind::default())?;
    Ok(made)
}

/// The same for a caller who may mount in a mount namespace of its own only: see [`super::Deferred`]. Its ids are the
/// caller's alone already.
///
/// # Errors
/// As [`create`].
pub fn create_deferred(dirs: &Dirs, image: &str, name: Option<&str>) -> Result<Created> {
    let kind = Kind {
        deferred: true,
        ..Kind::default()
    };
    let (made, _) = create_as(dirs, (image, None), name, &Ids::AsOnDisk, kind)?;
    Ok(made)
}

/// What becomes of a root filesystem that is made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kind {
    /// It is mounted by each launch.
    pub(super) deferred: bool,
    /// It goes with the process that makes it.
    pub(super) temporary: bool,
}

pub(super) fn create_as(
    dirs: &Dirs,
    (image, verity): (&str, Option<Wanted>),
    name: Option<&str>,
    ids: &Ids,
    kind: Kind,
) -> Result<(Created, Journal)> {
    // First, so that an unknown image changes nothing at all.
    let lower = layers::image(dirs, image, verity)?;
    lower.check_number(image, usize::from(kind.deferred))?;
    for directory in [&dirs.state, &dirs.data] {
        journal::make_private(directory)?;
    }
    let mut warnings = clear_remains(dirs);
    let (places, record, mut journal) = begin(dirs, image, name, kind.deferred)?;
    let made = make(&places, lower, ids, record, &mut journal).and_then(|warning| {
        if kind.temporary {
            journal.show()?;
        } else {
            journal.finish()?;
        }
        Ok(warning)
    });
    match made {
        Ok(warning) => {
            warnings.extend(warning);
            let made = Created {
                rootfs: places.rootfs,
                guid: places.guid,
                warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
            };
            Ok((made, journal))
        }
        Err(error) => match destroy::take_down(&places).and_then(|()| journal.forget()) {
            Ok(()) => Err(error),
            Err(second) => Err(error.hint(format!(
                "and what was made could not be taken back: {}; try destroy-fs {}",
                second.to_string().replace('\n', ";"),
                places.guid
            ))),
        },
    }
}

fn begin(
    dirs: &Dirs,
    image: &str,
    name: Option<&str>,
    deferred: bool,
) -> Result<(Places, Record, Journal)> {
    for _ in 0..ATTEMPTS {
        let places = Places::new(dirs, &random_guid()?);
        let record = Record {
            deferred,
            ..Record::new(&places, image, name)?
        };
        if let Some(journal) = Journal::begin(&places, &record)? {
            return Ok((places, record, journal));
        }
    }
    Err(Error::new("write record")
        .on(dirs.state.display())
        .because("other create-fs removed it every time")
        .hint("try again"))
}

/// 128 random bits.
fn random_guid() -> Result<String> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = [0; 16];
    File::open(SOURCE)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::io("read", SOURCE, &error).hint("is /dev complete?"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Everything after the record: the result is a warning.
fn make(
    places: &Places,
    lower: Lower,
    ids: &Ids,
    mut record: Record,
    journal: &mut Journal,
) -> Result<Option<String>> {
    record.id_maps = match ids {
        Ids::AsOnDisk => None,
        Ids::Private(pool) => Some(ranges::claim(places, *pool)?),
        Ids::Mapped(maps) => Some(maps.clone()),
    };
    if record.id_maps.is_some() {
        journal.write(&record)?;
    }
    let maps = record.id_maps.as_ref();
    let data = make_data(places)?;
    lower.remember(places)?;
    let like = lower
        .stat()
        .map_err(|errno| Error::sys("look at", lower.root_path().display(), errno))?;
    let (mount, warning) = make_overlay(places, &record.image, lower, &data, maps, Writable::make)?;
    let root = RootDir::from(mount);
    if let Some(maps) = maps {
        probe::write(&root, &format!(".probe-{}", places.guid), maps)
            .map_err(|errno| idmapped::cannot_store(&record.image, &places.data, errno))?;
    }
    inside::complete(&root, &record.image, &like, maps)?;
    make_mount_point(places)?;
    if !record.deferred {
        attach_shared(places, &root)?;
    }
    Ok(warning)
}

fn make_data(places: &Places) -> Result<RootDir> {
    journal::make_private(&places.containers)?;
    let failed = |error: &std::io::Error| {
        Error::io("make directory", places.data.display(), error).hint("check --data")
    };
    DirBuilder::new()
        .mode(0o700)
        .create(&places.data)
        .map_err(|error| failed(&error))?;
    std::fs::write(places.data.join(BOOT), boot_id()?).map_err(|error| failed(&error))?;
    RootDir::open(&places.data).map_err(|errno| failed(&errno.into()))
}

/// Names the boot that a data directory was made in: after another one nobody can be using it.
const BOOT: &str = "boot";

/// The overlay, attached nowhere, and perhaps a warning. Its layers show the ids that `maps` has; `open` makes or finds
/// the upper one in the data directory.
pub(super) fn make_overlay(
    places: &Places,
    image: &str,
    lower: Lower,
    data: &RootDir,
    maps: Option<&IdMaps>,
    open: impl FnOnce(Layer, &Lower) -> Result<Writable, Errno>,
) -> Result<(OwnedFd, Option<String>)> {
    let ids = maps.map(LayerIds::new).transpose()?;
    let lower = match &ids {
        None => lower,
        Some(ids) => lower.mapped(ids)?,
    };
    let layer = Layer {
        dir: RootDir::open(&places.data).map_err(|errno| {
            Error::sys("open", places.data.display(), errno).hint("check --data")
        })?,
        detached: false,
    };
    let layer = match &ids {
        None => Ok(layer),
        Some(ids) => ids.writable(layer),
    };
    let refusal = match layer {
        Ok(layer) => {
            let on_disk = open(layer, &lower).map_err(|errno| match errno {
                Errno::EOVERFLOW => idmapped::nobodys_root(&lower.root_path()),
                _ => Error::sys("make upper directory in", places.data.display(), errno)
                    .hint("check --data: space, quota, and that its filesystem has owners"),
            })?;
            let stack = Stack {
                lower: &lower,
                writable: &on_disk,
                read_only: false,
            };
            match overlay::assemble(stack, data) {
                Ok(mount) => return Ok((mount, None)),
                Err(refusal) => refusal,
            }
        }
        // A filesystem that cannot be idmapped.
        Err(Errno::EINVAL) => Refusal::from(Errno::EINVAL),
        Err(errno) => return Err(idmapped::refused(&places.data, errno)),
    };
    if refusal.may_be_the_upper()
        && let Ok(memory) = Writable::memory(&lower, ids.as_ref())
        && let Ok(mount) = overlay::assemble(
            Stack {
                lower: &lower,
                writable: &memory,
                read_only: false,
            },
            data,
        )
    {
        let warning = format!(
            "upper directory on {} is not possible at {}: using tmpfs; changes live in memory",
            host::filesystem_at(&places.data),
            places.containers.display()
        );
        return Ok((mount, Some(warning)));
    }
    Err(refusal.into_error(image, &places.data))
}

fn make_mount_point(places: &Places) -> Result<()> {
    // Root inside makes programs set-user-id, and where its ids are the host's they are the host root's: other users of
    // the host must not get at them.
    make_directory(&places.subcontainers, 0o700)
        .and_then(|()| make_directory(&places.rootfs, 0o755))
        .map_err(|error| attach_failed(places, errno_of(&error)))
}

/// Shared, in a peer group of its own: what a client mounts below it later reaches the container, whose tree is a
/// slave of this one.
pub(super) fn attach_shared(places: &Places, root: &RootDir) -> Result<()> {
    let failed = |errno| attach_failed(places, errno);
    let shared = Change {
        propagation: Some(Propagation::Shared),
        ..Change::default()
    };
    set_attributes(root, shared).map_err(failed)?;
    let place = RootDir::open(&places.rootfs).map_err(failed)?;
    attach(root.as_fd(), place).map_err(failed)
}

fn attach_failed(places: &Places, errno: Errno) -> Error {
    Error::sys("attach root filesystem at", places.rootfs.display(), errno)
        .hint("check --base: it must be a directory in which one can make and mount directories")
}

/// A directory of this mode, whatever the umask. An existing one keeps its mode: it is somebody's choice.
fn make_directory(path: &Path, mode: u32) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes away what creates that were killed and earlier boots have left. Failing to do so does not keep anybody from
/// making a new root filesystem: it is told in words.
fn clear_remains(dirs: &Dirs) -> Vec<String> {
    let none = Places::new(dirs, "");
    let mut complaints = Vec::new();
    let Ok((complete, creating)) = journal::names(&none.records) else {
        return complaints;
    };
    for guid in creating.iter().filter(|name| is_guid(name)) {
        let places = Places::new(dirs, guid);
        // One that was used by a `run` may still have a container that is just ending.
        if let Ok(State::HalfMade(journal)) = journal::state(&places)
            && let Err(error) = leader::stop(&dirs.state, &places.rootfs)
                .and_then(|()| destroy::take_down(&places))
                .and_then(|()| journal.forget())
        {
            complaints.push(complaint(guid, &error));
        }
    }
    // The records of an earlier boot may be gone with it (the state directory is usually in memory).
    let data = journal::list(&none.containers).unwrap_or_default();
    for guid in data {
        let known = complete.contains(&guid) || creating.contains(&guid);
        if is_guid(&guid) && !known && is_of_earlier_boot(&none.containers.join(&guid)) {
            let places = Places::new(dirs, &guid);
            if let Err(error) = remove::tree(&places.containers, &guid) {
                complaints.push(complaint(&guid, &error));
            }
        }
    }
    complaints
}

/// Only what looks like our own work is ever cleared without being asked for.
fn is_guid(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_of_earlier_boot(data: &Path) -> bool {
    match (std::fs::read_to_string(data.join(BOOT)), boot_id()) {
        // Empty: it is being written at this moment.
        (Ok(then), Ok(now)) => !then.is_empty() && then.trim() != now,
        _ => false,
    }
}

fn complaint(guid: &str, error: &Error) -> String {
    let first = error.to_string();
    let first = first.lines().next().unwrap_or_default();
    format!("remains of {guid} are still there: {first}")
}
