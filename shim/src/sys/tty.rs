//! Terminal ioctls that nix has no safe wrapper for (ioctl_tty(2)).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::pty::Winsize;

use super::check_fd;

/// The size of a terminal in characters and pixels.
///
/// # Errors
/// ENOTTY where the descriptor is no terminal.
pub fn size(tty: impl AsFd) -> Result<Winsize, Errno> {
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ fills in one `struct winsize`.
    Errno::result(unsafe {
        libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size)
    })?;
    Ok(size)
}

/// Sets the size of a terminal; the kernel sends SIGWINCH to its foreground process group.
///
/// # Errors
/// ENOTTY where the descriptor is no terminal.
pub fn set_size(tty: impl AsFd, size: &Winsize) -> Result<(), Errno> {
    // SAFETY: TIOCSWINSZ reads one `struct winsize`.
    Errno::result(unsafe {
        libc::ioctl(
            tty.as_fd().as_raw_fd(),
            libc::TIOCSWINSZ,
            std::ptr::from_ref(size),
        )
    })
    .map(drop)
}

/// Lets the other end of a pty be opened: it is locked when the pty is new (unlockpt(3)).
///
/// # Errors
/// ENOTTY where the descriptor is no pty master.
pub fn unlock(master: impl AsFd) -> Result<(), Errno> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    Errno::result(unsafe {
        libc::ioctl(
            master.as_fd().as_raw_fd(),
            libc::TIOCSPTLCK,
            &raw const locked,
        )
    })
    .map(drop)
}

/// Opens the other end of a pty by its master, without a path (TIOCGPTPEER, Linux 4.13); close-on-exec.
///
/// # Errors
/// ENOTTY where the descriptor is no pty master, EIO while it is locked.
pub fn open_peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor.
    let result = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check_fd(libc::c_long::from(result))
}
