//! No wait without an end: how long the registry may be silent, how much it may say, and how often it is asked again.

use std::future::Future;
use std::time::Duration;

use procfs::process::Process;
use tokio::time::{Instant, interval, sleep, timeout_at};

use crate::failure::{Failure, Trouble};

/// How much memory an answer that is read as a whole may take, in bytes: documents have at most 4 MiB.
const ANSWER_MAX: u64 = 96 << 20;
/// How often that is looked at. A fast network brings some 10 MiB in the meantime.
const LOOK: Duration = Duration::from_millis(10);
/// Failures in succession after which it is given up. A silence counts for two: it has cost its time already.
const FAILURES_MAX: u32 = 4;
/// How long it waits after the first failure; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the registry may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) silence: Duration,
}

impl Patience {
    /// Waits for an answer that is read as a whole: it has to be there in time, and may not fill the memory.
    pub(crate) async fn whole<T, E: Into<Trouble>>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Trouble> {
        let end = Instant::now() + self.silence;
        tokio::select! {
            answer = timeout_at(end, answer) => match answer {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(Trouble::Silent(self.silence)),
            },
            () = memory_grows() => Err(Trouble::TooMuch),
        }
    }
}

/// Ends when the process has grown by more than an answer may take.
async fn memory_grows() {
    let Some(before) = resident() else {
        return std::future::pending().await;
    };
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        if resident().is_some_and(|now| now > before.saturating_add(ANSWER_MAX)) {
            return;
        }
    }
}

/// How much memory the process has, in bytes.
fn resident() -> Option<u64> {
    let memory = Process::myself().ok()?.statm().ok()?;
    Some(memory.resident * procfs::page_size())
}

/// The failures of one task in succession.
#[derive(Debug, Default)]
pub(crate) struct Failures(u32);

impl Failures {
    /// Something has come forward: what failed before does not count any more.
    pub(crate) fn forget(&mut self) {
        self.0 = 0;
    }

    /// Waits before the next try, or gives the failure back where there is none.
    pub(crate) async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        self.0 += if failure.silent { 2 } else { 1 };
        if !failure.may_pass || self.0 >= FAILURES_MAX {
            return Err(failure);
        }
        sleep(PAUSE * 2_u32.pow(self.0 - 1)).await;
        Ok(())
    }
}
