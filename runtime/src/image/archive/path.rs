//! Decides what a member's name means below the root of the image, before anything is opened.
//!
//! The result has no empty, `.` or `..` component, so that the only thing left that could lead elsewhere is a symbolic
//! link, and those are the kernel's to resolve (see `unpack::tree`).

use std::borrow::Cow;

/// A member's place: the directory it is in and its name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) enum Place {
    /// The root of the image itself.
    Root,
    /// Something below it.
    Below {
        /// The directory, relative to the root, components joined by single slashes; empty for the root.
        parent: Vec<u8>,
        /// The last component.
        name: Vec<u8>,
    },
}

impl Place {
    /// Reads a member's name the way tar(1) does: leading slashes are dropped, `.` components mean nothing.
    ///
    /// Names that tar refuses are refused: one with a `..` component, an empty one, one with a NUL byte (which the
    /// kernel would cut there, and another reader would not).
    pub(in crate::image) fn parse(name: &[u8]) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("the name is empty");
        }
        if name.contains(&0) {
            return Err("the name contains a NUL byte");
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err("the name contains \"..\""),
                _ => parts.push(part),
            }
        }
        Ok(match parts.pop() {
            None => Self::Root,
            Some(last) => Self::Below {
                parent: parts.join(&b'/'),
                name: last.to_vec(),
            },
        })
    }

    /// The whole name again, `.` for the root.
    pub(in crate::image) fn whole(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Root => Cow::Borrowed(b"."),
            Self::Below { parent, name } if parent.is_empty() => Cow::Borrowed(name),
            Self::Below { parent, name } => Cow::Owned([parent, &b"/"[..], name].concat()),
        }
    }
}

/// Bytes of a name for a message; what is not UTF-8 is shown as U+FFFD, what is very long is cut in the middle.
pub(in crate::image) fn show(name: &[u8]) -> Cow<'_, str> {
    const SHOWN: usize = 100;
    if name.len() <= 3 * SHOWN {
        return String::from_utf8_lossy(name);
    }
    let (head, tail) = (&name[..SHOWN], &name[name.len() - SHOWN..]);
    let cut = name.len() - 2 * SHOWN;
    format!(
        "{}[{cut} bytes]{}",
        String::from_utf8_lossy(head),
        String::from_utf8_lossy(tail)
    )
    .into()
}

/// What a name means in a layer (image-spec layer.md, "Representing Changes").
#[derive(Debug, PartialEq, Eq)]
pub(in crate::image) enum Mark<'a> {
    /// An ordinary member.
    None,
    /// Hides this name of the lower layers.
    Whiteout(&'a [u8]),
    /// Hides all that the lower layers have in this directory.
    Opaque,
    /// Bookkeeping of the aufs driver, which means nothing elsewhere.
    Aufs,
}

/// Reads the marker that a place in a layer carries, if any.
pub(in crate::image) fn mark(place: &Place) -> Result<Mark<'_>, &'static str> {
    let Place::Below { parent, name } = place else {
        return Ok(Mark::None);
    };
    for part in parent.split(|byte| *byte == b'/') {
        if part.starts_with(b".wh..wh.") {
            return Ok(Mark::Aufs);
        }
        if part.starts_with(b".wh.") {
            return Err("a whiteout is used as a directory");
        }
    }
    match name.strip_prefix(b".wh.") {
        None => Ok(Mark::None),
        Some(b".wh..opq") => Ok(Mark::Opaque),
        Some(hidden) if hidden.starts_with(b".wh.") => Ok(Mark::Aufs),
        Some(b"" | b"." | b"..") => Err("a whiteout names nothing"),
        Some(hidden) => Ok(Mark::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(parent: &[u8], name: &[u8]) -> Place {
        Place::Below {
            parent: parent.to_vec(),
            name: name.to_vec(),
        }
    }

    #[test]
    fn names_are_read_as_tar_reads_them() {
        let table: [(&[u8], Place); 9] = [
            (b".", Place::Root),
            (b"./", Place::Root),
            (b"/", Place::Root),
            (b"a", below(b"", b"a")),
            (b"/a", below(b"", b"a")),
            (b"//a//b/", below(b"a", b"b")),
            (b"./a/./b/c", below(b"a/b", b"c")),
            (b"...", below(b"", b"...")),
            (b"a\n/\xff", below(b"a\n", b"\xff")),
        ];
        for (name, place) in table {
            assert_eq!(Place::parse(name).as_ref(), Ok(&place), "{}", show(name));
        }
        assert_eq!(&*below(b"a/b", b"c").whole(), b"a/b/c");
        assert_eq!(&*Place::Root.whole(), b".");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            &b""[..],
            b"..",
            b"../a",
            b"a/..",
            b"a/../b",
            b"/..",
            b"a\0b",
        ] {
            assert!(Place::parse(name).is_err(), "{}", show(name));
        }
    }

    #[test]
    fn whiteouts() {
        assert_eq!(mark(&below(b"a", b".wh.x")), Ok(Mark::Whiteout(b"x")));
        assert_eq!(mark(&below(b"a", b".wh...x")), Ok(Mark::Whiteout(b"..x")));
        assert_eq!(mark(&below(b"a", b".wh..wh..opq")), Ok(Mark::Opaque));
        assert_eq!(mark(&below(b"", b".wh..wh.plnk")), Ok(Mark::Aufs));
        assert_eq!(mark(&below(b".wh..wh.plnk", b"1.2")), Ok(Mark::Aufs));
        assert_eq!(mark(&below(b"a", b".whx")), Ok(Mark::None));
        assert_eq!(mark(&Place::Root), Ok(Mark::None));
        for name in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(mark(&below(b"a", name)).is_err(), "{}", show(name));
        }
        assert!(mark(&below(b"a/.wh.b", b"c")).is_err());
    }
}
