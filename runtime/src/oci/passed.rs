//! Descriptors of the caller's that a process gets besides its streams: those of socket activation (sd_listen_fds(3)), and
//! behind them as many as `--preserve-fds` says. Only what the caller has left open for us is passed on, by its own number.

use std::env;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt as _;

use shim::stdio::Preserved;
use shim::sys::process::is_inherited;
use shim::{Error, Result};

/// The first that is none of the streams.
const FIRST: RawFd = 3;
/// More of them are nobody's wish.
pub(super) const MOST: u32 = 1024;

/// What is passed on.
#[derive(Debug, Default)]
pub(super) struct Passed {
    preserved: Vec<RawFd>,
    /// How many of them are of socket activation, and what these are called.
    listening: Option<(u32, Option<CString>)>,
}

impl Passed {
    /// Looks at the caller's; `more` is what `--preserve-fds` says.
    ///
    /// # Errors
    /// LISTEN_FDS is no number.
    pub(super) fn find(more: u32, warnings: &mut Vec<String>) -> Result<Self> {
        let listening = listening()?;
        let count = listening.as_ref().map_or(0, |(count, _)| *count);
        let wanted = |count: u32| FIRST..FIRST.saturating_add_unsigned(count);
        if let Some(missing) = wanted(count).find(|&fd| !is_inherited(fd)) {
            warnings.push(format!(
                "LISTEN_FDS counts descriptor {missing}, which is not open"
            ));
        }
        let preserved = wanted(count + more)
            .filter(|&fd| is_inherited(fd))
            .collect();
        Ok(Self {
            preserved,
            listening,
        })
    }

    /// The descriptors, for a process with this environment, which is told of those that are listened at. One that speaks of
    /// such descriptors itself has them from an engine.
    pub(super) fn tell(&self, environment: &mut Vec<CString>) -> Preserved {
        let names = |name: &[u8]| {
            environment
                .iter()
                .any(|line| line.as_bytes().starts_with(name))
        };
        let told = self.listening.as_ref().filter(|_| !names(b"LISTEN_FDS="));
        if let Some((count, called)) = told {
            environment.retain(|line| {
                !["LISTEN_PID=", "LISTEN_FDNAMES="]
                    .iter()
                    .any(|name| line.as_bytes().starts_with(name.as_bytes()))
            });
            let line = |name: &str, value: &[u8]| CString::new([name.as_bytes(), value].concat());
            environment.extend(line("LISTEN_FDS=", count.to_string().as_bytes()));
            // Room for the number that the process will have.
            environment.extend(line("LISTEN_PID=", &[b'0'; 10]));
            if let Some(called) = called {
                environment.extend(line("LISTEN_FDNAMES=", called.as_bytes()));
            }
        }
        Preserved {
            descriptors: self.preserved.clone(),
            tells_pid: told.is_some(),
        }
    }
}

/// What the caller says of socket activation, if that is for us: LISTEN_PID is ours, or nobody's.
fn listening() -> Result<Option<(u32, Option<CString>)>> {
    let Some(count) = env::var_os("LISTEN_FDS") else {
        return Ok(None);
    };
    let own = std::process::id().to_string();
    if env::var_os("LISTEN_PID").is_some_and(|pid| pid != *own) {
        return Ok(None);
    }
    let number = count.to_str().and_then(|text| text.parse().ok());
    let number = number.filter(|&number| number <= MOST).ok_or_else(|| {
        Error::new("read variable")
            .on("LISTEN_FDS")
            .because(format!("{} is no number of descriptors", count.display()))
            .hint(format!("it is one up to {MOST}; see sd_listen_fds(3)"))
    })?;
    let called = env::var_os("LISTEN_FDNAMES");
    let called = called.and_then(|names| CString::new(names.into_vec()).ok());
    Ok((number > 0).then_some((number, called)))
}
