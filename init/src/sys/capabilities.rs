//! The sets of capabilities of the calling process (capabilities(7)).

use super::{EINVAL, Result, call, nr, prctl};
use crate::protocol::CapabilitySets;

/// Clears the inheritable set (and the ambient one with it), and keeps of the permitted and effective ones what is in
/// `kept` (capset(2)).
pub(crate) fn limit_capabilities(kept: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Effective, permitted and inheritable of the lower 32, then of the higher.
    let mut sets = [[0u32; 3]; 2];
    call(
        nr::CAPGET,
        [header.as_ptr().addr(), sets.as_mut_ptr().addr(), 0, 0, 0],
    )?;
    let halves = [kept & u64::from(u32::MAX), kept >> 32]
        .map(|half| u32::try_from(half).unwrap_or_default());
    for ([effective, permitted, inheritable], half) in sets.iter_mut().zip(halves) {
        *effective &= half;
        *permitted &= half;
        *inheritable = 0;
    }
    call(
        nr::CAPSET,
        [header.as_ptr().addr(), sets.as_ptr().addr(), 0, 0, 0],
    )
    .map(drop)
}

/// Makes the sets of the calling process these, the ambient one included (capset(2), PR_CAP_AMBIENT).
pub(crate) fn set_capabilities(sets: &CapabilitySets) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    const PR_CAP_AMBIENT: usize = 47;
    const RAISE: usize = 2;
    const CLEAR_ALL: usize = 4;
    let header = [VERSION_3, 0];
    let wanted = [sets.effective, sets.permitted, sets.inheritable];
    let lower = wanted.map(|set| u32::try_from(set & u64::from(u32::MAX)).unwrap_or_default());
    let higher = wanted.map(|set| u32::try_from(set >> 32).unwrap_or_default());
    let data = [lower, higher];
    call(
        nr::CAPSET,
        [header.as_ptr().addr(), data.as_ptr().addr(), 0, 0, 0],
    )?;
    call(nr::PRCTL, [PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0])?;
    for capability in (0..64).filter(|capability| sets.ambient & 1 << capability != 0) {
        call(nr::PRCTL, [PR_CAP_AMBIENT, RAISE, capability, 0, 0])?;
    }
    Ok(())
}

/// Takes every capability that is not in `kept` out of the bounding set: no execve gives it back.
pub(crate) fn limit_bounding_set(kept: u64) -> Result<()> {
    const PR_CAPBSET_DROP: usize = 24;
    for capability in 0..64 {
        if kept & (1 << capability) == 0 {
            match prctl(PR_CAPBSET_DROP, capability) {
                // Beyond the last one that this kernel knows.
                Err(EINVAL) => return Ok(()),
                other => other?,
            }
        }
    }
    Ok(())
}
