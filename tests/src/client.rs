//! A running program whose streams the test holds: feeds it, reads it, signals it, waits for it.
//!
//! Output counts only if it can be read at the moment the program has ended: that is when clients stop reading. So
//! [`Client::finish`] takes what is there after the exit and does not wait for the end of the streams.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::DEADLINE;

/// A started program; killed and waited for when dropped.
#[derive(Debug)]
pub struct Client {
    child: Child,
    what: String,
    stdin: Option<File>,
    pending: Vec<u8>,
    close_input: bool,
    stdout: Option<File>,
    stderr: Option<File>,
    out: Vec<u8>,
    err: Vec<u8>,
}

/// A program that has ended, with all that could be read from it at that moment.
#[derive(Debug)]
pub struct Done {
    /// The command line, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Bytes from standard output.
    pub out: Vec<u8>,
    /// Bytes from standard error.
    pub err: Vec<u8>,
}

impl Client {
    pub(crate) fn new(
        child: Child,
        what: String,
        stdin: Option<File>,
        stdout: Option<File>,
        stderr: Option<File>,
    ) -> Self {
        for file in [&stdin, &stdout, &stderr].into_iter().flatten() {
            let flags =
                OFlag::from_bits_truncate(fcntl(file.as_fd(), FcntlArg::F_GETFL).expect("F_GETFL"));
            fcntl(file.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).expect("F_SETFL");
        }
        Self {
            child,
            what,
            stdin,
            pending: Vec::new(),
            close_input: false,
            stdout,
            stderr,
            out: Vec::new(),
            err: Vec::new(),
        }
    }

    pub(crate) fn feed(mut self, bytes: Vec<u8>, close: bool) -> Self {
        self.pending = bytes;
        self.close_input = close;
        self.write_pending();
        self
    }

    /// The process id of the program.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("pid"))
    }

    /// Sends a signal to the program (and to nothing below it).
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|e| panic!("kill {}: {e}", self.what));
    }

    /// Queues bytes for standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.write_pending();
    }

    /// Ends standard input after what is queued.
    pub fn end_input(&mut self) {
        self.close_input = true;
        self.write_pending();
    }

    /// Closes our end of standard output and error, as a client that goes away does.
    pub fn close_output(&mut self) {
        self.stdout = None;
        self.stderr = None;
    }

    /// What has been read from standard output so far.
    #[must_use]
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Reads until standard output has `text`.
    ///
    /// # Panics
    /// When the program ends without it or the deadline passes.
    pub fn expect(&mut self, text: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            if self.seen().contains(text) {
                return;
            }
            let ended = self.child.try_wait().expect("wait");
            self.pump(if ended.is_some() { 0 } else { 5 });
            if self.seen().contains(text) {
                return;
            }
            let err = String::from_utf8_lossy(&self.err);
            assert!(
                ended.is_none(),
                "{} ended with {ended:?} before {text:?}; stdout {:?}, stderr {err:?}",
                self.what,
                self.seen()
            );
            assert!(
                Instant::now() < end,
                "{} never wrote {text:?}; stdout {:?}, stderr {err:?}",
                self.what,
                self.seen()
            );
        }
    }

    /// What has been read from standard error so far, after one more look.
    pub fn error_so_far(&mut self) -> String {
        self.pump(0);
        String::from_utf8_lossy(&self.err).into_owned()
    }

    /// Whether the program has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Waits for the end and gives what could be read at that moment.
    ///
    /// # Panics
    /// When the deadline passes; the program is killed then.
    #[must_use]
    pub fn finish(mut self) -> Done {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            self.pump(2);
            assert!(
                Instant::now() < end,
                "{} did not end within {DEADLINE:?}; stdout {} bytes, stderr {:?}",
                self.what,
                self.out.len(),
                String::from_utf8_lossy(&self.err)
            );
        };
        // What is not in the kernel's buffers by now was not there when the exit was seen.
        while self.pump(0) {}
        Done {
            what: std::mem::take(&mut self.what),
            status,
            out: std::mem::take(&mut self.out),
            err: std::mem::take(&mut self.err),
        }
    }

    /// Waits up to `milliseconds` for a stream and moves what is there; whether anything moved.
    fn pump(&mut self, milliseconds: u8) -> bool {
        let mut fds = Vec::with_capacity(3);
        for file in [&self.stdout, &self.stderr].into_iter().flatten() {
            fds.push(PollFd::new(file.as_fd(), PollFlags::POLLIN));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.pending.is_empty()) {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        let _ = poll(&mut fds, milliseconds);
        drop(fds);
        self.write_pending();
        let out = take(&mut self.stdout, &mut self.out);
        let err = take(&mut self.stderr, &mut self.err);
        out || err
    }

    fn write_pending(&mut self) {
        while let (Some(stdin), false) = (&mut self.stdin, self.pending.is_empty()) {
            match stdin.write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // The reader is gone: what is left has no addressee.
                Err(_) => self.pending.clear(),
            }
        }
        if self.close_input && self.pending.is_empty() {
            self.stdin = None;
        }
    }
}

