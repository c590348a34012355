//! One descriptor over a socket: `sendmsg(2)` and `recvmsg(2)` with SCM_RIGHTS. Nothing here allocates.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Room for one control message with one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The length of one descriptor.
const RIGHTS_LENGTH: libc::c_uint = 4;

/// Sends `message` as one datagram, with `passed` attached if there is one. Never raises SIGPIPE.
///
/// # Errors
/// EPIPE or ECONNRESET when the other side is gone.
pub fn send(socket: impl AsFd, message: &[u8], passed: Option<RawFd>) -> Result<(), Errno> {
    let mut vector = libc::iovec {
        iov_base: message.as_ptr().cast_mut().cast(),
        iov_len: message.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: all-zero is a valid `msghdr` (null pointers, zero lengths).
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if let Some(raw) = passed {
        header.msg_control = (&raw mut control).cast();
        // SAFETY: pure arithmetic on a length.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(RIGHTS_LENGTH) } as _;
        // SAFETY: `header` has a control buffer with room for one message.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: pure arithmetic on a length.
        let length = unsafe { libc::CMSG_LEN(RIGHTS_LENGTH) };
        let rights = libc::cmsghdr {
            cmsg_len: length as _,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        };
        // SAFETY: `first` points into `control`, which is aligned and large enough for the header.
        unsafe { first.write(rights) };
        // SAFETY: the data of the first message lies within `control`.
        let data = unsafe { libc::CMSG_DATA(first) };
        // SAFETY: there is room for one descriptor behind the header; it need not be aligned.
        unsafe { data.cast::<RawFd>().write_unaligned(raw) };
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
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: all-zero is a valid `msghdr` (null pointers, zero lengths).
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    // Not CMSG_SPACE: its padding is room for a second descriptor, which would stay open without an owner.
    // SAFETY: pure arithmetic on a length.
    header.msg_controllen = unsafe { libc::CMSG_LEN(RIGHTS_LENGTH) } as _;
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
    // SAFETY: the kernel has set the control length to what it filled in.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if first.is_null() {
        return Ok((length, None));
    }
    // SAFETY: a non-null first header points to a whole header within `control`.
    let message = unsafe { first.read() };
    if message.cmsg_level != libc::SOL_SOCKET || message.cmsg_type != libc::SCM_RIGHTS {
        return Ok((length, None));
    }
    // SAFETY: the data of the first message lies within `control`.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: with SCM_RIGHTS and room for just one, one descriptor follows the header.
    let raw = unsafe { data.cast::<RawFd>().read_unaligned() };
    // SAFETY: the kernel has just installed this descriptor for us.
    Ok((length, Some(unsafe { OwnedFd::from_raw_fd(raw) })))
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
