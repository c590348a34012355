//! Which processors a process may run on (sched_setaffinity(2)): `process.execCPUAffinity` for one that joins, and otherwise
//! all that its cpuset has, whatever the caller was bound to.

use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;
use shim::sys::sched;
use shim::{Error, Result};

use super::bits;
use super::config::{own, wrong};

const FIELD: &str = "process.execCPUAffinity";

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    initial: String,
    #[serde(default, rename = "final")]
    last: String,
}

/// The processors of a process that joins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Affinity {
    /// Until it is in its cgroups.
    initial: Option<Vec<u64>>,
    /// From then on.
    last: Option<Vec<u64>>,
}

impl Affinity {
    /// That of a `process`; none where it says nothing of it.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(super) fn read(process: &Value) -> Result<Option<Self>> {
        let Some(given) = own::<Given>(FIELD, process.get("execCPUAffinity"))? else {
            return Ok(None);
        };
        let list = |name: &str, text: &str| match (text, bits::read(text)) {
            ("", _) => Ok(None),
            (_, Some(bits)) => Ok(Some(bits)),
            _ => Err(wrong(
                format!("{FIELD}.{name}"),
                format!("{text:?} is no list of processors"),
            )),
        };
        Ok(Some(Self {
            initial: list("initial", &given.initial)?,
            last: list("final", &given.last)?,
        }))
    }

    /// Does something as a process of the initial processors: what is born meanwhile begins there.
    ///
    /// # Errors
    /// There are none of these; those of `act`.
    pub(super) fn begin<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let ours = Pid::from_raw(0);
        let Some(initial) = &self.initial else {
            return act();
        };
        let failed = |errno| Error::sys("set", format!("{FIELD}.initial"), errno).hint(HINT);
        let before = sched::affinity(ours).map_err(failed)?;
        sched::set_affinity(ours, initial).map_err(failed)?;
        let done = act();
        sched::set_affinity(ours, &before).map_err(failed)?;
        done
    }

    /// For a child of ours that has not been waited for, and is in its cgroups now.
    ///
    /// # Errors
    /// There are none of these.
    pub(super) fn settle(&self, pid: Pid) -> Result<()> {
        match (&self.last, &self.initial) {
            (Some(last), _) => sched::set_affinity(pid, last)
                .map_err(|errno| Error::sys("set", format!("{FIELD}.final"), errno).hint(HINT)),
            // What has become of them in the cgroups is for the kernel to say.
            (None, Some(_)) => Ok(()),
            // Where a filter around us keeps us from it, it is bound as we are.
            (None, None) => {
                let _ = sched::reset_affinity(pid);
                Ok(())
            }
        }
    }
}

const HINT: &str = "the processors must be there, and in the cpuset";
