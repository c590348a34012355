//! An HTTP server in front of a registry, for what a real one does only on bad days: it breaks off, is silent, changes
//! what it serves, sends elsewhere, or wants tokens. It counts what it passes on.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::pause;

/// What a client that talks TLS begins with, RFC 8446.
const TLS_HANDSHAKE: u8 = 0x16;

/// A request as it came: the first line and the headers.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, `HEAD`.
    pub method: String,
    /// From the first `/` on, also where a proxy was asked.
    pub path: String,
    /// The lines after the first.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// A header's value; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether it asks for a layer or a configuration.
    #[must_use]
    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

/// What the front does with a request.
#[derive(Debug)]
pub enum Act {
    /// Passes it on, and the answer back.
    Pass,
    /// The same, without the header of this name.
    Without(&'static str),
    /// The same, but breaks off after so many bytes of the answer.
    Break(u64),
    /// The same, but is silent after so many bytes of the answer, until the client has gone.
    Stall(u64),
    /// The same with one bit of the answer's byte at this place changed.
    Spoil(u64),
    /// Answers this itself: status line, headers and body.
    Say(String),
    /// Answers without end: this, over and over, after a header.
    Endless(&'static [u8]),
    /// A byte now and then, after a header that promises more.
    Trickle,
}

type Decide = dyn Fn(&Asked) -> Act + Send + Sync;

/// A front that runs; ended when dropped.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    decide: Box<Decide>,
    passed: AtomicU64,
    asked: Mutex<Vec<Asked>>,
    ended: AtomicBool,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Front({})", self.address)
    }
}

impl Front {
    /// Starts one before `to`; `decide` says what becomes of each request.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(to: SocketAddr, decide: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            to,
            decide: Box::new(decide),
            passed: AtomicU64::new(0),
            asked: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A client that goes away in the middle is what some tests want.
                thread::spawn(move || drop(shared.serve(client)));
            }
        });
        Self { address, shared }
    }

    /// A name in the registry, by way of the front.
    #[must_use]
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// How many bytes of answers, heads included, have been passed on to requests for blobs.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// The requests so far.
    ///
    /// # Panics
    /// When a request's thread has panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("requests").clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// One request; the connection ends with it.
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let Some(asked) = read_request(&mut client)? else {
            return Ok(());
        };
        self.asked.lock().expect("requests").push(asked.clone());
        match (self.decide)(&asked) {
            Act::Pass => self.pass(&asked, client, &Cut::default()),
            Act::Without(name) => {
                let mut less = asked.clone();
                less.headers.retain(|(key, _)| key != name);
                self.pass(&less, client, &Cut::default())
            }
            Act::Break(after) => {
                let after = Some(after);
                self.pass(
                    &asked,
                    client,
                    &Cut {
                        after,
                        ..Cut::default()
                    },
                )
            }
            Act::Stall(after) => {
                let cut = Cut {
                    after: Some(after),
                    stall: true,
                    spoil: None,
                };
                self.pass(&asked, client, &cut)
            }
            Act::Spoil(at) => {
                let spoil = Some(at);
                self.pass(
                    &asked,
                    client,
                    &Cut {
                        spoil,
                        ..Cut::default()
                    },
                )
            }
            Act::Say(answer) => client.write_all(answer.as_bytes()),
            Act::Endless(piece) => {
                client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                let many = piece.repeat(64 << 10);
                while self.go_on() {
                    client.write_all(&many)?;
                }
                Ok(())
            }
            Act::Trickle => {
                client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
                while self.go_on() {
                    client.write_all(b"x")?;
                    pause();
                }
                Ok(())
            }
        }
    }

    fn go_on(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    fn pass(&self, asked: &Asked, mut client: TcpStream, cut: &Cut) -> std::io::Result<()> {
        let mut server = TcpStream::connect(self.to)?;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nConnection: close\r\n",
            asked.method, asked.path
        );
        for (key, value) in &asked.headers {
            if !matches!(key.as_str(), "connection" | "proxy-connection") {
                head.push_str(&format!("{key}: {value}\r\n"));
            }
        }
        server.write_all(format!("{head}\r\n").as_bytes())?;
        let mut buffer = vec![0; 64 << 10];
        let mut done = 0_u64;
        loop {
            let room = cut.after.map_or(u64::MAX, |after| after - done);
            if room == 0 {
                // The client ends its connection when it has lost its patience, or its life.
                while cut.stall && self.go_on() && !is_gone(&mut client)? {
                    pause();
                }
                return Ok(());
            }
            let most = usize::try_from(room)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = server.read(&mut buffer[..most])?;
            if count == 0 {
                return Ok(());
            }
            if let Some(at) = cut.spoil.and_then(|at| at.checked_sub(done))
                && let Some(byte) = usize::try_from(at)
                    .ok()
                    .and_then(|at| buffer[..count].get_mut(at))
            {
                *byte ^= 1;
            }
            done += count as u64;
            if asked.is_blob() {
                self.passed.fetch_add(count as u64, Ordering::SeqCst);
            }
            client.write_all(&buffer[..count])?;
        }
    }
}

/// What is done to an answer on the way.
#[derive(Default)]
struct Cut {
    after: Option<u64>,
    stall: bool,
    spoil: Option<u64>,
}

/// Whether the other side has closed the connection.
fn is_gone(client: &mut TcpStream) -> std::io::Result<bool> {
    client.set_nonblocking(true)?;
    let read = client.read(&mut [0; 16]);
    client.set_nonblocking(false)?;
    Ok(matches!(read, Ok(0)))
}

/// The head of a request; nothing where the client went away instead. What is asked with has no body.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read(&mut byte)? == 0 {
            return Ok(None);
        }
        // TLS is answered as registries without it do.
        if !byte[0].is_ascii() || byte[0] == TLS_HANDSHAKE {
            client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")?;
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default();
    // A proxy is asked for the whole URL.
    let path = target.split_once("://").map_or(target, |(_, rest)| {
        rest.find('/').map_or("/", |at| &rest[at..])
    });
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()));
    Ok(Some(Asked {
        method,
        path: path.to_owned(),
        headers: headers.collect(),
    }))
}
