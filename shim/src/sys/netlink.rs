//! Network interfaces by rtnetlink(7): what one is, and how it gets into another network namespace.
//!
//! A socket speaks of the network namespace that it was made in, whoever has it.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use serde::{Deserialize, Serialize};

use super::clone::visit;

/// More than the kernel puts into one datagram (NLMSG_GOODSIZE, or 32 KiB for a list).
const ANSWER_MAX: usize = 64 * 1024;
/// The length of `struct nlmsghdr`.
const HEAD: usize = 16;
/// That of `struct ifaddrmsg`.
const ADDRESS_HEAD: usize = 8;
/// How often a list is asked for that has changed meanwhile.
const ATTEMPTS: usize = 16;

/// A route socket.
#[derive(Debug)]
pub struct Route(OwnedFd);

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Whether it is administratively up.
    pub up: bool,
}

/// An address of an interface, as the kernel describes it: `struct ifaddrmsg` and the attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(Vec<u8>);

impl Route {
    /// One of the caller's network namespace.
    ///
    /// # Errors
    /// Those of socket(2); EPROTONOSUPPORT without rtnetlink.
    pub fn here() -> Result<Self, Errno> {
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        let route = SockProtocol::NetlinkRoute;
        socket(family, kind, SockFlag::SOCK_CLOEXEC, route).map(Self)
    }

    /// One of this network namespace.
    ///
    /// # Errors
    /// Those of setns(2): EPERM without CAP_SYS_ADMIN in the user namespace that it belongs to. As [`Route::here`].
    pub fn within(namespace: impl AsFd) -> Result<Self, Errno> {
        visit(|| setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).and_then(|()| Self::here()))
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// ENODEV: there is none.
    pub fn by_name(&self, name: &str) -> Result<Link, Errno> {
        let request = Request::new(libc::RTM_GETLINK, 0, &link(0, 0, 0));
        self.one(request.attribute(libc::IFLA_IFNAME, &terminated(name)))
    }

    /// The interface of this number.
    ///
    /// # Errors
    /// ENODEV: there is none.
    pub fn by_index(&self, index: u32) -> Result<Link, Errno> {
        self.one(Request::new(libc::RTM_GETLINK, 0, &link(index, 0, 0)))
    }

    /// Its addresses.
    ///
    /// # Errors
    /// Those of rtnetlink(7).
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>, Errno> {
        let dump = flag(libc::NLM_F_DUMP);
        for _ in 0..ATTEMPTS {
            let request = Request::new(libc::RTM_GETADDR, dump, &[0; ADDRESS_HEAD]);
            match self.ask(request) {
                Err(Errno::EINTR) => {}
                answers => {
                    let of_this = answers?.into_iter().filter(|(kind, body)| {
                        *kind == libc::RTM_NEWADDR && number(body, 4) == Some(index)
                    });
                    return Ok(of_this.map(|(_, body)| Address(body)).collect());
                }
            }
        }
        Err(Errno::EBUSY)
    }

    /// Moves an interface to another namespace, where it has this name and this number; the kernel takes it down.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN in both; EINVAL for one that cannot leave; EEXIST, EBUSY where the name or the number is
    /// taken there: but for the name the interface may have gone there nevertheless.
    pub fn move_to(
        &self,
        namespace: impl AsFd,
        from: u32,
        name: &str,
        to: u32,
    ) -> Result<(), Errno> {
        let namespace = namespace.as_fd().as_raw_fd();
        let request = Request::new(libc::RTM_NEWLINK, flag(libc::NLM_F_ACK), &link(from, 0, 0))
            .attribute(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes())
            .attribute(libc::IFLA_IFNAME, &terminated(name))
            .attribute(libc::IFLA_NEW_IFINDEX, &to.to_ne_bytes());
        self.ask(request).map(drop)
    }

    /// Gives it an address, `label` and all or without that.
    ///
    /// # Errors
    /// EEXIST: it has it already. EACCES where IPv6 is switched off.
    pub fn add(&self, index: u32, address: &Address, label: bool) -> Result<(), Errno> {
        let body = address.body(index, label);
        let flags = flag(libc::NLM_F_ACK) | flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        self.ask(Request::new(libc::RTM_NEWADDR, flags, &body))
            .map(drop)
    }

