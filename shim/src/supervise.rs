//! The client while its workload runs: passes signals on, relays, hears what init reports, and learns how it ended.
//!
//! One thread, one poll(2); without anything to relay it sleeps until something happens.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use init::protocol::{Record, Step as InitStep, Word};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::ended::Ended;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::signals::{self, Received};
use crate::spawn::Spawned;
use crate::stdio::Relay;
use crate::step::Step;
use crate::sys::{pidfd, socket};

/// After the workload has ended: how long the caller may leave its own stdout and stderr unread before we give up.
const FLUSH_DEADLINE: Duration = Duration::from_secs(30);

/// More than init ever sends.
const REPORTS_AT_ONCE: usize = 16;

/// Who gets the signals.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    /// Our init, which knows what to do with each.
    Init,
    /// The user's program, which gets each as it is.
    Process,
    /// The user's program as PID 1. The kernel does not deliver to it what it has no disposition for
    /// (pid_namespaces(7)), so asking it to stop may need our hand.
    ImmunePid1(Pid),
}

/// Everything that is watched.
pub(crate) struct Watch<'a> {
    pub(crate) plan: Plan<'a>,
    pub(crate) spawned: Spawned,
    pub(crate) relay: Relay,
    pub(crate) signals: &'a SignalFd,
    pub(crate) subject: Subject,
    /// Write end of the attendant's liveness pipe; closed when we have ended, however.
    pub(crate) liveness: Option<OwnedFd>,
}

/// What has been learned so far.
struct Learned {
    /// The report socket has reached its end: the workload (or an idle init) has been executed.
    report_closed: bool,
    failure: Option<Error>,
    ended: Option<Ended>,
    /// The stop signals that came before the workload was executed, in their order.
    postponed: Vec<Signal>,
    /// The stop signal that we carried out with SIGKILL.
    carried_out: Option<Signal>,
    told: Told,
    /// Output that could not be passed on: told when the command is over.
    lost: Result<()>,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            report_closed: false,
            failure: None,
            ended: None,
            postponed: Vec::new(),
            carried_out: None,
            told: Told::default(),
            lost: Ok(()),
        }
    }
}

impl Watch<'_> {
    /// Stays until the process has ended and what it wrote has been passed on: how the workload ended.
    pub(crate) fn run(mut self) -> Result<Ended> {
        let mut learned = Learned::default();
        while !self.turn(&mut learned)? {}
        self.hear(&mut learned);
        let status = self.spawned.wait()?;
        if let Some(failure) = learned.failure {
            return Err(failure);
        }
        let flushed = self.relay.finish(FLUSH_DEADLINE, self.signals);
        learned.lost.and(flushed)?;
        // Only now may a drain take over what daemons go on writing.
        drop(self.liveness);
        // Without a word from it, init was killed, and everything with it.
        let raw = status.unwrap_or(Ended::Signaled(Signal::SIGKILL as i32));
        Ok(match (learned.carried_out, learned.ended) {
            (Some(signal), _) => Ended::Signaled(signal as i32),
            (None, Some(ended)) => ended,
            (None, None) => raw,
        })
    }

    /// Waits for one event and deals with it; true when the process has ended.
    fn turn(&mut self, learned: &mut Learned) -> Result<bool> {
        const FIXED: usize = 3;
        let timeout = self.relay.patience();
        let mut set = Vec::with_capacity(FIXED + 6);
        set.push(PollFd::new(self.spawned.pidfd.as_fd(), PollFlags::POLLIN));
        set.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        if !learned.report_closed {
            set.push(PollFd::new(self.spawned.report.as_fd(), PollFlags::POLLIN));
        }
        let own = set.len();
        self.relay.interest(&mut set);
        match poll(&mut set, timeout) {
            Err(Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(Error::sys("wait for", self.plan.rootfs().display(), errno)),
            Ok(_) => {}
        }
        let ready: Vec<PollFlags> = set
            .iter()
            .map(|entry| entry.revents().unwrap_or(PollFlags::empty()))
            .collect();
        drop(set);
        let (fixed, relayed) = ready.split_at(own);
        let is_ready = |index: usize| fixed.get(index).is_some_and(|flags| !flags.is_empty());

        if is_ready(2) {
            self.hear(learned);
        }
        if is_ready(1) {
            self.pass_on(learned)?;
        }
        if !relayed.is_empty() {
            // A stream that cannot be written to (a full disk) is no reason to end the command.
            learned.lost =
                std::mem::replace(&mut learned.lost, Ok(())).and(self.relay.progress(relayed));
            self.tell_closed(learned);
        }
        Ok(is_ready(0))
    }

    /// Reads what the child and init report, as much as there is. Init runs inside, where the container's root may
    /// write into the socket too: what does not fit is passed over, and a flood does not hold us.
    fn hear(&self, learned: &mut Learned) {
        for _ in 0..REPORTS_AT_ONCE {
            if learned.report_closed || !self.report_is_ready() {
                return;
            }
            let mut bytes = [0; Record::LENGTH];
            match socket::receive(&self.spawned.report, &mut bytes) {
                Ok((length @ 1.., _)) => match bytes.get(..length).and_then(Record::from_bytes) {
                    Some(Record::Ended(status)) => {
                        learned.ended = Some(Ended::from_raw(status));
                        learned.told.tell(self.liveness.as_ref(), Word::EndHeard);
                    }
                    Some(record) => learned.failure = failure(self.plan, record),
                    None => {}
                },
                _ => {
                    learned.report_closed = true;
                    for signal in std::mem::take(&mut learned.postponed) {
                        self.stop(signal, learned);
                    }
                }
            }
        }
    }

    fn report_is_ready(&self) -> bool {
        let mut set = [PollFd::new(self.spawned.report.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut set, PollTimeout::ZERO), Ok(1..))
    }

    /// Passes on every signal that has arrived.
    fn pass_on(&mut self, learned: &mut Learned) -> Result<()> {
        while let Ok(Some(received)) = signals::next(self.signals) {
            let signal = match received {
                Received::Own => continue,
                // The kernel tells the foreground process group of the pty.
                Received::WindowChanged if self.plan.stdio().terminal.is_some() => {
                    self.relay.window_changed();
                    continue;
                }
                Received::WindowChanged => Signal::SIGWINCH,
                Received::Forward { signal, .. } => signal,
            };
            if signal == Signal::SIGCONT {
                self.relay.continued()?;
            }
            match self.subject {
                Subject::ImmunePid1(_) if stops(signal) && !learned.report_closed => {
                    learned.postponed.push(signal);
                }
                Subject::ImmunePid1(_) if stops(signal) => self.stop(signal, learned),
                _ => self.send(self.meant_by(signal)),
            }
        }
        Ok(())
    }

    /// The number that a signal for us is passed on as: who asks a container to stop does not know its stop signal.
    fn meant_by(&self, signal: Signal) -> i32 {
        match self.plan.stop_signal() {
            Some(number) if signal == Signal::SIGTERM => number,
            _ => signal as i32,
        }
    }

    /// ESRCH: it has just ended, which the pidfd will tell.
    fn send(&self, number: i32) {
        let _ = pidfd::send_signal(&self.spawned.pidfd, number);
    }

    /// Asks a PID 1 of the user's to stop. If the signal has its default disposition there, which for any other
    /// process would be the end, it is the end for this one too.
    fn stop(&self, signal: Signal, learned: &mut Learned) {
        let Subject::ImmunePid1(pid) = self.subject else {
            return;
        };
        let number = self.meant_by(signal);
        if has_default_disposition(pid, number) {
            // The first of several is what it died of.
            learned.carried_out.get_or_insert(signal);
            self.send(Signal::SIGKILL as i32);
        } else {
            self.send(number);
        }
    }

    /// Tells the attendant about streams that are no longer relayed: it closes its copy of the pipe, and the command's
    /// next write fails as it would without us.
    fn tell_closed(&self, learned: &mut Learned) {
        let words = [Word::StdoutClosed, Word::StderrClosed];
        for (word, closed) in words.into_iter().zip(self.relay.is_closed()) {
            if closed {
                learned.told.tell(self.liveness.as_ref(), word);
            }
        }
    }
}

