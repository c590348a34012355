//! A conversation with a message bus (the D-Bus specification): calls, their answers, and signals. It has an end: ten seconds
//! after its beginning whatever is still missing is an error that says what it was.
//!
//! The messages are written and read by the library; the connection is ours, because that of the library waits for ever for a
//! bus that has been stopped.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustbus::message_builder::{MarshalledMessage, MessageBuilder, MessageType};
use rustbus::params::Param;
use rustbus::wire::errors::UnmarshalError;
use rustbus::wire::{marshal, unmarshal};
use shim::{Error, Result};

const DEADLINE: Duration = Duration::from_secs(10);
/// The fixed part of a message, with the length of what follows.
const FIXED: usize = 16;
/// Of one message. systemd's answers have some hundred bytes.
const LIMIT: usize = 1 << 20;

/// Where systemd is spoken to.
const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";

/// What an answer has that is no success.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The error's name and text.
    Answer(String, String),
    /// There was no answer.
    None(Error),
}

/// An open conversation.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    end: Instant,
    /// For messages.
    name: String,
    /// Signals that have come while something else was waited for.
    signals: Vec<MarshalledMessage>,
}

impl Bus {
    /// Connects: to the bus of the machine, or of the user.
    ///
    /// # Errors
    /// There is none; it does not answer.
    pub(super) fn connect(of_user: bool) -> Result<Self> {
        let end = Instant::now() + DEADLINE;
        let address = address(of_user)?;
        let name = match address.as_pathname() {
            Some(path) => path.display().to_string(),
            None => "an abstract socket".to_owned(),
        };
        let stream = connect(address, end).map_err(|error| failed(&name, "connect", &error))?;
        let mut bus = Self {
            stream,
            serial: 0,
            end,
            name,
            signals: Vec::new(),
        };
        bus.authenticate()?;
        let hello = MessageBuilder::new()
            .call("Hello")
            .with_interface(BUS)
            .on("/org/freedesktop/DBus")
            .at(BUS)
            .build();
        bus.answered(hello, "Hello")?;
        Ok(bus)
    }

