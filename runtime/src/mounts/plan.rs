//! Decides: entries and shares become mounts, checked against the host and the root filesystem, parents before
//! children. Looks and changes nothing.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, stat};
use shim::idmap::IdMap;
use shim::mounts::{Attributes, Content, Mount, Target, Upper};
use shim::plan::{IdMaps, IdRange};
use shim::sys::mount::Propagation;
use shim::{Error, Result, RootDir};

use super::MountArgs;
use super::spec::{Kind, MountSpec, Share, Source};
use crate::bind_mount::is_of_the_kernel;
use crate::config::Dirs;
use crate::host;
use crate::rootfs::volume_map;
use crate::suggest::nearest;

/// What the plan depends on besides the words.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The root filesystem.
    pub rootfs: &'a RootDir,
    /// Volumes lie in `base/volumes`; what is in `state` is believed, and no share may show it.
    pub dirs: &'a Dirs,
    /// The ids of the container, where they are not the caller's.
    pub id_maps: Option<&'a IdMaps>,
    /// Whether a shared /sys is read-only: where the container is confined.
    pub sys_readonly: bool,
}

/// All mounts of a launch.
///
/// # Errors
/// Names the entry: a source that is missing, a target that leads through a symlink or is of another type than the
/// source, two entries for one target, an entry below one that sends mounts to the host.
pub fn plan(args: &MountArgs, around: Surroundings<'_>) -> Result<Vec<Mount>> {
    let mut planned: Vec<Planned<'_>> = Vec::new();
    for share in &args.share {
        planned.push(Planned::share(*share, around.sys_readonly)?);
        planned.extend(Planned::cover(*share, &around.dirs.state));
    }
    for spec in &args.mounts {
        planned.push(Planned::spec(spec, &around.dirs.base, around.id_maps)?);
    }
    // Fewer components first is parents first; the order is otherwise kept.
    planned.sort_by_key(|one| one.mount.target.components().len());
    for index in 0..planned.len() {
        let (earlier, rest) = planned.split_at_mut(index);
        let Some(one) = rest.first_mut() else { break };
        one.fit_in(earlier, around.rootfs)?;
    }
    Ok(planned.into_iter().map(|one| one.mount).collect())
}

/// The mount of `subcontainer mount add`. What its target is, only the running container knows.
///
/// # Errors
/// As [`plan`], and where the entry is of a type that takes several mounts.
pub fn plan_one(spec: &MountSpec, base: &Path, id_maps: Option<&IdMaps>) -> Result<Mount> {
    if spec.kind == Kind::Dev {
        return Err(spec.error(
            "type=dev is made of several mounts, which would be seen one by one",
            "give it to launch",
        ));
    }
    Planned::spec(spec, base, id_maps).map(|planned| planned.mount)
}

/// A mount, and where it comes from.
struct Planned<'a> {
    mount: Mount,
    origin: Origin<'a>,
}

enum Origin<'a> {
    Entry(&'a MountSpec),
    Share(Share),
}

impl<'a> Planned<'a> {
    fn share(share: Share, sys_readonly: bool) -> Result<Self> {
        let source = Path::new("/").join(share.name());
        let unusable =
            |errno| Error::sys("share", source.display(), errno).hint("leave it out of --share");
        stat(&source).map_err(unusable)?;
        let target = Target::outside_proc(&source).map_err(|_| unusable(Errno::EINVAL))?;
        let attributes = if share == Share::Sys && sys_readonly {
            Attributes::READONLY
        } else {
            Attributes::default()
        };
        let content = Content::Bind {
            source,
            file: false,
            recursive: true,
            propagation: Propagation::Slave,
            idmap: Vec::new(),
        };
        Ok(Self {
            mount: Mount::new(target, content, attributes),
            origin: Origin::Share(share),
        })
    }

    /// Covers the state directory where it lies in a share: `exec` believes the records in it, and the container's root
    /// may well be their owner.
    fn cover(share: Share, state: &Path) -> Option<Self> {
        let state = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
        if !state.starts_with(Path::new("/").join(share.name())) {
            return None;
        }
        let option = |name: &CStr, value: &CStr| (name.to_owned(), value.to_owned());
        let content = Content::Tmpfs {
            // The root directory is the one inode.
            options: vec![option(c"mode", c"0700"), option(c"nr_inodes", c"1")],
        };
        let attributes = Attributes::READONLY
            .with(Attributes::NOSUID)
            .with(Attributes::NODEV)
            .with(Attributes::NOEXEC);
        Some(Self {
            mount: Mount {
                make_target: false,
                ..Mount::new(Target::outside_proc(&state).ok()?, content, attributes)
            },
            origin: Origin::Share(share),
        })
    }