/// Moves what can be read without waiting; whether anything came. The end of the stream drops the file.
fn take(stream: &mut Option<File>, into: &mut Vec<u8>) -> bool {
    let Some(file) = stream else { return false };
    let mut block = [0_u8; 65536];
    let mut any = false;
    loop {
        match file.read(&mut block) {
            Ok(0) => {
                *stream = None;
                return any;
            }
            Ok(count) => {
                into.extend_from_slice(&block[..count]);
                any = true;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return any,
            Err(_) => {
                *stream = None;
                return any;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// The exit status, if it ended by itself.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Standard output as text, without the last line end.
    #[must_use]
    pub fn out_text(&self) -> String {
        String::from_utf8_lossy(&self.out)
            .trim_end_matches(['\n', '\r'])
            .to_owned()
    }

    /// Standard error as text, without the last line end.
    #[must_use]
    pub fn err_text(&self) -> String {
        String::from_utf8_lossy(&self.err)
            .trim_end_matches(['\n', '\r'])
            .to_owned()
    }

    /// Expects exit status 0 and gives standard output.
    ///
    /// # Panics
    /// Otherwise, with both streams.
    #[must_use]
    pub fn expect_ok(&self) -> String {
        assert!(
            self.status.success(),
            "{} ended with {:?}; stdout {:?}, stderr {:?}",
            self.what,
            self.status,
            self.out_text(),
            self.err_text()
        );
        self.out_text()
    }

    /// Expects this exit status.
    ///
    /// # Panics
    /// Otherwise, with both streams.
    pub fn expect_code(&self, code: i32) {
        assert_eq!(
            self.code(),
            Some(code),
            "{} ended with {:?}; stdout {:?}, stderr {:?}",
            self.what,
            self.status,
            self.out_text(),
            self.err_text()
        );
    }

    /// Expects a failure of start-container itself: one of `codes`, nothing on standard output, and on standard error
    /// one line that says what failed and one that says what to do (and at most the step that failed).
    ///
    /// # Panics
    /// Otherwise, with both streams.
    pub fn expect_refused(&self, codes: &[i32]) {
        let told = format!(
            "{}: {:?}, stdout {:?}, stderr {:?}",
            self.what,
            self.status,
            self.out_text(),
            self.err_text()
        );
        assert!(
            self.code().is_some_and(|code| codes.contains(&code)),
            "exit status not in {codes:?}: {told}"
        );
        assert!(self.out.is_empty(), "something on stdout: {told}");
        let text = self.err_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "a line and a hint: {told}");
        let what = lines[0]
            .strip_prefix("start-container: ")
            .unwrap_or_else(|| panic!("no name: {told}"));
        assert!(
            what.starts_with(|c: char| c.is_ascii_lowercase()),
            "not a lower-case verb phrase: {told}"
        );
        assert!(
            lines[1]
                .strip_prefix("  hint: ")
                .is_some_and(|hint| hint.len() > 3),
            "no hint: {told}"
        );
        assert!(!text.contains("panicked"), "a panic: {told}");
    }
}
