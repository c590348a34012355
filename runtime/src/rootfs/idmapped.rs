//! Ids of a root filesystem's own: its layers are mapped before overlay gets them, because a merged overlay cannot be.
//!
//! Files keep their ids on disk (0 is root's), in the image and in what the container writes; the layers show them as
//! the ids that the container has on the host. Nothing is ever chowned for it.
//!
//! The host's root works there as well: overlay itself writes as root, and so do clients below ROOTFS. Its id is not
//! among the container's, so the writable layer has one more line, the first id that the container does not have. The
//! image's layers do not have that line: a file of an image must not become one of the host's root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::stat;
use shim::idmap::{self, IdMap, idmapped_copy, user_namespace};
use shim::plan::{IdMaps, IdRange};
use shim::sys::mount::{Change, set_attributes};
use shim::{Error, Result, RootDir};

use super::layers::Layer;
use crate::host;
use crate::idrange::Pool;

/// Whose ids the files of a root filesystem have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ids {
    /// Those that they have on disk.
    AsOnDisk,
    /// The same, moved into a range that is the container's alone.
    Private(Pool),
    /// Mapped so.
    Mapped(IdMaps),
}

/// The maps of an image's layer and of the writable one. Both get one map for users and groups.
///
/// # Errors
/// Users and groups that are mapped differently; no room for the host's root, beyond 340 lines.
pub fn layer_maps(maps: &IdMaps) -> Result<(Vec<IdMap>, Vec<IdMap>)> {
    let image = same(maps)?.iter().copied().map(IdMap::from).collect();
    let mut writable: Vec<IdMap> = Vec::clone(&image);
    let has_root = |line: &IdMap| line.to == 0;
    if !writable.iter().any(has_root) {
        writable.push(IdMap {
            from: first_free(&maps.users),
            to: 0,
            range: 1,
        });
    }
    idmap::check(&writable).map_err(|error| {
        error.hint("join neighbouring ranges: one line is needed for the host's root")
    })?;
    Ok((image, writable))
}

/// The smallest id that a container does not have.
fn first_free(map: &[IdRange]) -> u32 {
    let mut lines: Vec<_> = map.iter().map(|line| (line.inside, line.count)).collect();
    lines.sort_unstable();
    lines.into_iter().fold(0, |free, (inside, count)| {
        if inside == free {
            inside.saturating_add(count)
        } else {
            free
        }
    })
}

/// The one map of users and groups.
fn same(maps: &IdMaps) -> Result<&[IdRange]> {
    if maps.users == maps.groups {
        return Ok(&maps.users);
    }
    Err(Error::new("use id maps for a mount")
        .because("users and groups of the container are mapped differently")
        .hint("give both the same range in /etc/subuid and /etc/subgid"))
}

/// The map of a volume in a container whose ids are `container`: as asked for in ids *inside*, or else each id on disk as
/// the same number inside.
///
/// # Errors
/// As [`compose`].
pub fn volume_map(asked: &[IdMap], container: &IdMaps) -> Result<Vec<IdMap>> {
    if asked.is_empty() {
        return Ok(same(container)?.iter().copied().map(IdMap::from).collect());
    }
    compose(asked, container)
}

/// The map of a mount in a container whose ids are `container`: `map` leads from ids on disk to ids *inside*. A line is
/// split where the container's own map is.
///
/// # Errors
/// Names a line that shows ids which the container does not have; as [`layer_maps`].
pub fn compose(map: &[IdMap], container: &IdMaps) -> Result<Vec<IdMap>> {
    let mut composed = Vec::new();
    let ranges = same(container)?;
    for line in map {
        let (mut from, mut to, mut left) = (line.from, line.to, line.range);
        while left > 0 {
            let Some((outside, count)) = ranges.iter().find_map(|range| {
                let offset = to.checked_sub(range.inside)?;
                let count = range.count.checked_sub(offset).filter(|count| *count > 0)?;
                Some((range.outside.checked_add(offset)?, count.min(left)))
            }) else {
                return Err(Error::new("use id map")
                    .on(line)
                    .because(format!("the container has no id {to}"))
                    .hint("FROM:TO:RANGE shows ids on disk, from FROM on, as TO and so on in the container"));
            };
            composed.push(IdMap {
                from,
                to: outside,
                range: count,
            });
            // None of it can overflow: `count` is at most `left`, and a line ends with the ids.
            (from, to, left) = (
                from.saturating_add(count),
                to.saturating_add(count),
                left - count,
            );
        }
    }
    Ok(composed)
}

/// The user namespaces that carry the maps of the layers.
#[derive(Debug)]
pub(super) struct LayerIds {
    image: OwnedFd,
    writable: OwnedFd,
}

impl LayerIds {
    pub(super) fn new(maps: &IdMaps) -> Result<Self> {
        let (image, writable) = layer_maps(maps)?;
        Ok(Self {
            image: user_namespace(&image)?,
            writable: user_namespace(&writable)?,
        })
    }

    /// The image's layer with its ids mapped.
    pub(super) fn image(&self, layer: Layer, path: &Path) -> Result<Layer> {
        map(layer, &self.image).map_err(|errno| refused(path, errno))
    }

    /// What holds the writable layer, with its ids mapped.
    pub(super) fn writable(&self, layer: Layer) -> Result<Layer, Errno> {
        map(layer, &self.writable)
    }
}

