//! `linux.devices`: nodes that the container gets besides the usual ones. Where /dev is somebody's whole directory, the host's for
//! instance, nothing is made in it.

use std::path::PathBuf;

use nix::sys::stat::{SFlag, lstat, makedev};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use shim::Result;
use shim::mounts::{Attributes, Content, Mount, Target};
use shim::plan::{Node, NodeKind};
use shim::sys::mount::Propagation;

use super::config::wrong;
use crate::host;

/// What a node may be used for, where nothing is said.
const MODE: u32 = 0o666;

/// What is made of them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Nodes.
    pub(super) nodes: Vec<Node>,
    /// Where no device can be made: those of the host's at the same paths, bound.
    pub(super) binds: Vec<Mount>,
}

/// Decides. `own_dev` says whether /dev is the container's own, and `own_ids` whether it has a user namespace, in which
/// nobody can make a device: mknod(2) asks for CAP_MKNOD over the initial one.
///
/// # Errors
/// Names the entry that is wrong, or that the host has not got.
pub(super) fn plan(
    given: &[LinuxDevice],
    own_dev: bool,
    own_ids: bool,
    warnings: &mut Vec<String>,
) -> Result<Devices> {
    let bound = own_ids || !host::in_initial_user_namespace()?;
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
        if node.kind == NodeKind::Fifo || !bound {
            devices.nodes.push(node);
        } else if !(own_dev && is_usual(&node)) {
            devices.binds.push(bind(device, node, &field, warnings)?);
        }
    }
    Ok(devices)
}

/// Whether every container has it anyway.
fn is_usual(node: &Node) -> bool {
    let own = (node.path.to_string(), node.major, node.minor);
    node.kind == NodeKind::Char && shim::mounts::usual_devices().any(|usual| usual == own)
}

/// The host's, which is not made another's: what `fileMode`, `uid` and `gid` say beyond that does not come about.
fn bind(given: &LinuxDevice, node: Node, field: &str, warnings: &mut Vec<String>) -> Result<Mount> {
    let missing = || {
        wrong(
            field,
            format!(
                "the host has no such device at {}, and in a user namespace none can be made",
                node.path
            ),
        )
        .hint("a device that is elsewhere can be bound with an entry of mounts")
    };
    let source = PathBuf::from(node.path.to_string());
    let there = lstat(&source).map_err(|_| missing())?;
    let kind = match node.kind {
        NodeKind::Block => SFlag::S_IFBLK,
        _ => SFlag::S_IFCHR,
    };
    let same_kind = there.st_mode & SFlag::S_IFMT.bits() == kind.bits();
    if !same_kind || there.st_rdev != makedev(node.major, node.minor) {
        return Err(missing());
    }
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
        source,
        file: true,
        recursive: false,
        propagation: Propagation::Private,
        idmap: Vec::new(),
    };
    // Read-only is only the file: its mode and owner.
    Ok(Mount::new(node.path, content, Attributes::READONLY))
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