    /// Who we are, the kernel tells the bus; a number would be that of our user namespace.
    fn authenticate(&mut self) -> Result<()> {
        const SAID: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
        let what = "authentication";
        self.write(SAID, what)?;
        let mut heard = Vec::new();
        // DATA, and OK with the name of the server.
        while heard.iter().filter(|byte| **byte == b'\n').count() < 2 {
            let mut byte = [0];
            self.read(&mut byte, what)?;
            heard.extend(byte);
            if heard.len() > 512 || heard.starts_with(b"REJECTED") {
                return Err(self.broken(&String::from_utf8_lossy(&heard)));
            }
        }
        let text = String::from_utf8_lossy(&heard).into_owned();
        if text
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("OK "))
        {
            Ok(())
        } else {
            Err(self.broken(&text))
        }
    }

    /// Calls a method of systemd's; the answer.
    pub(super) fn call(
        &mut self,
        member: &'static str,
        arguments: &[Param<'_, '_>],
    ) -> Result<MarshalledMessage, Refusal> {
        let mut message = MessageBuilder::new()
            .call(member)
            .with_interface(MANAGER)
            .on(OBJECT)
            .at(SYSTEMD)
            .build();
        let pushed = message.body.push_old_params(arguments);
        pushed.map_err(|error| Refusal::None(self.broken(&error.to_string())))?;
        self.ask(message, member)
    }

    /// Wants to be told when systemd has done a job.
    pub(super) fn subscribe(&mut self) -> Result<()> {
        let rule =
            format!("type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'");
        let mut message = MessageBuilder::new()
            .call("AddMatch")
            .with_interface(BUS)
            .on("/org/freedesktop/DBus")
            .at(BUS)
            .build();
        let pushed = message.body.push_param(rule);
        pushed.map_err(|error| self.broken(&error.to_string()))?;
        self.answered(message, "AddMatch")?;
        let subscribed = self.call("Subscribe", &[]);
        subscribed
            .map(drop)
            .map_err(|refusal| self.words(refusal, "Subscribe"))
    }

    /// A text among systemd's own properties.
    pub(super) fn text(&mut self, property: &'static str) -> Result<String> {
        let mut message = MessageBuilder::new()
            .call("Get")
            .with_interface(PROPERTIES)
            .on(OBJECT)
            .at(SYSTEMD)
            .build();
        let pushed = message.body.push_param2(MANAGER, property);
        pushed.map_err(|error| self.broken(&error.to_string()))?;
        let answer = self.answered(message, property)?;
        let value = answer
            .body
            .parser()
            .get::<unmarshal::traits::Variant<'_, '_>>();
        value
            .and_then(|value| value.get::<String>())
            .map_err(|error| self.broken(&error.to_string()))
    }

    /// The next signal.
    pub(super) fn signal(&mut self, what: &str) -> Result<MarshalledMessage> {
        if !self.signals.is_empty() {
            return Ok(self.signals.remove(0));
        }
        loop {
            let message = self.receive(what)?;
            if message.typ == MessageType::Signal {
                return Ok(message);
            }
        }
    }

    fn answered(&mut self, message: MarshalledMessage, what: &str) -> Result<MarshalledMessage> {
        let answer = self.ask(message, what);
        answer.map_err(|refusal| self.words(refusal, what))
    }

    fn ask(
        &mut self,
        message: MarshalledMessage,
        what: &str,
    ) -> Result<MarshalledMessage, Refusal> {
        self.serial += 1;
        let mut bytes = Vec::new();
        let written = marshal::marshal(&message, self.serial, &mut bytes);
        written.map_err(|error| Refusal::None(self.broken(&error.to_string())))?;
        bytes.extend_from_slice(message.get_buf());
        self.write(&bytes, what).map_err(Refusal::None)?;
        loop {
            let message = self.receive(what).map_err(Refusal::None)?;
            let is_answer = message.dynheader.response_serial == Some(self.serial);
            match message.typ {
                MessageType::Reply if is_answer => return Ok(message),
                MessageType::Error if is_answer => {
                    let text = message.body.parser().get::<String>().unwrap_or_default();
                    let name = message.dynheader.error_name.unwrap_or_default();
                    return Err(Refusal::Answer(name, text));
                }
                MessageType::Signal => self.signals.push(message),
                _ => {}
            }
        }
    }

    fn receive(&mut self, what: &str) -> Result<MarshalledMessage> {
        let mut bytes = vec![0; FIXED];
        self.read(&mut bytes, what)?;
        let number = |bytes: &[u8], at: usize| -> Option<usize> {
            let four = bytes.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_ne_bytes(four)).ok()
        };
        let lengths = number(&bytes, 4).zip(number(&bytes, 12));
        let (body, fields) = lengths.unwrap_or((LIMIT, LIMIT));
        let length = (FIXED + fields.min(LIMIT)).next_multiple_of(8) + body.min(LIMIT);
        if length > LIMIT {
            return Err(self.broken("a message is too long"));
        }
        bytes.resize(length, 0);
        self.read(bytes.get_mut(FIXED..).unwrap_or_default(), what)?;
        let read = || {
            let (used, header) = unmarshal::unmarshal_header(&bytes, 0)?;
            let (more, fields) = unmarshal::unmarshal_dynamic_header(&header, &bytes, used)?;
            let message = unmarshal::unmarshal_next_message(&header, fields, &bytes, used + more)?;
            Ok::<_, UnmarshalError>(message.1)
        };
        read().map_err(|error| self.broken(&error.to_string()))
    }

    fn write(&mut self, mut bytes: &[u8], what: &str) -> Result<()> {
        while !bytes.is_empty() {
            let written = left(self.end)
                .and_then(|left| self.stream.set_write_timeout(Some(left)))
                .and_then(|()| self.stream.write(bytes));
            match written {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.name, what, &error)),
            }
        }
        Ok(())
    }

    fn read(&mut self, mut bytes: &mut [u8], what: &str) -> Result<()> {
        while !bytes.is_empty() {
            let read = left(self.end)
                .and_then(|left| self.stream.set_read_timeout(Some(left)))
                .and_then(|()| self.stream.read(bytes));
            match read {
                Ok(0) => return Err(self.broken("it has closed the connection")),
                Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.name, what, &error)),
            }
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> Error {
        Error::new("speak to the message bus")
            .on(&self.name)
            .because(why.trim().replace(['\r', '\n'], " "))
            .hint(HINT)
    }

    /// A refusal as an error.
    pub(super) fn words(&self, refusal: Refusal, what: &str) -> Error {
        match refusal {
            Refusal::None(error) => error,
            Refusal::Answer(name, text) => Error::new("ask systemd for")
                .on(what)
                .because(format!("{name}: {}", text.replace('\n', " ")))
                .hint("see the journal of systemd"),
        }
    }
}

