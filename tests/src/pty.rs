//! A terminal that the test sits at: its master end, and a slave end to hand to the client.
//!
//! The size is set with stty(1), because an ioctl would need `unsafe` here.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

use crate::run::Wire;
use crate::world::tool;
use crate::{DEADLINE, pause};

/// A pseudo terminal.
#[derive(Debug)]
pub struct Pty {
    master: PtyMaster,
    name: String,
    /// Kept open so that the terminal does not hang up between clients.
    slave: File,
    seen: Vec<u8>,
}

impl Pty {
    /// A terminal of this size, in rows and columns.
    ///
    /// # Panics
    /// When there is no pseudo terminal to have.
    #[must_use]
    pub fn new(rows: u16, columns: u16) -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).expect("open a pseudo terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname_r(&master).expect("ptsname");
        fcntl(
            master.as_fd(),
            FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK),
        )
        .expect("F_SETFL");
        let slave = open(&name);
        let pty = Self {
            master,
            name,
            slave,
            seen: Vec::new(),
        };
        pty.resize(rows, columns);
        pty
    }

    /// Changes the size; the kernel signals only the session that has this terminal, so the test signals its client.
    pub fn resize(&self, rows: u16, columns: u16) {
        let done = Command::new(tool("stty"))
            .args([
                "-F",
                &self.name,
                "rows",
                &rows.to_string(),
                "cols",
                &columns.to_string(),
            ])
            .status()
            .expect("stty");
        assert!(done.success(), "stty: {done:?}");
    }

    /// A slave end for a stream of the client.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire::Given(OwnedFd::from(open(&self.name)))
    }

    /// The terminal's settings now.
    #[must_use]
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.slave).expect("tcgetattr")
    }

    /// Sets its mode, as a shell does that has the terminal back.
    ///
    /// # Panics
    /// When that fails.
    pub fn set(&self, settings: &Termios) {
        tcsetattr(&self.slave, SetArg::TCSANOW, settings).expect("tcsetattr");
    }

    /// Whether what was typed could be read at the slave end now: in the usual mode a whole line.
    ///
    /// # Panics
    /// When poll(2) fails.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let mut set = [PollFd::new(self.slave.as_fd(), PollFlags::POLLIN)];
        poll(&mut set, PollTimeout::ZERO).expect("poll") > 0
    }

    /// Types `bytes`.
    pub fn write(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).expect("type");
    }

    /// Reads until the screen has shown `text`, and forgets what was shown up to there.
    ///
    /// # Panics
    /// When the deadline passes.
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            self.read();
            let shown = String::from_utf8_lossy(&self.seen).into_owned();
            if let Some(at) = shown.find(text) {
                self.seen = shown.as_bytes()[at + text.len()..].to_vec();
                return shown[..at + text.len()].to_owned();
            }
            assert!(
                Instant::now() < end,
                "the terminal never showed {text:?}, only {shown:?}"
            );
            pause();
        }
    }

    /// All that has been shown since the last [`Self::expect`].
    pub fn shown(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Moves what is there, without waiting.
    pub fn read(&mut self) {
        let mut block = [0_u8; 65536];
        loop {
            match self.master.read(&mut block) {
                Ok(0) => return,
                Ok(count) => self.seen.extend_from_slice(&block[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

fn open(name: &str) -> File {
    let flags = OFlag::O_NOCTTY.bits();
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(name)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
}
