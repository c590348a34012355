//! What the configuration says about registries, the table `[pull]`: how they are reached and whom they are shown to be.

use std::path::PathBuf;
use std::time::Duration;

use crate::suggest::{Wrong, shown};

/// Keys of the table.
pub(super) const KEYS: [&str; 5] = ["authfile", "ca_cert", "plain_http", "proxy", "timeout"];
/// The longest that a registry may be silent, in seconds: a day.
pub(crate) const TIMEOUT_MAX: u32 = 86_400;

/// What holds for every pull. Flags of a call come over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pull {
    /// `authfile`: credentials come from this file alone; absolute.
    pub authfile: Option<PathBuf>,
    /// `ca_cert`: certificates to trust besides the machine's; absolute.
    pub ca_cert: Option<PathBuf>,
    /// `plain_http`: registries, `HOST` or `HOST:PORT`, that are talked to without TLS.
    pub plain_http: Vec<String>,
    /// `proxy`: an http or https URL.
    pub proxy: Option<String>,
    /// `timeout`: how long a registry may be silent.
    pub timeout: Option<Duration>,
}

/// The URL of a proxy: `http://HOST:PORT` or `https://HOST:PORT`. It may have a password in it and is not repeated.
pub(crate) fn proxy(text: &str) -> Result<String, Wrong> {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let plain = |host: &&str| !host.is_empty() && !host.contains(|c: char| !c.is_ascii_graphic());
    match host.filter(plain) {
        Some(_) => Ok(text.to_owned()),
        None => Err(Wrong::new(
            "is no URL of an HTTP proxy",
            "give http://HOST:PORT or https://HOST:PORT",
        )),
    }
}

/// How long a registry may be silent, in seconds.
pub(crate) fn timeout(seconds: Option<u32>) -> Result<Duration, Wrong> {
    match seconds {
        Some(seconds @ 1..=TIMEOUT_MAX) => Ok(Duration::from_secs(seconds.into())),
        _ => Err(Wrong::new(
            "is no number of seconds",
            format!("give a whole number from 1 to {TIMEOUT_MAX}"),
        )),
    }
}

/// `HOST` or `HOST:PORT`, as it stands in references.
pub(super) fn registry(text: &str) -> Result<String, Wrong> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if !text.is_empty() && text.chars().all(part) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("is wrong: {} is no registry", shown(text.as_ref())),
        "give HOST or HOST:PORT, as references name it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_have_a_url() {
        for good in ["http://proxy.lan:3128", "https://user:word@proxy.lan/"] {
            assert_eq!(proxy(good).unwrap(), good);
        }
        for bad in ["", "proxy.lan:3128", "http://", "socks5://x", "http://a b"] {
            assert!(proxy(bad).is_err(), "{bad}");
        }
    }
}
