//! Limits in the words of version 2 (Documentation/admin-guide/cgroup-v2.rst). config.json speaks those of version 1,
//! so some numbers are converted.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory};
use shim::Result;

use super::settings::{Draft, lacking};

/// The kernel's, in microseconds.
const PERIOD: u64 = 100_000;

/// Memory, and of swap what goes beyond it.
///
/// # Errors
/// What version 2 has no word for.
pub(super) fn memory(draft: &mut Draft<'_>, memory: &LinuxMemory) -> Result<()> {
    for (field, asked) in [
        ("memory.swappiness", memory.swappiness().is_some()),
        (
            "memory.kernelTCP",
            memory.kernel_tcp().is_some_and(|value| value != 0),
        ),
        (
            "memory.disableOOMKiller",
            memory.disable_oom_killer() == Some(true),
        ),
    ] {
        if asked {
            draft.only_first("memory", field)?;
        }
    }
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(swap) = swap(draft, memory)? {
        draft.set("memory", "memory.swap", "memory.swap.max", swap);
    }
    if let Some(limit) = limit {
        draft.set("memory", "memory.limit", "memory.max", size(limit));
        if memory.check_before_update() == Some(true)
            && let Ok(least) = u64::try_from(limit)
        {
            draft.not_below("memory.current", least);
        }
    }
    if let Some(low) = memory.reservation().filter(|low| *low != 0) {
        draft.set("memory", "memory.reservation", "memory.low", size(low));
    }
    Ok(())
}

fn size(bytes: i64) -> String {
    if bytes < 0 {
        "max".to_owned()
    } else {
        bytes.to_string()
    }
}

/// `memory.swap` is the sum of memory and swap.
fn swap(draft: &Draft<'_>, memory: &LinuxMemory) -> Result<Option<String>> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let sum = match memory.swap().filter(|swap| *swap != 0) {
        None if limit == Some(-1) => return Ok(Some(size(-1))),
        None => return Ok(None),
        Some(sum) if sum < 0 => return Ok(Some(size(-1))),
        Some(sum) => sum,
    };
    let now = || draft.current("memory", "memory.max")?.parse::<i64>().ok();
    let limit = limit.or_else(now).filter(|limit| *limit > 0);
    let Some(limit) = limit else {
        return Err(lacking(
            "memory.swap",
            "it needs memory.limit, which it includes",
        ));
    };
    match sum.checked_sub(limit) {
        Some(rest) if rest >= 0 => Ok(Some(size(rest))),
        _ => Err(lacking(
            "memory.swap",
            "it is less than memory.limit, which it includes",
        )),
    }
}

/// Weight, quota and the like.
///
/// # Errors
/// What version 2 has no word for.
pub(super) fn cpu(draft: &mut Draft<'_>, cpu: &LinuxCpu) -> Result<()> {
    if cpu.realtime_period().is_some_and(|value| value != 0) {
        draft.only_first("cpu", "cpu.realtimePeriod")?;
    }
    if cpu.realtime_runtime().is_some_and(|value| value != 0) {
        draft.only_first("cpu", "cpu.realtimeRuntime")?;
    }
    if let Some(idle) = cpu.idle() {
        draft.set("cpu", "cpu.idle", "cpu.idle", idle);
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        draft.set("cpu", "cpu.shares", "cpu.weight", weight(shares));
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let now = draft.current("cpu", "cpu.max").unwrap_or_default();
        let (held_quota, held_period) = now.split_once(' ').unwrap_or_default();
        let quota = match quota {
            Some(quota) => size(quota),
            None if held_quota.is_empty() => "max".to_owned(),
            None => held_quota.to_owned(),
        };
        let period = period.or(held_period.parse().ok()).unwrap_or(PERIOD);
        draft.set("cpu", "cpu.quota", "cpu.max", format!("{quota} {period}"));
    }
    if let Some(burst) = cpu.burst().filter(|burst| *burst != 0) {
        draft.set("cpu", "cpu.burst", "cpu.max.burst", burst);
    }
    Ok(())
}

/// Shares from 2 to 262144 as a weight from 1 to 10000, so that the two that everybody has by default, 1024 and 100, are
/// the same, and so are the ends. What runc and crun use: a parabola of the logarithms.
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            // Below 2^18 a float has it exactly, and the result is between 1 and 10000.
            let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            let weight = 10_f64.powf(exponent).ceil();
            format!("{weight:.0}").parse().unwrap_or(1)
        }
    }
}

/// Weights and throttles of block devices.
///
/// # Errors
/// What version 2 has no word for.
pub(super) fn block_io(draft: &mut Draft<'_>, block: &LinuxBlockIo) -> Result<()> {
    if block.leaf_weight().is_some_and(|weight| weight != 0) {
        draft.only_first("io", "blockIO.leafWeight")?;
    }
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let (bfq, other) = (weight.to_string(), io_weight(weight).to_string());
        draft.set_either(
            "io",
            "blockIO.weight",
            ("io.bfq.weight", bfq),
            ("io.weight", other),
        );
    }
    for device in block.weight_device().iter().flatten() {
        if device.leaf_weight().is_some() {
            draft.only_first("io", "blockIO.weightDevice")?;
        }
        if let Some(weight) = device.weight() {
            let number = format!("{}:{}", device.major(), device.minor());
            draft.set_either(
                "io",
                "blockIO.weightDevice",
                ("io.bfq.weight", format!("{number} {weight}")),
                ("io.weight", format!("{number} {}", io_weight(weight))),
            );
        }
    }
    for (field, key, list) in [
        (
            "blockIO.throttleReadBpsDevice",
            "rbps",
            block.throttle_read_bps_device(),
        ),
        (
            "blockIO.throttleWriteBpsDevice",
            "wbps",
            block.throttle_write_bps_device(),
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            "riops",
            block.throttle_read_iops_device(),
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            "wiops",
            block.throttle_write_iops_device(),
        ),
    ] {
        for device in list.iter().flatten() {
            let number = format!("{}:{}", device.major(), device.minor());
            draft.set(
                "io",
                field,
                "io.max",
                format!("{number} {key}={}", device.rate()),
            );
        }
    }
    Ok(())
}

/// From 10 to 1000 as from 1 to 10000.
fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_agree_at_the_ends_and_at_what_is_usual() {
        for (shares, expected) in [
            (1, 1),
            (2, 1),
            (3, 2),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        for (given, expected) in [(10, 1), (500, 4950), (1000, 10_000), (9, 1)] {
            assert_eq!(io_weight(given), expected, "{given}");
        }
    }
}
