//! `events`: what a container uses, and that it has run out of memory; one JSON object a line.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::Value;
use shim::{Error, Result};

use super::state::Container;
use crate::cgroup::OutOfMemory;

/// A line. Some who read it look at its beginning, so the order is runc's.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// Prints what is used: once, or again and again until the container has ended, and then also each time that memory has
/// run out.
///
/// # Errors
/// It is not running, or has no cgroups.
pub(super) fn events(container: &Container, once: bool, interval: Duration) -> Result<()> {
    let (init, record) = container.running("watch container")?;
    let group = record.group().ok_or_else(|| {
        Error::new("watch container")
            .on(&container.id)
            .because("it has no cgroups")
            .hint("it was made with --cgroup-manager=disabled, or on a host that has none")
    })?;
    let event = |kind, data| Event {
        kind,
        id: container.id.as_str(),
        data,
    };
    let stats = || event("stats", Some(group.stats()));
    if once {
        return say(&stats()).map(drop);
    }
    let mut watch = OutOfMemory::watch(&group)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut set = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        let memory = watch.as_ref().map(|watch| watch.as_fd());
        set.extend(memory.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut set, timeout) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::sys("watch container", &container.id, errno)),
            Ok(_) => {}
        }
        let ready = |entry: &PollFd<'_>| entry.any().unwrap_or(false);
        let (ended, told) = (
            set.first().is_some_and(ready),
            set.get(1).is_some_and(ready),
        );
        // What it has died of comes before its end.
        let ran_out = told
            && watch
                .as_mut()
                .is_some_and(|watch| watch.has_happened(&group));
        if ran_out && !say(&event("oom", None))? || ended {
            return Ok(());
        }
        if next <= Instant::now() {
            if !say(&stats())? {
                return Ok(());
            }
            next = Instant::now() + interval;
        }
    }
}

/// Prints a line at once; false where nobody reads any more.
fn say(event: &Event<'_>) -> Result<bool> {
    let mut out = io::stdout().lock();
    match serde_json::to_vec(event)
        .map_err(io::Error::from)
        .and_then(|line| out.write_all(&[&line, b"\n".as_slice()].concat()))
        .and_then(|()| out.flush())
    {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::io("write to", "standard output", &error)),
    }
}

/// `5s`, `500ms`, `1m`: how Go writes it, with one unit.
pub(super) fn interval(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let time = match text.strip_prefix(digits)? {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_unit() {
        assert_eq!(interval("5s"), Some(Duration::from_secs(5)));
        assert_eq!(interval("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(interval("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "5", "0s", "s", "-1s", "1h"] {
            assert_eq!(interval(bad), None, "{bad}");
        }
    }
}
