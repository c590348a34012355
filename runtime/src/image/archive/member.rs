//! One member's header: what it says about a file, as numbers that Linux knows; and how a bad archive is reported.

use std::borrow::Cow;

use shim::Error;
use tar::Header;

use super::pax::{self, Records};
use super::sparse::Extent;
use crate::image::stream::Undecodable;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Kind {
    /// A regular file, with data.
    File,
    /// Another name of an earlier member.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One member's header, as the archive says it.
#[derive(Debug, Clone)]
pub(in crate::image) struct Member {
    pub(in crate::image) name: Vec<u8>,
    pub(in crate::image) kind: Kind,
    pub(in crate::image) link: Vec<u8>,
    pub(in crate::image) mode: u32,
    pub(in crate::image) uid: u32,
    pub(in crate::image) gid: u32,
    /// Seconds since the epoch and nanoseconds.
    pub(in crate::image) mtime: (i64, i64),
    /// Major and minor number of a device.
    pub(in crate::image) device: (u32, u32),
    pub(in crate::image) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file's size in bytes, holes included.
    pub(in crate::image) size: u64,
    /// Where the stored data goes, for a file with holes.
    pub(in crate::image) extents: Option<Vec<Extent>>,
    /// Where its data begins, from the start of the stream.
    pub(in crate::image) offset: u64,
}

impl Member {
    /// Reads all of a member but its size and where its data is. Records take precedence over the header's fields.
    pub(super) fn new(
        kind: Kind,
        name: Vec<u8>,
        link: Vec<u8>,
        header: &Header,
        records: &Records,
    ) -> Result<Self, String> {
        let fields = header.as_old();
        let number = |what: &str, key: &str, field: &[u8]| {
            let value = match records.get(key) {
                Some(text) => pax::decimal(text).and_then(|value| i64::try_from(value).ok()),
                None => pax::field(field),
            };
            let value = value.and_then(|value| u32::try_from(value).ok());
            value.ok_or_else(|| format!("a member's {what} is no number that Linux knows"))
        };
        let mtime = match records.get("mtime") {
            Some(text) => pax::time(text),
            None => pax::field(&fields.mtime).map(|seconds| (seconds, 0)),
        };
        let device = match (kind, header.as_ustar(), header.as_gnu()) {
            (Kind::Char | Kind::Block, Some(ustar), _) => (
                number("device", "", &ustar.dev_major)?,
                number("device", "", &ustar.dev_minor)?,
            ),
            (Kind::Char | Kind::Block, None, Some(gnu)) => (
                number("device", "", &gnu.dev_major)?,
                number("device", "", &gnu.dev_minor)?,
            ),
            (Kind::Char | Kind::Block, None, None) => return Err("a device has no number".into()),
            _ => (0, 0),
        };
        Ok(Self {
            name,
            kind,
            link,
            mode: number("mode", "", &fields.mode)? & 0o7777,
            uid: number("owner", "uid", &fields.uid)?,
            gid: number("group", "gid", &fields.gid)?,
            mtime: mtime.ok_or("a member's time is no number")?,
            device,
            xattrs: records.xattrs(),
            size: 0,
            extents: None,
            offset: 0,
        })
    }
}

/// The error for an archive that cannot be what its maker meant.
pub(in crate::image) fn corrupt(label: &str, why: impl Into<Cow<'static, str>>) -> Error {
    Error::new("read archive")
        .on(label)
        .because(why)
        .hint("the archive is damaged or was not made by tar; fetch or make it again")
}

/// The error for a stream that could not be read; decoders report damage without an errno.
pub(in crate::image) fn read_failed(label: &str, error: &std::io::Error) -> Error {
    let why = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Undecodable>());
    let Some(why) = why else {
        return Error::io("read archive", label, error)
            .hint("check the file's permissions and the disk it is on");
    };
    corrupt(label, why.to_string()).hint(match why {
        Undecodable::Truncated(_) => "it is truncated; fetch it again",
        Undecodable::Damaged(..) => "fetch or make it again",
        Undecodable::Window(..) => {
            "allow more with --max-window=SIZE, or compress it with a smaller one (xz -8, zstd without --long)"
        }
        Undecodable::Ratio(..) => {
            "so small an archive of so much is rarely meant well; if it is, allow it with --max-ratio=N"
        }
    })
}

/// Whether a block's checksum is that of a tar header: the sum of its bytes, with the checksum itself counted as blanks.
pub(in crate::image) fn checksum_holds(block: &[u8; 512]) -> bool {
    let sum: i64 = block
        .iter()
        .enumerate()
        .map(|(i, byte)| {
            if (148..156).contains(&i) {
                32
            } else {
                i64::from(*byte)
            }
        })
        .sum();
    pax::field(&block[148..156]) == Some(sum)
}
