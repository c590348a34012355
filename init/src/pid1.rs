//! The two roles as PID 1: without a command, and as the parent of one. When either ends, the kernel ends everything
//! in the container.

use crate::last_steps;
use crate::policy::{Idle, exit_code, idle as idle_policy, is_forwarded, signal};
use crate::protocol::{Record, Spec, Step};
use crate::{fail, sys};

/// Reaps for ever; ends with 0 when asked to.
pub(crate) fn idle(spec: &Spec) -> ! {
    if let Err(errno) = last_steps::streams(spec) {
        fail(spec, (Step::Streams, errno));
    }
    // Its own session, so that a terminal's signals are the shim's affair. EPERM: it is a leader already.
    let _ = sys::setsid();
    // The report goes too: its end of file tells the shim that the leader stands.
    if let Err(errno) = sys::close_from_3() {
        fail(spec, (Step::Descriptors, errno));
    }
    // Children may have ended before we were executed; their SIGCHLD is pending or was never seen.
    let _ = reap(None);
    loop {
        match idle_policy(sys::wait_for_signal()) {
            Idle::Reap => drop(reap(None)),
            Idle::Stop => sys::exit(0),
            Idle::Ignore => {}
        }
    }
}

/// Reaps and forwards signals to the command; ends as the command ended.
pub(crate) fn supervise(spec: &Spec, child: i32) -> ! {
    loop {
        let number = sys::wait_for_signal();
        if number == signal::CHLD {
            if let Some(status) = reap(Some(child)) {
                sys::write(spec.report, &Record::Ended(status).to_bytes());
                sys::exit(exit_code(status));
            }
        } else if is_forwarded(number) {
            sys::kill(child, number);
        }
    }
}

/// Collects every child that has ended, our own and adopted ones; the status of `wanted` if it was among them.
pub(crate) fn reap(wanted: Option<i32>) -> Option<u32> {
    let mut found = None;
    while let Ok((pid @ 1.., status)) = sys::wait_any(true) {
        if Some(pid) == wanted {
            found = Some(status);
        }
    }
    found
}
