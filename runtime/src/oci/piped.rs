//! A file with JSON that comes through a pipe: `exec --process <(…)` of a shell, or /dev/stdin. Its writer may never come or
//! never end, so it is waited for with a deadline.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use shim::Result;
use shim::rootdir::fd_path;

use crate::regular::Source;

/// How long a writer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// All that is written to it; nothing where this is no pipe.
///
/// # Errors
/// There is no such file; more bytes than the limit; the writer has not ended in time.
pub(super) fn read(source: &Source<'_>) -> Result<Option<Vec<u8>>> {
    read_until(source, Instant::now() + DEADLINE)
}

fn read_until(source: &Source<'_>, deadline: Instant) -> Result<Option<Vec<u8>>> {
    let failed = |errno: Errno| source.error().errno(errno).hint("see --process");
    let seen = source.look().map_err(failed)?;
    let kind = SFlag::from_bits_truncate(fstat(&seen).map_err(failed)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFIFO {
        return Ok(None);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let path = fd_path(seen.as_fd());
    let mut file = File::from(open(path.as_c_str(), flags, Mode::empty()).map_err(failed)?);
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let left = source.limit.saturating_add(1).saturating_sub(before as u64);
        match file.by_ref().take(left).read_to_end(&mut bytes) {
            // A named pipe ends before its first writer has come, too.
            Ok(_) if !bytes.is_empty() => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(source.read_failed(&error)),
        }
        wait(source, &file, deadline)?;
    }
    if bytes.len() as u64 > source.limit {
        return Err(source.too_large());
    }
    Ok(Some(bytes))
}

fn wait(source: &Source<'_>, file: &File, deadline: Instant) -> Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) => Err(source
            .error()
            .because(format!("its writer has not ended after {DEADLINE:?}"))
            .hint("somebody must write it and close the pipe")),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(source.error().errno(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_read_and_what_never_comes_is_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("piped-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let source = |limit| Source {
            op: "read",
            name: &path,
            limit,
        };
        let writes = |text: &'static str| {
            let path = path.clone();
            std::thread::spawn(move || std::fs::write(path, text).unwrap())
        };
        let writer = writes("{ }");
        assert_eq!(read(&source(3)).unwrap(), Some(b"{ }".to_vec()));
        writer.join().unwrap();
        let writer = writes("{  }");
        let error = read(&source(3)).unwrap_err();
        assert!(error.to_string().contains("larger than 3"), "{error}");
        writer.join().unwrap();
        let error = read_until(&source(3), Instant::now()).unwrap_err();
        assert!(error.to_string().contains("writer"), "{error}");
        let file = dir.join("file");
        std::fs::write(&file, "").unwrap();
        let regular = Source {
            name: &file,
            ..source(3)
        };
        assert_eq!(read(&regular).unwrap(), None);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