fn map(layer: Layer, userns: &OwnedFd) -> Result<Layer, Errno> {
    let change = Change {
        idmap: Some(userns.as_fd()),
        ..Change::default()
    };
    if layer.detached {
        // Ours alone, and never attached: the only kind of mount that can be given a map as it is.
        set_attributes(&layer, change)?;
        return Ok(layer);
    }
    let copy = idmapped_copy(&layer, change).map_err(|refused| refused.errno())?;
    Ok(Layer {
        dir: RootDir::from(copy),
        detached: true,
    })
}

/// The words for a layer that cannot have ids of its own.
pub(super) fn refused(path: &Path, errno: Errno) -> Error {
    let error = Error::sys("give ids of its own to", path.display(), errno);
    let kind = host::filesystem_at(path);
    match errno {
        Errno::EINVAL if kind == "overlay" => error
            .because("idmap is not supported here: an overlay cannot be idmapped after merge")
            .hint("put --base and --data on ext4, xfs, btrfs or tmpfs, or create-fs without --userns"),
        Errno::EINVAL => error
            .because(format!("idmap is not supported by {kind}"))
            .hint("ext4, xfs, btrfs, tmpfs, squashfs and erofs can; or create-fs without --userns"),
        // Before Linux 6.15 also the answer to a second map.
        Errno::EPERM => error
            .because(format!("{kind} belongs to another user namespace"))
            .hint("inside a container --base and --data must be on a filesystem that was mounted there (tmpfs, or a block device of its own); on an idmapped mount needs Linux 6.15"),
        _ => error.hint("needs Linux 5.12, user namespaces, and memory"),
    }
}

/// The words for an image whose root directory would be nobody's in the container.
pub(super) fn nobodys_root(image: &Path) -> Error {
    let owner = stat(image).map_or_else(
        |_| "somebody".to_owned(),
        |stat| format!("{}:{}", stat.st_uid, stat.st_gid),
    );
    Error::sys("give ids of its own to", image.display(), Errno::EOVERFLOW)
        .because(format!(
            "its root directory belongs to {owner}, which the container does not have"
        ))
        .hint("chown it to an id of the container, as a rule 0:0; or create-fs without --userns")
}

/// The words for an overlay that takes mapped layers and does not store what is written with their ids.
pub(super) fn cannot_store(image: &str, data: &Path, errno: Errno) -> Error {
    Error::sys("write with ids of its own over image", image, errno)
        .flags(format!("upper below {}", data.display()))
        .because("trying it out failed")
        .hint(
            "is there space below --data? are all ids of the map such as its filesystem can store?",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(lines: &[(u32, u32, u32)]) -> IdMaps {
        let line =
            |&(inside, outside, count): &(u32, u32, u32)| IdRange::new(inside, outside, count);
        crate::idrange::of_map(&lines.iter().map(line).collect::<Vec<_>>())
    }

    fn lines(map: &[(u32, u32, u32)]) -> Vec<IdMap> {
        let line = |&(from, to, range): &(u32, u32, u32)| IdMap { from, to, range };
        map.iter().map(line).collect()
    }

    #[test]
    fn the_hosts_root_can_write_without_an_id_of_the_container() {
        for (container, added) in [
            (&[(0, 100_000, 65_536)][..], Some((65_536, 0, 1))),
            (&[(10, 200_000, 5), (0, 100_000, 10)], Some((15, 0, 1))),
            (&[(10, 200_000, 5), (0, 100_000, 9)], Some((9, 0, 1))),
            (&[(0, 1000, 1), (1, 0, 5)], None),
        ] {
            let (image, writable) = layer_maps(&maps(container)).unwrap();
            assert_eq!(image, lines(container));
            let all: Vec<_> = container.iter().copied().chain(added).collect();
            assert_eq!(writable, lines(&all));
        }
        let many: Vec<_> = (0..340).map(|n| (n, 1000 + n, 1)).collect();
        let error = layer_maps(&maps(&many)).unwrap_err().to_string();
        assert!(
            error.contains("341 lines") && error.contains("host's root"),
            "{error}"
        );
    }

    #[test]
    fn a_mount_shows_ids_inside() {
        let container = maps(&[(0, 100_000, 1000), (1000, 300_000, 64_536)]);
        let composed = |map: &[(u32, u32, u32)]| compose(&lines(map), &container);
        for (map, expected) in [
            (&[(7, 5, 3)][..], &[(7, 100_005, 3)][..]),
            (&[(7, 1000, 1)], &[(7, 300_000, 1)]),
            (
                &[(0, 0, 65_536)],
                &[(0, 100_000, 1000), (1000, 300_000, 64_536)],
            ),
            (
                &[(5, 999, 2), (1, 0, 1)],
                &[(5, 100_999, 1), (6, 300_000, 1), (1, 100_000, 1)],
            ),
            (&[], &[]),
        ] {
            assert_eq!(composed(map).unwrap(), lines(expected), "{map:?}");
        }
        for (map, named) in [
            (
                (0, 65_536, 1),
                "\"0:65536:1\": the container has no id 65536",
            ),
            (
                (0, 65_535, 2),
                "\"0:65535:2\": the container has no id 65536",
            ),
            ((0, 0, u32::MAX), "has no id 65536"),
        ] {
            let error = composed(&[map]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn one_mount_has_one_map() {
        let mut different = maps(&[(0, 100_000, 10)]);
        different.groups[0].outside = 5;
        for error in [
            compose(&[], &different).unwrap_err(),
            layer_maps(&different).unwrap_err(),
        ] {
            assert!(error.to_string().contains("mapped differently"), "{error}");
        }
    }
}
