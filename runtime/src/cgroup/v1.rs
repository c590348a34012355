//! Limits in the words of version 1 (Documentation/admin-guide/cgroup-v1).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxThrottleDevice};

use super::settings::Draft;

/// The whole limit of memory, kernel and network buffers included.
pub(super) fn memory(draft: &mut Draft<'_>, memory: &LinuxMemory) {
    let mut bytes = |field: &str, file: &str, value: Option<i64>| {
        if let Some(value) = value.filter(|value| *value != 0) {
            draft.set("memory", field, file, value);
        }
    };
    // Without a limit of memory there can be none of memory and swap.
    let swap = memory
        .swap()
        .filter(|value| *value != 0)
        .or(memory.limit().filter(|limit| *limit == -1));
    bytes("memory.limit", "memory.limit_in_bytes", memory.limit());
    bytes("memory.swap", "memory.memsw.limit_in_bytes", swap);
    bytes(
        "memory.reservation",
        "memory.soft_limit_in_bytes",
        memory.reservation(),
    );
    bytes(
        "memory.kernelTCP",
        "memory.kmem.tcp.limit_in_bytes",
        memory.kernel_tcp(),
    );
    if let Some(value) = memory.swappiness() {
        draft.set("memory", "memory.swappiness", "memory.swappiness", value);
    }
    if memory.disable_oom_killer() == Some(true) {
        draft.set("memory", "memory.disableOOMKiller", "memory.oom_control", 1);
    }
}

/// Shares and quotas of processors.
pub(super) fn cpu(draft: &mut Draft<'_>, cpu: &LinuxCpu) {
    let mut number = |field: &str, file: &str, value: Option<i128>| {
        if let Some(value) = value.filter(|value| *value != 0) {
            draft.set("cpu", field, file, value);
        }
    };
    number("cpu.shares", "cpu.shares", cpu.shares().map(i128::from));
    number(
        "cpu.period",
        "cpu.cfs_period_us",
        cpu.period().map(i128::from),
    );
    number("cpu.quota", "cpu.cfs_quota_us", cpu.quota().map(i128::from));
    number("cpu.burst", "cpu.cfs_burst_us", cpu.burst().map(i128::from));
    number(
        "cpu.realtimePeriod",
        "cpu.rt_period_us",
        cpu.realtime_period().map(i128::from),
    );
    number(
        "cpu.realtimeRuntime",
        "cpu.rt_runtime_us",
        cpu.realtime_runtime().map(i128::from),
    );
    if let Some(idle) = cpu.idle() {
        draft.set("cpu", "cpu.idle", "cpu.idle", idle);
    }
}

/// Weights and throttles of block devices. Weights are those of the scheduler that the kernel has: BFQ, or CFQ before.
pub(super) fn block_io(draft: &mut Draft<'_>, block: &LinuxBlockIo) {
    let mut weigh = |field: &str, name: &str, value: String| {
        let (file, other) = (format!("blkio.bfq.{name}"), format!("blkio.{name}"));
        draft.set_either("blkio", field, (&file, value.clone()), (&other, value));
    };
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        weigh("blockIO.weight", "weight", weight.to_string());
    }
    if let Some(weight) = block.leaf_weight().filter(|weight| *weight != 0) {
        weigh("blockIO.leafWeight", "leaf_weight", weight.to_string());
    }
    for device in block.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            weigh(
                "blockIO.weightDevice",
                "weight_device",
                format!("{number} {weight}"),
            );
        }
        if let Some(weight) = device.leaf_weight() {
            weigh(
                "blockIO.weightDevice",
                "leaf_weight_device",
                format!("{number} {weight}"),
            );
        }
    }
    for (field, file, list) in throttles(block) {
        for device in list.into_iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            draft.set("blkio", field, format!("blkio.throttle.{file}"), value);
        }
    }
}

type Throttle<'a> = (
    &'static str,
    &'static str,
    Option<&'a Vec<LinuxThrottleDevice>>,
);

fn throttles(block: &LinuxBlockIo) -> [Throttle<'_>; 4] {
    [
        (
            "blockIO.throttleReadBpsDevice",
            "read_bps_device",
            block.throttle_read_bps_device().as_ref(),
        ),
        (
            "blockIO.throttleWriteBpsDevice",
            "write_bps_device",
            block.throttle_write_bps_device().as_ref(),
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            "read_iops_device",
            block.throttle_read_iops_device().as_ref(),
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            "write_iops_device",
            block.throttle_write_iops_device().as_ref(),
        ),
    ]
}