    fn spec(spec: &'a MountSpec, base: &Path, id_maps: Option<&IdMaps>) -> Result<Self> {
        let content = match &spec.kind {
            Kind::Bind {
                source,
                recursive,
                propagation,
                idmap,
            } => {
                let path = match source {
                    Source::Path(path) => path.clone(),
                    Source::Volume(name) => base.join("volumes").join(name),
                };
                let opened = open(spec, &path)?;
                Content::Bind {
                    file: !is_directory(&opened),
                    source: path,
                    recursive: *recursive,
                    propagation: *propagation,
                    idmap: on_host(spec, &opened, idmap, id_maps)?,
                }
            }
            Kind::Tmpfs(options) => Content::Tmpfs {
                options: options
                    .iter()
                    .map(|(name, value)| Ok((c_string(spec, name)?, c_string(spec, value)?)))
                    .collect::<Result<_>>()?,
            },
            Kind::Overlay { lower, upper } => {
                let dirs = upper.iter().flat_map(|(upper, work)| [upper, work]);
                for layer in lower.iter().chain(dirs) {
                    if !is_directory(&open(spec, layer)?) {
                        return Err(spec.error(
                            format!("{} is no directory", layer.display()),
                            "an overlay's layers are directories",
                        ));
                    }
                }
                Content::Overlay {
                    lower: lower.clone(),
                    upper: upper.clone().map(|(upper, work)| Upper { upper, work }),
                    user_attributes: !host::in_initial_user_namespace()?,
                }
            }
            Kind::Dev => Content::Dev,
        };
        Ok(Self {
            mount: Mount::new(spec.target.clone(), content, spec.attributes),
            origin: Origin::Entry(spec),
        })
    }

    fn error(&self, why: String, hint: &'static str) -> Error {
        match self.origin {
            Origin::Entry(spec) => spec.error(why, hint),
            Origin::Share(share) => Error::new("share")
                .on(format!("/{}", share.name()))
                .because(why)
                .hint(hint),
        }
    }

    /// Checks it against those that are mounted before it, and against the root filesystem where none of them is what
    /// it lies in.
    fn fit_in(&mut self, earlier: &[Planned<'_>], rootfs: &RootDir) -> Result<()> {
        let target = &self.mount.target;
        if earlier.iter().any(|other| other.mount.target == *target) {
            return Err(self.error(
                format!("{target} is mounted twice"),
                "give each target once, --share and the configuration included",
            ));
        }
        let around = || {
            earlier
                .iter()
                .filter(|other| target.is_within(&other.mount.target))
        };
        if let Some(other) = around().find(|other| other.mount.sends_to_source()) {
            let why = format!("it lies in {}, which is shared", other.mount.target);
            return Err(self.error(
                why,
                "it would be mounted on the host as well and stay there; take propagation=slave for the outer one",
            ));
        }
        match around().max_by_key(|other| other.mount.target.components().len()) {
            None => self.look_at(rootfs),
            Some(other) => {
                // What is the host's own is no place to make directories in.
                self.mount.make_target = matches!(other.origin, Origin::Entry(_));
                Ok(())
            }
        }
    }

    /// Follows the target through the root filesystem as far as it exists.
    fn look_at(&self, rootfs: &RootDir) -> Result<()> {
        let target = &self.mount.target;
        let mut way = PathBuf::new();
        let (mut rest, mut found) = (target.components().iter(), None);
        for name in rest.by_ref() {
            way.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
            match rootfs.open_plain(&way, OFlag::O_PATH, Mode::empty()) {
                Ok(fd) => found = Some(fd),
                Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::ELOOP) => {
                    return Err(self.error(
                        format!("/{} is a symlink in the root filesystem", way.display()),
                        "give the real path: a mount target does not lead through symlinks",
                    ));
                }
                Err(errno) => {
                    return Err(self.error(
                        format!("/{}: {errno}", way.display()),
                        "what leads to the target must be directories",
                    ));
                }
            }
        }
        let is_file = found.is_some_and(|fd| !is_directory(&fd));
        match (self.mount.is_file(), is_file) {
            (true, false) => Err(self.error(
                format!("the source is a file and {target} a directory"),
                "both must be directories, or neither",
            )),
            (false, true) => Err(self.error(
                format!("{target} is a file in the root filesystem"),
                "a directory is mounted on a directory",
            )),
            _ => Ok(()),
        }
    }
}

/// The map that the mount gets: an entry's leads from ids on disk to ids inside, the kernel's to the caller's. Without
/// one each id is the same number inside, as with `bind-mount`.
fn on_host(
    spec: &MountSpec,
    source: &OwnedFd,
    map: &[IdMap],
    container: Option<&IdMaps>,
) -> Result<Vec<IdMap>> {
    let differs = |line: &IdRange| line.inside != line.outside;
    match container {
        None => Ok(map.to_vec()),
        Some(maps) if map.is_empty() && !maps.users.iter().any(differs) => Ok(Vec::new()),
        Some(_) if map.is_empty() && is_of_the_kernel(source) => Ok(Vec::new()),
        Some(maps) => volume_map(map, maps).map_err(|error| error.flags(spec.entry.clone())),
    }
}

fn is_directory(file: &OwnedFd) -> bool {
    fstat(file).is_ok_and(|stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR
    })
}

/// Opens a source, which must exist.
fn open(spec: &MountSpec, path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| {
        let hint = match (errno, neighbour(path)) {
            (Errno::ENOENT, Some(near)) => format!("did you mean {near}?"),
            (Errno::ENOENT | Errno::ENOTDIR, _) => {
                "it must exist on the host; it is not created".to_owned()
            }
            _ => "can the caller reach it?".to_owned(),
        };
        spec.error(format!("{}: {errno}", path.display()), hint)
    })
}

/// A name beside the path that it may be a misspelling of.
fn neighbour(path: &Path) -> Option<String> {
    let (directory, name) = (path.parent()?, path.file_name()?.to_str()?);
    let names: Vec<String> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

fn c_string(spec: &MountSpec, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| spec.error("it contains a NUL byte", "leave it out"))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
