//! The relay: moves bytes between the caller's streams and the workload's pipes or pty. Single-threaded, driven by its
//! owner's poll loop, never blocking.
//!
//! **How much is buffered.** A direction is read as long as fewer than 64 KiB of it wait, so that a flood is held back
//! at its source. One case needs more: a client that writes all of its input before it reads any output. Its workload
//! stops reading when nobody takes its output, and both would wait for ever. So while the stdin direction is stuck (has
//! bytes that the workload does not take), output is read until 64 MiB of it wait.
//!
//! **Ends.** The caller's end of input closes the workload's stdin, or is typed into its terminal. When the caller's
//! reader is gone our end of that pipe is closed, and the workload gets the EPIPE that it would have got without us; a
//! terminal is hung up.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::termios::{InputFlags, LocalFlags, SpecialCharacterIndices, Termios, tcgetattr};

use super::buffer::USUAL;
use super::end::End;
use super::flow::Flow;
use super::open::{Pty, Stdio};
use super::plan::{StreamKind, StreamPlan, kind};
use super::raw_mode::RawMode;
use super::read_out::Readers;
use crate::sys::tty;
use crate::{Error, Result};

/// How much output may wait while input is stuck. 64 MiB.
const RELIEF: usize = 64 * 1024 * 1024;

/// Who reads the inner terminal's input, as far as its mode tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typing {
    /// The kernel edits lines (ICANON): VEOF ends them.
    Lines,
    /// A line editor does, but control characters still mean something (ISIG): shells read VEOF themselves.
    Editor,
    /// Every byte is the program's.
    Raw,
}

/// The relay of one workload. Dropping it restores the caller's terminal.
#[derive(Debug)]
pub struct Relay {
    pub(super) input: Option<Flow>,
    pub(super) outputs: [Option<Flow>; 2],
    /// Our side, and the workload's too: as long as a slave is open the master neither hangs up nor polls readable for
    /// nothing, whatever the workload closes and opens.
    pub(super) pty: Option<Pty>,
    /// Asked at the end whether everything has been read.
    pub(super) readers: Readers,
    raw: Option<RawMode>,
    size_from: Option<OwnedFd>,
    /// The mode in which the end of input was last typed.
    end_typed: Option<Typing>,
    /// How often its mode has been looked at since anything happened.
    looks: u8,
    asked: Cell<Asked>,
}

/// Which flow each descriptor of the last [`Relay::interest`] belongs to: 0 input, 1 and 2 outputs.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    flows: [u8; 6],
    count: usize,
}