const HINT: &str =
    "dbus and systemd must run and answer; --cgroup-manager=cgroupfs does without them";

fn failed(name: &str, what: &str, error: &std::io::Error) -> Error {
    let op = format!("speak to the message bus ({what})");
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::new(op)
            .on(name)
            .because("no answer within ten seconds")
            .hint(HINT),
        _ => Error::io(op, name, error).hint(HINT),
    }
}

/// What is left of the time; a timeout of zero would be none.
fn left(end: Instant) -> std::io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left.max(Duration::from_millis(1)))
}

/// connect(2) waits while the bus accepts nobody, for as long as the socket says.
fn connect(address: SocketAddr, end: Instant) -> std::io::Result<UnixStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd as _;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let stream = UnixStream::from(socket);
    let seconds = i64::try_from(left(end)?.as_secs()).unwrap_or(1).max(1);
    setsockopt(
        &stream,
        sockopt::SendTimeout,
        &nix::sys::time::TimeVal::new(seconds, 0),
    )?;
    let address = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => UnixAddr::new(path)?,
        (_, Some(name)) => UnixAddr::new_abstract(name)?,
        _ => return Err(ErrorKind::InvalidInput.into()),
    };
    connect(stream.as_raw_fd(), &address)?;
    Ok(stream)
}

/// Where the bus listens: what the environment says, or the usual place.
fn address(of_user: bool) -> Result<SocketAddr> {
    let (variable, usual) = match of_user {
        false => (
            "DBUS_SYSTEM_BUS_ADDRESS",
            Some(PathBuf::from("/run/dbus/system_bus_socket")),
        ),
        true => {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
            let usual = runtime.map(|dir| PathBuf::from(dir).join("bus"));
            ("DBUS_SESSION_BUS_ADDRESS", usual)
        }
    };
    let failed = || {
        Error::new("find the message bus")
            .on(variable)
            .because("it names no unix socket, or XDG_RUNTIME_DIR is not set")
            .hint("a login makes it; or --cgroup-manager=cgroupfs")
    };
    let said = std::env::var_os(variable).filter(|text| !text.is_empty());
    let address = match said {
        None => usual.and_then(|path| SocketAddr::from_pathname(path).ok()),
        Some(text) => parse(text.as_bytes()),
    };
    address.ok_or_else(failed)
}

/// The first of `unix:path=PATH,guid=…;…`. Escaped bytes are nothing that a login writes.
fn parse(text: &[u8]) -> Option<SocketAddr> {
    let first = std::str::from_utf8(text).ok()?.split(';').next()?;
    let mut parts = first.strip_prefix("unix:")?.split(',');
    parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        match key {
            "path" => SocketAddr::from_pathname(value).ok(),
            "abstract" => SocketAddr::from_abstract_name(value).ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_paths_or_abstract_names() {
        let path = |text: &str| {
            let address = parse(text.as_bytes())?;
            Some(address.as_pathname()?.display().to_string())
        };
        let one = "unix:path=/run/user/7/bus,guid=ab;tcp:host=x";
        assert_eq!(path(one).as_deref(), Some("/run/user/7/bus"));
        let abstract_one = parse(b"unix:abstract=/tmp/x").expect("address");
        assert_eq!(abstract_one.as_abstract_name(), Some("/tmp/x".as_bytes()));
        for bad in ["", "tcp:host=x", "unix:", "unix:path", "/run/x"] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
