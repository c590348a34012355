//! Describes one run of a program: arguments, environment, and what its three streams are.
//!
//! The environment is empty unless said otherwise, because clients give their own as the whole of it. The default
//! streams are socket pairs, because that is what Node gives its children.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::{Client, Done};

/// What a stream of the program is.
#[derive(Debug)]
pub enum Wire {
    /// A socket pair whose other end the test holds.
    Socket,
    /// A pipe whose other end the test holds.
    Pipe,
    /// `/dev/null`.
    Null,
    /// This descriptor, as it is; the test holds nothing.
    Given(OwnedFd),
}

/// A program to run; for `subcontainer launch` and `exec` also the parts of their command line.
#[derive(Debug)]
pub struct Run {
    program: OsString,
    before: Vec<OsString>,
    wrap: Vec<OsString>,
    options: Vec<OsString>,
    rootfs: Option<PathBuf>,
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    input: Vec<u8>,
    close_input: bool,
    stdin: Wire,
    stdout: Wire,
    stderr: Wire,
}

impl Run {
    /// `program` without arguments, with an empty environment and socket pairs.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            before: Vec::new(),
            wrap: Vec::new(),
            options: Vec::new(),
            rootfs: None,
            command: Vec::new(),
            environment: Vec::new(),
            cwd: None,
            input: Vec::new(),
            close_input: false,
            stdin: Wire::Socket,
            stdout: Wire::Socket,
            stderr: Wire::Socket,
        }
    }

    /// Appends words that come first: the verb and its places.
    #[must_use]
    pub fn verb<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.before
            .extend(words.into_iter().map(|w| w.as_ref().to_owned()));
        self
    }

    /// Appends one option word, which stands before the root filesystem.
    #[must_use]
    pub fn opt(mut self, word: impl AsRef<OsStr>) -> Self {
        self.options.push(word.as_ref().to_owned());
        self
    }

    /// Appends several option words.
    #[must_use]
    pub fn opts<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.options
            .extend(words.into_iter().map(|w| w.as_ref().to_owned()));
        self
    }

    /// Takes all options away again, also those that every test gets.
    #[must_use]
    pub fn no_opts(mut self) -> Self {
        self.options.clear();
        self
    }

    /// Sets the root filesystem.
    #[must_use]
    pub fn rootfs(mut self, path: impl AsRef<Path>) -> Self {
        self.rootfs = Some(path.as_ref().to_owned());
        self
    }

    /// Appends words after the root filesystem: the command.
    #[must_use]
    pub fn cmd<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command
            .extend(words.into_iter().map(|w| w.as_ref().to_owned()));
        self
    }

    /// The command is this shell script.
    #[must_use]
    pub fn sh(self, script: &str) -> Self {
        self.cmd(["sh", "-c", script])
    }

    /// Runs it all below another program: `wrap… program arguments…`.
    #[must_use]
    pub fn wrap<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.wrap
            .extend(words.into_iter().map(|w| w.as_ref().to_owned()));
        self
    }

    /// Runs all of it, with what it is wrapped in so far, through another program.
    #[must_use]
    pub fn wrap_around<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned());
        self.wrap.splice(0..0, words);
        self
    }

    /// Adds a variable to the otherwise empty environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory of the program.
    #[must_use]
    pub fn cwd(mut self, path: impl AsRef<Path>) -> Self {
        self.cwd = Some(path.as_ref().to_owned());
        self
    }

    /// Bytes to write to the program, followed by the end of the stream.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self.close_input = true;
        self
    }

    /// What standard input is.
    #[must_use]
    pub fn stdin(mut self, wire: Wire) -> Self {
        self.stdin = wire;
        self
    }

    /// What standard output is.
    #[must_use]
    pub fn stdout(mut self, wire: Wire) -> Self {
        self.stdout = wire;
        self
    }

    /// What standard error is.
    #[must_use]
    pub fn stderr(mut self, wire: Wire) -> Self {
        self.stderr = wire;
        self
    }

    /// All three streams are pipes.
    #[must_use]
    pub fn pipes(self) -> Self {
        self.stdin(Wire::Pipe).stdout(Wire::Pipe).stderr(Wire::Pipe)
    }

    /// The whole command line.
    #[must_use]
    pub fn line(&self) -> Vec<OsString> {
        let mut line = self.wrap.clone();
        line.push(self.program.clone());
        line.extend(self.before.iter().cloned());
        line.extend(self.options.iter().cloned());
        line.extend(self.rootfs.iter().map(|path| path.clone().into_os_string()));
        line.extend(self.command.iter().cloned());
        line
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the program cannot be started at all.
    #[must_use]
    pub fn spawn(self) -> Client {
        let line = self.line();
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env_clear().envs(self.environment);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let (stdin, theirs) = end(self.stdin, true);
        command.stdin(theirs);
        let (stdout, theirs) = end(self.stdout, false);
        command.stdout(theirs);
        let (stderr, theirs) = end(self.stderr, false);
        command.stderr(theirs);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("start {line:?}: {e}"));
        // The child's ends are in `command`; without this drop the test would hold them and never see an end.
        drop(command);
        Client::new(child, format!("{line:?}"), stdin, stdout, stderr)
            .feed(self.input, self.close_input)
    }

    /// Starts it and waits for its end.
    #[must_use]
    pub fn done(self) -> Done {
        self.spawn().finish()
    }

    /// Runs it, expects exit status 0 and gives its output without the last line end.
    #[must_use]
    pub fn text(self) -> String {
        self.done().expect_ok()
    }
}

/// Our end and the program's end of a stream.
fn end(wire: Wire, input: bool) -> (Option<File>, Stdio) {
    match wire {
        Wire::Null => (None, Stdio::null()),
        Wire::Given(fd) => (None, Stdio::from(fd)),
        Wire::Socket => {
            let (ours, theirs) = UnixStream::pair().expect("socketpair");
            (
                Some(File::from(OwnedFd::from(ours))),
                Stdio::from(OwnedFd::from(theirs)),
            )
        }
        Wire::Pipe => {
            let (reader, writer) = std::io::pipe().expect("pipe");
            if input {
                (Some(File::from(OwnedFd::from(writer))), Stdio::from(reader))
            } else {
                (Some(File::from(OwnedFd::from(reader))), Stdio::from(writer))
            }
        }
    }
}