impl Relay {
    /// Takes over after the fork.
    pub(super) fn begin(stdio: Stdio) -> Result<Self> {
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|error| Error::io("duplicate", "the terminal", &error))
        };
        stdio.caller.release()?;
        let mut raw = None;
        let mut size_from = None;
        if stdio.pty.is_some() {
            let stdin = stdio.caller.streams[0].as_ref();
            if let Some(stdin) = stdin.filter(|fd| kind(fd.as_fd()) == StreamKind::Terminal) {
                raw = Some(RawMode::new(copy(stdin)?)?);
            }
            size_from = stdio
                .caller
                .terminal()
                .and_then(|fd| fd.try_clone_to_owned().ok());
        }
        let [_, stdout, stderr] = &stdio.caller.streams;
        let readers = Readers::new([stdout.as_ref(), stderr.as_ref()]);
        let [stdin, stdout, stderr] = stdio.caller_ends;
        let [to_stdin, from_stdout, from_stderr] = stdio.ours;
        let master = |wanted: usize, pipe: Option<OwnedFd>| match &stdio.pty {
            Some(pty) if stdio.plan.streams[wanted] == StreamPlan::Terminal => {
                copy(&pty.master).map(Some)
            }
            _ => Ok(pipe),
        };
        let input = match (stdin, master(0, to_stdin)?) {
            (Some(caller), Some(ours)) => Some(Flow::new(caller, End::ours(ours))),
            _ => None,
        };
        let output =
            |caller: Option<End>, ours: Option<OwnedFd>| Some(Flow::new(End::ours(ours?), caller?));
        Ok(Self {
            input,
            // A stderr that is the terminal, or the same pipe as stdout, comes out there.
            outputs: [
                output(stdout, master(1, from_stdout)?),
                output(stderr, from_stderr),
            ],
            pty: stdio.pty,
            readers,
            raw,
            size_from,
            end_typed: None,
            looks: 0,
            asked: Cell::default(),
        })
    }

    /// Whether there is nothing to relay, now and later.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.input.is_none() && self.outputs.iter().all(Option::is_none)
    }

    /// Whether stdout and stderr are not, or no longer, taken from the workload: the caller's reader is gone, or the
    /// workload has closed its side. Whoever holds a copy of our end ([`Stdio::drains`]) should close it then.
    #[must_use]
    pub fn is_closed(&self) -> [bool; 2] {
        self.outputs
            .each_ref()
            .map(|flow| flow.as_ref().is_none_or(Flow::is_over))
    }

    /// Adds the descriptors to wait for; at most six, and none that would be ready without anything to do.
    pub fn interest<'a>(&'a self, set: &mut Vec<PollFd<'a>>) {
        let mut asked = Asked::default();
        let mut add = |end: Option<&'a End>, events: PollFlags, flow: u8| {
            if let Some(end) = end {
                set.push(PollFd::new(end.as_fd(), events));
                if let Some(slot) = asked.flows.get_mut(asked.count) {
                    *slot = flow;
                    asked.count += 1;
                }
            }
        };
        let limit = self.output_limit();
        if let Some(flow) = &self.input {
            add(flow.awaited_source(USUAL), PollFlags::POLLIN, 0);
            add(flow.awaited_sink(), PollFlags::POLLOUT, 0);
        }
        for (flow, number) in self.outputs.iter().zip(1..) {
            if let Some(flow) = flow {
                add(flow.awaited_source(limit), PollFlags::POLLIN, number);
                add(flow.awaited_sink(), PollFlags::POLLOUT, number);
            }
        }
        self.asked.set(asked);
    }

    /// Moves what can be moved. `ready` is what poll answered for the descriptors of the last [`Relay::interest`], in
    /// their order.
    ///
    /// # Errors
    /// A stream of the caller cannot be written to, for another reason than that its reader is gone (ENOSPC, EIO, …).
    /// The other streams go on.
    pub fn progress(&mut self, ready: &[PollFlags]) -> Result<()> {
        let asked = self.asked.get();
        let mut hot = [false; 3];
        for (flow, events) in asked.flows.iter().take(asked.count).zip(ready) {
            if let Some(slot) = hot.get_mut(usize::from(*flow)) {
                *slot |= !events.is_empty();
            }
        }
        if !hot.contains(&true) {
            self.type_end();
            return Ok(());
        }
        self.looks = 0;
        let [input, stdout, stderr] = hot;
        if input {
            self.pump_input();
        }
        let limit = self.output_limit();
        let mut result = Ok(());
        for (index, hot) in [stdout, stderr].into_iter().enumerate() {
            if hot {
                result = result.and(self.pump_output(index, limit).map(drop));
                if self.outputs.get(index).is_some_and(Option::is_none) {
                    self.readers.release(index);
                }
            }
        }
        self.type_end();
        result
    }

    /// How long to wait for an event at most. There is none when the caller has read what a stream that the workload has
    /// closed still held, none when a shell brings a job to the front that was running already, and none when the workload
    /// changes its terminal's mode, after which the end of input has to be typed once more: these two are looked at often
    /// at first, and then every 1.28 s.
    pub fn patience(&mut self) -> PollTimeout {
        const OFTEN: u16 = 10;
        const DOUBLINGS: u8 = 7;
        if self.readers.let_go() {
            return PollTimeout::from(OFTEN);
        }
        if self.is_behind() {
            // A terminal that is gone by now has an end of input to read.
            let _ = self.continued();
        }
        let is_typed = self.end_typed.is_some() && self.pty.is_some() && self.input.is_some();
        if !is_typed && !self.is_behind() {
            return PollTimeout::NONE;
        }
        let patience = OFTEN << self.looks.min(DOUBLINGS);
        self.looks = self.looks.saturating_add(1);
        PollTimeout::from(patience)
    }

    /// The caller's terminal has a new size: gives it to the workload's (the kernel sends SIGWINCH inside).
    pub fn window_changed(&mut self) {
        if let (Some(from), Some(pty)) = (&self.size_from, &self.pty) {
            // Either side may be hung up by now, and then nobody looks at the size any more.
            if let Ok(size) = tty::size(from) {
                let _ = tty::set_size(&pty.master, &size);
            }
        }
    }

    /// SIGCONT: the caller's shell may have brought us to the foreground, with its own terminal mode.
    ///
    /// # Errors
    /// EIO when the caller's terminal was hung up.
    pub fn continued(&mut self) -> Result<()> {
        if let Some(flow) = &mut self.input {
            flow.resume();
        }
        self.window_changed();
        match &mut self.raw {
            Some(raw) => raw.enter(),
            None => Ok(()),
        }
    }

    /// Whether another process group has the caller's terminal, as far as is known.
    fn is_behind(&self) -> bool {
        self.input.as_ref().is_some_and(Flow::is_paused)
            || self.raw.as_ref().is_some_and(RawMode::is_behind)
    }

    fn output_limit(&self) -> usize {
        if self.input.as_ref().is_some_and(Flow::is_stuck) {
            RELIEF
        } else {
            USUAL
        }
    }

    fn pump_input(&mut self) {
        if let Some(flow) = &mut self.input {
            // A workload that closed its stdin does not want the rest; the caller learns it as it would without us. A pty
            // stays open after the source's end: its end of file is a character.
            let closed = flow.pump(USUAL).is_err();
            if closed || (flow.is_over() && self.pty.is_none()) {
                self.input = None;
            }
        }
    }

    /// Moves one output; says whether anything moved.
    pub(super) fn pump_output(&mut self, index: usize, limit: usize) -> Result<bool> {
        let Some(slot) = self.outputs.get_mut(index) else {
            return Ok(false);
        };
        let Some(flow) = slot else {
            return Ok(false);
        };
        let result = flow.pump(limit);
        if flow.is_over() {
            *slot = None;
        }
        let errno = match result {
            Ok(moved) => return Ok(moved),
            Err(errno) => errno,
        };
        if index == 0 {
            self.hang_up();
        }
        match errno {
            Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => Ok(true),
            other => Err(Error::new("write to the caller's")
                .on(if index == 0 { "stdout" } else { "stderr" })
                .errno(other)
                .hint("output of the command after this point is lost")),
        }
    }

    /// Nobody looks at the terminal any more: closing the master sends SIGHUP to the workload's session (tty_ioctl(4),
    /// pty(7)), as when a terminal window is closed.
    fn hang_up(&mut self) {
        if self.pty.take().is_some() {
            self.input = None;
        }
    }

    /// Types the end of input into the workload's terminal, once all before it has been written. Again when the
    /// terminal's mode has changed since: what was typed for the kernel's line discipline is a plain byte to a line
    /// editor, and the other way round.
    fn type_end(&mut self) {
        let (Some(flow), Some(pty)) = (&mut self.input, &self.pty) else {
            return;
        };
        if flow.source().is_some() || flow.is_stuck() {
            return;
        }
        // On a master this answers for the slave (pty(7)).
        let Ok(mode) = tcgetattr(&pty.master) else {
            return;
        };
        let typing = if mode.local_flags.contains(LocalFlags::ICANON) {
            Typing::Lines
        } else if mode.local_flags.contains(LocalFlags::ISIG) {
            Typing::Editor
        } else {
            Typing::Raw
        };
        let end = control(&mode, SpecialCharacterIndices::VEOF);
        if self.end_typed.replace(typing) == Some(typing) || typing == Typing::Raw || end == 0 {
            return;
        }
        // Behind an unfinished line the first VEOF only hands over that line (termios(3)).
        let twice = typing == Typing::Lines && flow.last().is_some_and(|last| !ends(&mode, last));
        flow.push(
            [end, end]
                .get(..if twice { 2 } else { 1 })
                .unwrap_or_default(),
        );
        self.pump_input();
    }
}

/// One special character of a terminal; 0 when it is switched off.
fn control(mode: &Termios, index: SpecialCharacterIndices) -> u8 {
    mode.control_chars.get(index as usize).copied().unwrap_or(0)
}

/// Whether a byte finishes a line in canonical mode.
fn ends(mode: &Termios, byte: u8) -> bool {
    let special = [
        SpecialCharacterIndices::VEOF,
        SpecialCharacterIndices::VEOL,
        SpecialCharacterIndices::VEOL2,
    ];
    byte == b'\n'
        || (byte == b'\r' && mode.input_flags.contains(InputFlags::ICRNL))
        || special
            .iter()
            .any(|index| byte != 0 && control(mode, *index) == byte)
}
