//! What of /proc and /sys is out of reach in a confined container.
//!
//! Capabilities do not protect these files: most ask only whether the caller's uid is root's *of the host*, and in a
//! user namespace that maps every id onto itself it is. Such a root without a single capability opens for writing all
//! of /proc/sys (core_pattern among it: a program that the host runs as root), /proc/irq and /proc/bus, and reads the
//! page and slab statistics of the whole machine (tried on 6.18). What is world-readable stays readable, but for what
//! has become a side channel.
//!
//! Refused by the kernel to whoever has no capability over the *initial* user namespace, and therefore not here: writes
//! to /proc/mtrr, /proc/kmsg, the addresses in /proc/kallsyms, /proc/iomem and /proc/modules.
//!
//! Nothing here names /dev or /sys itself: a client binds the host's there after launch, and what is mounted on them
//! inside would hide that.

use std::ffi::CString;

use shim::plan::Views;

/// Files read as empty, directories are empty.
///
/// The list of runc's and podman's defaults, and the page and slab statistics that they leave to file modes.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/allocinfo",
    "/proc/asound",
    // How often which interrupt came, where, tells keystrokes and the work of others.
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    // Writing "scsi remove-single-device" takes a disk from the host.
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    // The host's disks by number.
    "/sys/dev/block",
    // Power counters tell what others compute (CVE-2020-8694).
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The views of a confined container. `thermal` are the host's `/sys/devices/system/cpu/cpuN/thermal_throttle`, whose
/// counters are a side channel as the interrupts are.
pub(super) fn confined(thermal: &[CString]) -> Views {
    let paths = |list: &[&str]| -> Vec<CString> {
        list.iter()
            .filter_map(|path| CString::new(*path).ok())
            .collect()
    };
    let mut masked = paths(MASKED);
    masked.extend_from_slice(thermal);
    Views {
        masked,
        readonly: paths(READONLY),
        closed_devices: true,
        readonly_dev: false,
        readonly_root: false,
    }
}