/// Which words the attendant has been told.
#[derive(Debug, Default)]
struct Told([bool; 3]);

impl Told {
    /// Tells a word the first time. Once is enough, and whoever floods us with records must not fill the pipe, where
    /// writing would block; a dead attendant needs no telling.
    fn tell(&mut self, liveness: Option<&OwnedFd>, word: Word) {
        if let (Some(liveness), Some(told @ false)) = (liveness, self.0.get_mut(word as usize)) {
            *told = true;
            let _ = nix::unistd::write(liveness, &[word as u8]);
        }
    }
}

/// Signals whose default is the end and that mean "please end".
fn stops(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP
    )
}

/// Whether a process of ours, not yet reaped, neither catches, ignores nor blocks a signal (proc_pid_status(5)).
fn has_default_disposition(pid: Pid, number: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let bit = 1u64 << (number - 1);
    let is_set = |name: &str| {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .is_none_or(|mask| mask & bit != 0)
    };
    !["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().any(is_set)
}

/// The error that a record stands for; none for a record that tells of no failure.
pub(crate) fn failure(plan: Plan<'_>, record: Record) -> Option<Error> {
    let errno = |raw: u16| Errno::from_raw(i32::from(raw));
    match record {
        Record::Ended(_) | Record::Ready | Record::Listening(_) => None,
        Record::PlanFailed(index, raw) => {
            let step = plan
                .steps()
                .get(usize::from(index))
                .copied()
                .unwrap_or(Step::Clone);
            Some(step.failure(plan, errno(raw)))
        }
        Record::InitFailed(number, raw) => {
            let step = InitStep::from_number(number).map_or(Step::ExecuteInit, Step::Init);
            Some(step.failure(plan, errno(raw)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_attendant_is_told_each_word_once() {
        let (mut heard, liveness) = std::io::pipe().unwrap();
        let liveness = OwnedFd::from(liveness);
        let mut told = Told::default();
        for _ in 0..3 {
            for word in [Word::EndHeard, Word::StderrClosed, Word::StdoutClosed] {
                told.tell(Some(&liveness), word);
                told.tell(None, word);
            }
        }
        drop(liveness);
        let mut words = Vec::new();
        heard.read_to_end(&mut words).unwrap();
        let once = [Word::EndHeard, Word::StderrClosed, Word::StdoutClosed];
        assert_eq!(words, once.map(|word| word as u8));
    }
}
