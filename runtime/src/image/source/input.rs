//! Where the bytes of a source come from: a directory, a file that can be read anywhere, or a pipe that is read once.

use std::fs::{File, FileType};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shim::{Error, Result};

use crate::image::archive::read_failed;
use crate::image::stream::Section;

/// How much of a pipe is read to find out what comes out of it, in bytes: more than one block of bzip2.
const START: u64 = 1 << 20;
/// How long a named pipe may have nobody who writes to it, in milliseconds.
const WRITER_DEADLINE: u16 = 60_000;

/// What a path leads to.
pub(super) enum Opened {
    Directory(File),
    File(File),
    Pipe(Pipe),
}

/// The bytes of a source.
pub(in crate::image) enum Input {
    /// All of a file.
    File(Section),
    /// What comes out of a pipe.
    Pipe(Pipe),
}

/// A pipe whose beginning has been read, and is read again.
pub(in crate::image) struct Pipe {
    start: Vec<u8>,
    position: usize,
    rest: Patient,
}

/// Waits for data where the descriptor would not: whoever gave it to us may have made it so.
struct Patient(File);

/// Opens `path`, which `label` names; `-` is stdin.
pub(super) fn open(path: &Path, label: &str) -> Result<Opened> {
    let failed = |error: &io::Error| Error::io("open image source", label, error);
    let is_stdin = path == Path::new("-");
    let file = if is_stdin {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        // Neither a terminal nor a pipe without a writer may hold us up here.
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        File::options().read(true).custom_flags(flags).open(path)
    };
    let file = file.map_err(|error| {
        failed(&error)
            .hint("name a readable file, pipe or directory; its permissions may be too tight")
    })?;
    let kind = file.metadata().map(|metadata| metadata.file_type());
    let kind = kind.map_err(|error| failed(&error).hint("check the disk it is on"))?;
    if kind.is_dir() {
        return Ok(Opened::Directory(file));
    }
    if kind.is_file() {
        return Ok(Opened::File(file));
    }
    if !is_pipe(kind) {
        let error = failed_because(label, "it is neither a file, nor a pipe, nor a directory");
        return Err(error.hint("give an archive, or - and an archive on stdin"));
    }
    if !is_stdin {
        await_writer(&file, label)?;
    }
    let mut rest = Patient(file);
    let mut start = Vec::new();
    (&mut rest)
        .take(START)
        .read_to_end(&mut start)
        .map_err(|error| read_failed(label, &error))?;
    Ok(Opened::Pipe(Pipe {
        start,
        position: 0,
        rest,
    }))
}

fn failed_because(label: &str, why: &'static str) -> Error {
    Error::new("open image source").on(label).because(why)
}

/// A client's stdin is often a socket.
fn is_pipe(kind: FileType) -> bool {
    kind.is_fifo() || kind.is_socket()
}

/// Waits until something can be read from a named pipe, or its writer is gone.
fn await_writer(file: &File, label: &str) -> Result<()> {
    match wait(file, PollTimeout::from(WRITER_DEADLINE)) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let seconds = Duration::from_millis(WRITER_DEADLINE.into()).as_secs();
            Err(Error::new("open image source")
                .on(label)
                .because(format!("nothing was written to it for {seconds} seconds"))
                .hint("start what writes to it; what begins slowly is better piped to stdin, with - as SOURCE"))
        }
        Err(errno) => Err(read_failed(label, &errno.into())),
    }
}

/// Whether there is something to read, or nothing will ever be, before the time is up.
fn wait(file: &File, timeout: PollTimeout) -> nix::Result<bool> {
    loop {
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => {}
            ready => return ready.map(|count| count > 0),
        }
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.0, PollTimeout::NONE)?;
                }
                result => return result,
            }
        }
    }
}

impl Pipe {
    /// The beginning, whatever has been read since.
    pub(super) fn start(&self) -> &[u8] {
        &self.start
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut left = &self.start[self.position..];
        if left.is_empty() {
            return self.rest.read(buffer);
        }
        let count = left.read(buffer)?;
        self.position += count;
        Ok(count)
    }
}

impl Input {
    /// A file from where it stands now: a shell may have read the beginning of its stdin.
    pub(super) fn of_file(mut file: File) -> io::Result<Self> {
        let position = file.stream_position()?;
        let length = file.metadata()?.len().saturating_sub(position);
        Ok(Self::File(Section::new(Arc::new(file), position, length)))
    }

    /// The beginning again, as far as it can be had without taking it away from anybody.
    pub(super) fn again(&self) -> Box<dyn Read + '_> {
        match self {
            Self::File(section) => Box::new(section.clone()),
            Self::Pipe(pipe) => Box::new(pipe.start()),
        }
    }

    /// How many bytes it has, where that is known.
    pub(in crate::image) fn length(&self) -> Option<u64> {
        match self {
            Self::File(section) => Some(section.length()),
            Self::Pipe(_) => None,
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(section) => section.read(buffer),
            Self::Pipe(pipe) => pipe.read(buffer),
        }
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(section) => section.fmt(f),
            Self::Pipe(_) => f.write_str("Pipe"),
        }
    }
}
