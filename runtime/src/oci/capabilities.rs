//! `process.capabilities`: the five sets, as config.json has them.
//!
//! What cannot be granted is left out with a warning, as the specification asks: a name that is not known, a capability
//! that this kernel lacks, and one that the caller itself has not got.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities as Names, Capability, LinuxCapabilities, Process as Given};
use serde::Deserialize as _;
use serde_json::Value;
use shim::Result;
use shim::plan::{Capabilities as Mask, CapabilitySets};

use crate::capabilities::{List, Set};
use crate::profile::Facts;

const SETS: [&str; 5] = [
    "bounding",
    "effective",
    "inheritable",
    "permitted",
    "ambient",
];

/// The sets of a process.
#[derive(Debug)]
pub(super) struct Sets {
    /// The most that it and its children may ever have.
    pub(super) bounding: Set,
    /// What it begins with.
    pub(super) own: CapabilitySets,
}

/// Takes names that are none out of `process`.
pub(super) fn drop_unknown(process: &mut Value, warnings: &mut Vec<String>) {
    let mut unknown = BTreeSet::new();
    for set in SETS {
        let list = process.pointer_mut(&format!("/capabilities/{set}"));
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.retain(|name| match name.as_str() {
                Some(text) if Capability::deserialize(name).is_err() => {
                    unknown.insert(text.to_owned());
                    false
                }
                _ => true,
            });
        }
    }
    for name in unknown {
        warnings.push(format!(
            "process.capabilities: {name:?} is no capability that is known"
        ));
    }
}

/// The sets of a process; none of them where nothing is said. `own_ids`: it has a user namespace of its own, in which
/// it may have everything.
///
/// # Errors
/// /proc is not mounted.
pub(super) fn plan(given: &Given, own_ids: bool, warnings: &mut Vec<String>) -> Result<Sets> {
    let mut refused = Set::EMPTY;
    let available = Facts::read(own_ids, false)?.available;
    let mut take = |part: fn(&LinuxCapabilities) -> &Option<Names>, among: Set| -> Set {
        let sets = given.capabilities().as_ref();
        let asked = set(sets.and_then(|sets| part(sets).as_ref()));
        refused = refused | (asked - among);
        asked & among
    };
    let bounding = take(LinuxCapabilities::bounding, available);
    let permitted = take(LinuxCapabilities::permitted, available);
    let effective = take(LinuxCapabilities::effective, permitted);
    // capset(2): nothing becomes inheritable that is not in the bounding set, and ambient ones are permitted, too.
    let inheritable = take(LinuxCapabilities::inheritable, bounding);
    let ambient = take(LinuxCapabilities::ambient, permitted & inheritable);
    if !refused.is_empty() {
        warnings.push(format!("process.capabilities: {refused} cannot be granted"));
    }
    let mask = |set: Set| Mask(set.bits());
    Ok(Sets {
        bounding,
        own: CapabilitySets {
            effective: mask(effective),
            permitted: mask(permitted),
            inheritable: mask(inheritable),
            ambient: mask(ambient),
        },
    })
}

fn set(names: Option<&Names>) -> Set {
    let named = names.into_iter().flatten();
    named.fold(Set::EMPTY, |set, name| {
        set | List::parse_one(&name.to_string()).unwrap_or_default().named
    })
}
