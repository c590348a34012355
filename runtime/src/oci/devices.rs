//! `linux.devices`: nodes that the container gets besides the usual ones. Where /dev is somebody's whole directory, the host's for
//! instance, nothing is made in it.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use shim::Result;
use shim::mounts::Target;
use shim::plan::{Node, NodeKind};

use super::config::wrong;

/// What a node may be used for, where nothing is said.
const MODE: u32 = 0o666;

/// Decides. `own_dev` says whether /dev is the container's own.
///
/// # Errors
/// Names the entry that is wrong.
pub(super) fn plan(given: &[LinuxDevice], own_dev: bool) -> Result<Vec<Node>> {
    let nodes = given.iter().enumerate();
    let nodes = nodes.map(|(index, device)| node(device, &format!("linux.devices[{index}]")));
    let nodes: Vec<Node> = nodes.collect::<Result<_>>()?;
    let in_dev = |node: &Node| {
        let first = node.path.components().first();
        first.is_some_and(|name| name.as_c_str() == c"dev")
    };
    // Of the container's own devpts, to which there is a link.
    let is_ptmx = |node: &Node| node.path.to_string() == "/dev/ptmx";
    let made = nodes
        .into_iter()
        .filter(|node| !is_ptmx(node) && (own_dev || !in_dev(node)));
    Ok(made.collect())
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
