//! What a program inherits from the process that executes it: `linux.personality` (personality(2)) and `linux.memoryPolicy`
//! (set_mempolicy(2)).

use serde::Deserialize;
use shim::Result;
use shim::plan::MemoryPolicy;

use super::bits;
use super::config::{Config, own, wrong};
use super::scheduling::named;

const PERSONALITY: &str = "linux.personality";
const MEMORY_POLICY: &str = "linux.memoryPolicy";

const DOMAINS: [(&str, u32); 2] = [("LINUX", 0), ("LINUX32", 8)];

/// How many nodes a mode takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Required,
    Allowed,
    None,
}

const MODES: [(&str, (u32, Nodes)); 7] = [
    ("MPOL_DEFAULT", (0, Nodes::None)),
    ("MPOL_PREFERRED", (1, Nodes::Allowed)),
    ("MPOL_BIND", (2, Nodes::Required)),
    ("MPOL_INTERLEAVE", (3, Nodes::Required)),
    ("MPOL_LOCAL", (4, Nodes::None)),
    ("MPOL_PREFERRED_MANY", (5, Nodes::Required)),
    ("MPOL_WEIGHTED_INTERLEAVE", (6, Nodes::Required)),
];

const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

#[derive(Deserialize)]
struct GivenPersonality {
    domain: String,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
struct GivenPolicy {
    mode: String,
    #[serde(default)]
    nodes: String,
    #[serde(default)]
    flags: Vec<String>,
}

/// The execution domain of all processes of a container, where one is given.
///
/// # Errors
/// Names the field that is wrong or not supported.
pub(super) fn personality(config: &Config) -> Result<Option<u32>> {
    let given = config.part(&["linux", "personality"]);
    let Some(given) = own::<GivenPersonality>(PERSONALITY, Some(given))? else {
        return Ok(None);
    };
    if !given.flags.is_empty() {
        return Err(wrong(
            "linux.personality.flags",
            "the specification knows none yet",
        ));
    }
    match named(&DOMAINS, &given.domain) {
        Some(domain) => Ok(Some(domain)),
        None => Err(wrong(
            "linux.personality.domain",
            format!("unknown: {:?}", given.domain),
        )),
    }
}

/// Where the memory of all processes of a container comes from, where that is given.
///
/// # Errors
/// Names the field that is wrong.
pub(super) fn memory_policy(config: &Config) -> Result<Option<MemoryPolicy>> {
    let given = config.part(&["linux", "memoryPolicy"]);
    let Some(given) = own::<GivenPolicy>(MEMORY_POLICY, Some(given))? else {
        return Ok(None);
    };
    let GivenPolicy { mode, nodes, flags } = given;
    let (mut number, takes) = named(&MODES, &mode)
        .ok_or_else(|| wrong("linux.memoryPolicy.mode", format!("unknown: {mode:?}")))?;
    let bits = match (nodes.as_str(), takes) {
        ("", Nodes::Required) => {
            return Err(wrong(
                "linux.memoryPolicy.nodes",
                format!("{mode} needs some"),
            ));
        }
        ("", _) => Vec::new(),
        (_, Nodes::None) => {
            return Err(wrong(
                "linux.memoryPolicy.nodes",
                format!("{mode} takes none"),
            ));
        }
        (text, _) => bits::read(text).ok_or_else(|| {
            wrong(
                "linux.memoryPolicy.nodes",
                format!("{text:?} is no list of nodes"),
            )
        })?,
    };
    for flag in &flags {
        number |= named(&FLAGS, flag)
            .ok_or_else(|| wrong("linux.memoryPolicy.flags", format!("unknown: {flag:?}")))?;
    }
    let words = std::iter::once(mode).chain(flags).collect::<Vec<_>>();
    Ok(Some(MemoryPolicy {
        name: format!("{}: {nodes}", words.join("|")),
        mode: number,
        nodes: bits,
    }))
}

/// The names of modes and flags, for `features`.
pub(super) fn memory_policies() -> ([&'static str; 7], [&'static str; 3]) {
    (MODES.map(|(name, _)| name), FLAGS.map(|(name, _)| name))
}
