//! `process.oomScoreAdj`: how gladly the kernel ends a process when memory is used up (proc_pid_oom_score_adj(5)). Written by
//! us for the process, which may not be allowed to lower it, while it waits.

use nix::unistd::Pid;
use shim::{Error, Result};

use super::config::wrong;

const FIELD: &str = "process.oomScoreAdj";

/// Reads it.
///
/// # Errors
/// It is none.
pub(super) fn read(given: Option<i32>) -> Result<Option<i32>> {
    match given {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(wrong(FIELD, "it is not between -1000 and 1000"))
        }
        score => Ok(score),
    }
}

/// Sets it for a child of ours that has not been waited for, so that the number is its own.
///
/// # Errors
/// EACCES below what the caller has, without CAP_SYS_RESOURCE.
pub(super) fn set(pid: Pid, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(path, score.to_string()).map_err(|error| {
        Error::io("set", FIELD, &error)
            .flags(score.to_string())
            .hint("lowering it takes CAP_SYS_RESOURCE over the initial user namespace")
    })
}
