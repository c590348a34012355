//! `--resolv-conf`: the text that becomes /etc/resolv.conf inside. Reads only; the container's own process writes it.

use std::path::Path;

use shim::Result;

use crate::regular::Source;

/// What `--resolv-conf` without a file takes.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// More than a resolver reads (resolv.conf(5)): in bytes.
const LIMIT: u64 = 64 << 10;

/// The content of a file of the host, symlinks followed: systemd's stub is one.
///
/// # Errors
/// A file that is missing, no regular file, or larger than 64 KiB.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let source = Source {
        op: "read resolv.conf",
        name: path,
        limit: LIMIT,
    };
    let seen = source.look().map_err(|errno| {
        source
            .error()
            .errno(errno)
            .hint("--resolv-conf=FILE names another file")
    })?;
    source.read(source.open(&seen)?)
}
