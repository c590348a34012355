//! `process.scheduler` and `process.ioPriority` (sched_setattr(2), ioprio_set(2)). Set by us for the process, which may not be
//! allowed to, and when nothing is left to be done for it: what slows it down would slow that down, too.

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use shim::sys::sched::{self, Attributes};
use shim::{Error, Result};

use super::config::{own, wrong};

const SCHEDULER: &str = "process.scheduler";
const IO_PRIORITY: &str = "process.ioPriority";

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

const CLASSES: [(&str, u16); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];
/// Where the class is in the kernel's number.
const CLASS_SHIFT: u16 = 13;

/// As the specification has it; the names of its flags are other ones in the crate.
#[derive(Deserialize)]
struct Scheduler {
    policy: String,
    #[serde(default)]
    nice: i32,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    runtime: u64,
    #[serde(default)]
    deadline: u64,
    #[serde(default)]
    period: u64,
}

#[derive(Deserialize)]
struct IoPriority {
    class: String,
    // As those have it who read it into a number of Go's or C's.
    #[serde(default)]
    priority: i64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scheduling {
    attributes: Option<Attributes>,
    io: Option<u16>,
}

impl Scheduling {
    /// That of a `process`, which is null where there is none.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(super) fn read(process: &Value) -> Result<Self> {
        let scheduler: Option<Scheduler> = own(SCHEDULER, process.get("scheduler"))?;
        let io: Option<IoPriority> = own(IO_PRIORITY, process.get("ioPriority"))?;
        Ok(Self {
            attributes: scheduler.as_ref().map(attributes).transpose()?,
            io: io.as_ref().map(io_priority).transpose()?,
        })
    }

    /// What it leaves open is as in `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            attributes: self.attributes.or(other.attributes),
            io: self.io.or(other.io),
        }
    }

    /// Sets it for a child of ours that has not been waited for, so that the number is its own, and that is in its cgroups.
    ///
    /// # Errors
    /// Those of the system calls.
    pub(super) fn set(self, pid: Pid) -> Result<()> {
        if let Some(priority) = self.io {
            sched::set_io_priority(pid, priority).map_err(|errno| {
                Error::sys("set", IO_PRIORITY, errno)
                    .hint("IOPRIO_CLASS_RT takes CAP_SYS_NICE over the initial user namespace")
            })?;
        }
        let Some(attributes) = self.attributes else {
            return Ok(());
        };
        sched::set_attributes(pid, attributes).map_err(|errno| {
            let hint = match errno {
                Errno::EPERM => {
                    "it takes CAP_SYS_NICE over the initial user namespace; SCHED_FIFO and SCHED_RR may also take \
                     linux.resources.cpu.realtimeRuntime, and SCHED_DEADLINE a cpuset with all processors"
                }
                Errno::EBUSY => "others have been promised the time of the processors",
                _ => "see sched_setattr(2) for what fits together",
            };
            Error::sys("set", SCHEDULER, errno).hint(hint)
        })
    }
}

fn attributes(given: &Scheduler) -> Result<Attributes> {
    let policy = named(&POLICIES, &given.policy).ok_or_else(|| {
        wrong(
            "process.scheduler.policy",
            format!("unknown: {:?}", given.policy),
        )
    })?;
    let is = |names: &[&str]| names.contains(&given.policy.as_str());
    if is(&["SCHED_OTHER", "SCHED_BATCH"]) && !(-20..=19).contains(&given.nice) {
        return Err(wrong(
            "process.scheduler.nice",
            "it is not between -20 and 19",
        ));
    }
    if given.priority != 0 && !is(&["SCHED_FIFO", "SCHED_RR"]) {
        return Err(wrong(
            "process.scheduler.priority",
            "only SCHED_FIFO and SCHED_RR have one",
        ));
    }
    if [given.runtime, given.deadline, given.period] != [0; 3] && !is(&["SCHED_DEADLINE"]) {
        return Err(wrong(
            SCHEDULER,
            "only SCHED_DEADLINE has runtime, deadline and period",
        ));
    }
    let mut flags = 0;
    for flag in &given.flags {
        flags |= named(&FLAGS, flag)
            .ok_or_else(|| wrong("process.scheduler.flags", format!("unknown: {flag:?}")))?;
    }
    Ok(Attributes {
        policy,
        flags,
        nice: given.nice,
        priority: u32::try_from(given.priority)
            .map_err(|_| wrong("process.scheduler.priority", "it is below zero"))?,
        runtime: given.runtime,
        deadline: given.deadline,
        period: given.period,
    })
}

fn io_priority(given: &IoPriority) -> Result<u16> {
    let class = named(&CLASSES, &given.class).ok_or_else(|| {
        wrong(
            "process.ioPriority.class",
            format!("unknown: {:?}", given.class),
        )
    })?;
    match u16::try_from(given.priority) {
        Ok(level @ 0..=7) => Ok(class << CLASS_SHIFT | level),
        _ => Err(wrong(
            "process.ioPriority.priority",
            "it is not between 0 and 7",
        )),
    }
}

/// What a name stands for.
pub(super) fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}
