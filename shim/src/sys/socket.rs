//! Descriptors over a socket: `sendmsg(2)` and `recvmsg(2)` with SCM_RIGHTS. Nothing here allocates.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// The most descriptors that go with one message; the kernel would take 253 (SCM_MAX_FD).
pub const PASSED_MAX: usize = 32;

/// Room for one control message with [`PASSED_MAX`] descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 160]);

/// The length of `count` descriptors; none is longer than [`Control`].
fn rights_length(count: usize) -> libc::c_uint {
    libc::c_uint::try_from(count.min(PASSED_MAX) * size_of::<RawFd>()).unwrap_or_default()
}

/// Sends `message` as one datagram, with `passed` attached if there is one. Never raises SIGPIPE.
///
/// # Errors
/// EPIPE or ECONNRESET when the other side is gone.
pub fn send(socket: impl AsFd, message: &[u8], passed: Option<RawFd>) -> Result<(), Errno> {
    send_all(socket, message, passed.as_slice())
}

/// The same with up to [`PASSED_MAX`] descriptors.
///
/// # Errors
/// As [`send`]; EMSGSIZE for more descriptors, ETOOMANYREFS where an unprivileged user has more of them in sockets than
/// RLIMIT_NOFILE, EAGAIN on a non-blocking socket that is full.
pub fn send_all(socket: impl AsFd, message: &[u8], passed: &[RawFd]) -> Result<(), Errno> {
    if passed.len() > PASSED_MAX {
        return Err(Errno::EMSGSIZE);
    }
    let mut vector = libc::iovec {
        iov_base: message.as_ptr().cast_mut().cast(),
        iov_len: message.len(),
    };
    let mut control = Control([0; 160]);
    // SAFETY: all-zero is a valid `msghdr` (null pointers, zero lengths).
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if !passed.is_empty() {
        header.msg_control = (&raw mut control).cast();
        // SAFETY: pure arithmetic on a length.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(rights_length(passed.len())) } as _;
        // SAFETY: `header` has a control buffer with room for one message.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: pure arithmetic on a length.
        let length = unsafe { libc::CMSG_LEN(rights_length(passed.len())) };
        let rights = libc::cmsghdr {
            cmsg_len: length as _,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: `first` points into `control`, which is aligned and large enough for the header.
        unsafe { first.write(rights) };
        // SAFETY: the data of the first message lies within `control`.
        let data = unsafe { libc::CMSG_DATA(first) };
        // SAFETY: `control` has room for PASSED_MAX descriptors behind the header, and there are no more; both are
        // copied as bytes, so neither need be aligned.
        unsafe {
            std::ptr::copy_nonoverlapping(passed.as_ptr().cast::<u8>(), data, size_of_val(passed));
        };
    }
    loop {
        // SAFETY: `header` points to `vector` and `control`, which outlive the call.
        let result = unsafe {
            libc::sendmsg(
                socket.as_fd().as_raw_fd(),
                &raw const header,
                libc::MSG_NOSIGNAL,
            )
        };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one datagram into `buffer`: its length (0 when the other side is gone) and the descriptor that came with
/// it, close-on-exec.
///
/// # Errors
/// Those of recvmsg(2); EAGAIN on a non-blocking socket.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    receive_all::<1>(socket, buffer).map(|(length, [passed])| (length, passed))
}

/// The same with up to `N` descriptors (at most [`PASSED_MAX`]), in the order in which they were sent.
///
/// # Errors
/// As [`receive`].
pub fn receive_all<const N: usize>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, [Option<OwnedFd>; N]), Errno> {
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 160]);
    // SAFETY: all-zero is a valid `msghdr` (null pointers, zero lengths).
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    // Not CMSG_SPACE: its padding may be room for one more descriptor, which would stay open without an owner.
    // SAFETY: pure arithmetic on a length.
    header.msg_controllen = unsafe { libc::CMSG_LEN(rights_length(N)) } as _;
    let length = loop {
        // SAFETY: `header` points to `vector` and `control`, which outlive the call.
        let result = unsafe {
            libc::recvmsg(
                socket.as_fd().as_raw_fd(),
                &raw mut header,
                libc::MSG_CMSG_CLOEXEC,
            )
        };
        match Errno::result(result) {
            Err(Errno::EINTR) => {}
            other => break other?.cast_unsigned(),
        }
    };
    let mut passed = [const { None }; N];
    // SAFETY: the kernel has set the control length to what it filled in.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if first.is_null() {
        return Ok((length, passed));
    }
    // SAFETY: a non-null first header points to a whole header within `control`.
    let message = unsafe { first.read() };
    if message.cmsg_level != libc::SOL_SOCKET || message.cmsg_type != libc::SCM_RIGHTS {
        return Ok((length, passed));
    }
    // SAFETY: pure arithmetic on a length.
    let head = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = (message.cmsg_len as usize).saturating_sub(head) / size_of::<RawFd>();
    // SAFETY: the data of the first message lies within `control`.
    let mut data = unsafe { libc::CMSG_DATA(first) }.cast::<RawFd>();
    for slot in passed.iter_mut().take(count) {
        // SAFETY: with SCM_RIGHTS, `count` descriptors follow the header; they need not be aligned.
        let raw = unsafe { data.read_unaligned() };
        // SAFETY: the kernel has just installed this descriptor for us.
        *slot = Some(unsafe { OwnedFd::from_raw_fd(raw) });
        // SAFETY: at most `count` steps, so at most one past the last descriptor in `control`.
        data = unsafe { data.add(1) };
    }
    Ok((length, passed))
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, PipeReader, pipe};
    use std::os::fd::AsRawFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
    };

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    /// Whether nobody has the other end. Another test may hold a copy for a moment, between its fork and its exec.
    fn is_hung_up(reader: &PipeReader) -> bool {
        let mut set = [PollFd::new(reader.as_fd(), PollFlags::empty())];
        poll(&mut set, PollTimeout::from(5_000_u16)) == Ok(1)
    }

    #[test]
    fn a_descriptor_arrives_and_is_closed_on_exec() {
        let (ours, theirs) = pair();
        let (reader, writer) = pipe().unwrap();
        send(&theirs, b"word", Some(writer.as_raw_fd())).unwrap();
        drop(writer);
        let mut buffer = [0; 8];
        let (length, passed) = receive(&ours, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"word");
        let passed = passed.unwrap();
        let flags = nix::fcntl::fcntl(&passed, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        drop(passed);
        assert!(is_hung_up(&reader));
    }

    #[test]
    fn of_several_descriptors_only_the_first_is_let_in() {
        let (ours, theirs) = pair();
        let (first, one) = pipe().unwrap();
        let (second, two) = pipe().unwrap();
        let both = [one.as_raw_fd(), two.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&both)];
        let word = [IoSlice::new(b"word")];
        sendmsg::<()>(theirs.as_raw_fd(), &word, &rights, MsgFlags::empty(), None).unwrap();
        drop((one, two));
        let (_, passed) = receive(&ours, &mut [0; 8]).unwrap();
        assert!(is_hung_up(&second), "the second has been left open in us");
        drop(passed.unwrap());
        assert!(is_hung_up(&first));
    }
}