    /// Brings it up.
    ///
    /// # Errors
    /// Those of its driver.
    pub fn raise(&self, index: u32) -> Result<(), Errno> {
        let up = libc::IFF_UP.cast_unsigned();
        let body = link(index, up, up);
        self.ask(Request::new(
            libc::RTM_NEWLINK,
            flag(libc::NLM_F_ACK),
            &body,
        ))
        .map(drop)
    }

    fn one(&self, request: Request) -> Result<Link, Errno> {
        let answers = self.ask(request)?;
        let (_, body) = answers.first().ok_or(Errno::ENODEV)?;
        let flags = number(body, 8).ok_or(Errno::EBADMSG)?;
        Ok(Link {
            index: number(body, 4).ok_or(Errno::EBADMSG)?,
            up: flags & libc::IFF_UP.cast_unsigned() != 0,
        })
    }

    /// Sends a request: the types and the bodies of what is answered. EINTR: a list has changed while it was made.
    fn ask(&self, request: Request) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        let is_list = request.is_list();
        send(self.0.as_raw_fd(), &request.done(), MsgFlags::empty())?;
        let mut buffer = vec![0; ANSWER_MAX];
        let mut answers = Vec::new();
        loop {
            // The kernel has answered before send(2) has returned; the rest of a list comes as it is read.
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
            let mut rest = buffer.get(..length).ok_or(Errno::EMSGSIZE)?;
            while let Some(length) = number(rest, 0).and_then(|length| usize::try_from(length).ok())
            {
                let message = rest.get(..length).ok_or(Errno::EBADMSG)?;
                let body = message.get(HEAD..).ok_or(Errno::EBADMSG)?;
                let (kind, flags) = (short(message, 4), short(message, 6));
                if flags & flag(libc::NLM_F_DUMP_INTR) != 0 {
                    return self.drain();
                }
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(answers),
                    libc::NLMSG_ERROR => {
                        let errno = number(body, 0).ok_or(Errno::EBADMSG)?.cast_signed();
                        return match errno {
                            0 => Ok(answers),
                            errno => Err(Errno::from_raw(-errno)),
                        };
                    }
                    _ => answers.push((kind, body.to_vec())),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            if !is_list {
                return Ok(answers);
            }
        }
    }

    /// Reads the rest of a list that is of no use.
    fn drain(&self) -> Result<Vec<(u16, Vec<u8>)>, Errno> {
        let mut buffer = vec![0; ANSWER_MAX];
        while recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
        Err(Errno::EINTR)
    }
}

impl Address {
    /// Whether it is permanent and of global scope.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        let head = |at: usize| self.0.get(at).copied().unwrap_or_default();
        let mut all = self.attributes();
        let flags = all.find(|(kind, _)| *kind == libc::IFA_FLAGS);
        let flags = flags.and_then(|(_, attribute)| number(attribute, 4));
        let flags = flags.unwrap_or(u32::from(head(2)));
        head(3) == libc::RT_SCOPE_UNIVERSE && flags & libc::IFA_F_PERMANENT != 0
    }

    /// The attributes, each with its own head.
    fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut rest = self.0.get(ADDRESS_HEAD..).unwrap_or_default();
        std::iter::from_fn(move || {
            let length = usize::from(short(rest, 0)).max(4);
            let attribute = rest.get(..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((short(attribute, 2), attribute))
        })
    }

    /// The same for an interface of this number. The label is the name of the interface as a rule: without one the kernel makes
    /// it anew.
    fn body(&self, index: u32, label: bool) -> Vec<u8> {
        let mut body = self.0.get(..4).unwrap_or_default().to_vec();
        body.extend(index.to_ne_bytes());
        for (kind, attribute) in self.attributes() {
            if label || kind != libc::IFA_LABEL {
                body.extend(attribute);
                body.resize(body.len().next_multiple_of(4), 0);
            }
        }
        body
    }
}

/// A message to the kernel.
struct Request {
    flags: u16,
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let flags = flags | flag(libc::NLM_F_REQUEST);
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEAD, 0);
        bytes.extend(body);
        Self { flags, bytes }
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn is_list(&self) -> bool {
        let dump = flag(libc::NLM_F_DUMP);
        self.flags & dump == dump
    }

    fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(..4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.bytes
    }
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    for (place, number) in body.chunks_mut(4).skip(1).zip([index, flags, change]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    body
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn flag(flag: libc::c_int) -> u16 {
    u16::try_from(flag).unwrap_or_default()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    let bytes = bytes.get(at..at.saturating_add(2));
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u16::from_ne_bytes)
}
