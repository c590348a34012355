//! `linux.devices`: nodes that the container gets besides the usual ones. Where /dev is somebody's whole directory, the host's for
//! instance, nothing is made in it.

use std::path::PathBuf;

use nix::sys::stat::{FileStat, SFlag, lstat, makedev};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use shim::Result;
use shim::mounts::{Attributes, Content, Mount, Target};
use shim::plan::{IdMaps, Node, NodeKind};
use shim::sys::mount::Propagation;

use super::config::wrong;
use super::namespaces::Places;
use crate::host;

/// What a node may be used for, where nothing is said.
const MODE: u32 = 0o666;

/// What is made of them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Nodes.
    pub(super) nodes: Vec<Node>,
    /// Where the container cannot make a device: those of the host's at the same paths, or ones that are made outside, bound.
    pub(super) binds: Vec<Mount>,
}

/// Who can make a device: mknod(2) asks for CAP_MKNOD over the initial user namespace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Maker<'a> {
    /// The container itself.
    Container,
    /// The caller, for a container with these ids.
    Caller(&'a IdMaps),
    /// Nobody here.
    Nobody,
}

impl<'a> Maker<'a> {
    /// For a container with these namespaces.
    pub(super) fn of(places: &'a Places) -> Result<Self> {
        if !host::in_initial_user_namespace()? {
            return Ok(Self::Nobody);
        }
        Ok(match &places.id_maps {
            _ if !places.has("user") => Self::Container,
            Some(maps) => Self::Caller(maps),
            None => Self::Nobody,
        })
    }
}

/// Decides. `own_dev` says whether /dev is the container's own.
///
/// # Errors
/// Names the entry that is wrong, or that the host has not got.
pub(super) fn plan(
    given: &[LinuxDevice],
    own_dev: bool,
    maker: Maker<'_>,
    warnings: &mut Vec<String>,
) -> Result<Devices> {
    let mut devices = Devices::default();
    for (index, device) in given.iter().enumerate() {
        let field = format!("linux.devices[{index}]");
        let node = node(device, &field)?;
        let in_dev = node.path.to_string().starts_with("/dev/");
        // That of the container's own devpts, to which there is a link.
        let is_ptmx = node.path.to_string() == "/dev/ptmx";
        if is_ptmx || (in_dev && !own_dev) {
            continue;
        }
        if node.kind == NodeKind::Fifo || matches!(maker, Maker::Container) {
            devices.nodes.push(node);
            continue;
        }
        match is_usual(&node).filter(|_| own_dev) {
            Some(true) => {}
            Some(false) => return Err(wrong(&field, "every container has another device there")),
            None => devices.binds.push(match hosts(&node) {
                Some(there) => bind(device, node, &there, &field, warnings),
                None => made(node, maker, &field)?,
            }),
        }
    }
    Ok(devices)
}

/// Where every container has a device anyway: whether it is this one.
fn is_usual(node: &Node) -> Option<bool> {
    let path = node.path.to_string();
    let (_, major, minor) = shim::mounts::usual_devices().find(|usual| usual.0 == path)?;
    Some(node.kind == NodeKind::Char && (node.major, node.minor) == (major, minor))
}

/// That of the host at the same path, if it is this device.
fn hosts(node: &Node) -> Option<FileStat> {
    let there = lstat(&PathBuf::from(node.path.to_string())).ok()?;
    let kind = match node.kind {
        NodeKind::Block => SFlag::S_IFBLK,
        _ => SFlag::S_IFCHR,
    };
    let same_kind = there.st_mode & SFlag::S_IFMT.bits() == kind.bits();
    (same_kind && there.st_rdev == makedev(node.major, node.minor)).then_some(there)
}

/// The host's, which is not made another's: what `fileMode`, `uid` and `gid` say beyond that does not come about.
fn bind(
    given: &LinuxDevice,
    node: Node,
    there: &FileStat,
    field: &str,
    warnings: &mut Vec<String>,
) -> Mount {
    let differs = given
        .file_mode()
        .is_some_and(|mode| mode & 0o7777 != there.st_mode & 0o7777)
        || given.uid().is_some_and(|uid| uid != there.st_uid)
        || given.gid().is_some_and(|gid| gid != there.st_gid);
    if differs {
        warnings.push(format!(
            "{field}: its mode and owner are those that it has on the host"
        ));
    }
    let content = Content::Bind {
        source: PathBuf::from(node.path.to_string()),
        file: true,
        recursive: false,
        propagation: Propagation::Private,
        idmap: Vec::new(),
    };
    // Read-only is only the file: its mode and owner.
    Mount::new(node.path, content, Attributes::READONLY)
}

/// One that the host has not got there.
fn made(node: Node, maker: Maker<'_>, field: &str) -> Result<Mount> {
    let Maker::Caller(maps) = maker else {
        return Err(wrong(
            field,
            format!(
                "the host has no such device at {}, and none can be made in this user namespace",
                node.path
            ),
        )
        .hint("a device that is elsewhere can be bound with an entry of mounts"));
    };
    let owner = maps.outside(node.uid, node.gid);
    let owner =
        owner.ok_or_else(|| wrong(field, "its uid or gid is not in the container's id map"))?;
    let content = Content::Device {
        kind: node.kind,
        major: node.major,
        minor: node.minor,
        mode: node.mode,
        owner,
    };
    Ok(Mount::new(node.path, content, Attributes::default()))
}

fn node(given: &LinuxDevice, field: &str) -> Result<Node> {
    let kind = match given.typ() {
        LinuxDeviceType::B => NodeKind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Char,
        LinuxDeviceType::P => NodeKind::Fifo,
        LinuxDeviceType::A => return Err(wrong(format!("{field}.type"), "a node is of one type")),
    };
    let number = |name: &str, value: i64| match (kind, u64::try_from(value)) {
        (NodeKind::Fifo, _) => Ok(0),
        (_, Ok(value)) if value <= u64::from(u32::MAX) => Ok(value),
        _ => Err(wrong(
            format!("{field}.{name}"),
            "it is no number of a device",
        )),
    };
    Ok(Node {
        path: Target::outside_proc(given.path())
            .map_err(|why| wrong(format!("{field}.path"), why))?,
        kind,
        major: number("major", given.major())?,
        minor: number("minor", given.minor())?,
        // Engines send what stat(2) says, with the type in it.
        mode: given.file_mode().unwrap_or(MODE) & 0o7777,
        uid: given.uid().unwrap_or(0),
        gid: given.gid().unwrap_or(0),
    })
}
