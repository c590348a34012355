//! The grammar of `--user`: `USER[:GROUP]`, each a number or a name. Decides what is a number; looks nothing up.
//!
//! Refused, because some program somewhere reads it as another number, as root, or as a name by accident: an empty
//! part, two colons, a sign, a leading zero, hexadecimal, a number above 4294967294, space at either end, and any
//! control character. A name may begin with a digit (`3proxy`), and need not be UTF-8.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use shim::Error;

use crate::decimal;
use crate::suggest::shown;

/// A user or a group as the caller named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who<'a> {
    Id(u32),
    Name(&'a [u8]),
}

/// What `--user` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec<'a> {
    pub(super) user: Who<'a>,
    pub(super) group: Option<Who<'a>>,
}

impl<'a> Spec<'a> {
    pub(super) fn parse(text: &'a OsStr) -> shim::Result<Self> {
        let bytes = text.as_bytes();
        let (user, group) = match bytes.iter().position(|byte| *byte == b':') {
            None => (bytes, None),
            Some(colon) => {
                let (user, group) = bytes.split_at(colon);
                (user, group.get(1..))
            }
        };
        let who = |part| {
            who(part).map_err(|why| {
                Error::new("resolve user")
                    .on(shown(text))
                    .because(why)
                    .hint("give NAME, UID, NAME:GROUP or UID:GID; numbers are decimal, 0 to 4294967294")
            })
        };
        Ok(Self {
            user: who(user)?,
            group: group.map(who).transpose()?,
        })
    }
}

fn who(part: &[u8]) -> Result<Who<'_>, &'static str> {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte == b' ');
    match part {
        [] => return Err("the user or the group is empty"),
        [b'+' | b'-', ..] => return Err("a sign is part of neither a name nor a number"),
        [b'0', b'x' | b'X', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit) => {
            return Err("a hexadecimal number");
        }
        _ if part.contains(&b':') => return Err("more than one colon"),
        _ if part.iter().any(u8::is_ascii_control) => return Err("a control character"),
        _ if edge(part.first()) || edge(part.last()) => {
            return Err("a space at the end or the beginning");
        }
        _ => {}
    }
    if !part.iter().all(u8::is_ascii_digit) {
        return Ok(Who::Name(part));
    }
    match decimal::id(part) {
        Some(id) => Ok(Who::Id(id)),
        None if part.starts_with(b"0") => Err("a number with a leading zero"),
        None => Err("a number above 4294967294"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Who::{Id, Name};

    #[test]
    fn every_form() {
        let spec = |text: &'static str| Spec::parse(OsStr::new(text)).unwrap();
        for (text, user, group) in [
            ("root", Name(b"root"), None),
            ("0", Id(0), None),
            ("1001", Id(1001), None),
            ("4294967294", Id(4_294_967_294), None),
            ("2147483648", Id(2_147_483_648), None),
            ("a:b", Name(b"a"), Some(Name(b"b"))),
            ("a:1", Name(b"a"), Some(Id(1))),
            ("1:b", Id(1), Some(Name(b"b"))),
            ("1000:1001", Id(1000), Some(Id(1001))),
            ("3proxy", Name(b"3proxy"), None),
            ("0day", Name(b"0day"), None),
            ("a b", Name(b"a b"), None),
            ("www-data", Name(b"www-data"), None),
            ("\u{e4}", Name("\u{e4}".as_bytes()), None),
        ] {
            assert_eq!(spec(text), Spec { user, group }, "{text:?}");
        }
        let latin = OsStr::from_bytes(b"j\xfcrgen");
        assert_eq!(Spec::parse(latin).unwrap().user, Name(b"j\xfcrgen"));
    }

    #[test]
    fn every_malformed_part_is_refused_on_either_side() {
        for part in [
            "",
            "01",
            "00",
            "0x1",
            "0X1F",
            "0x",
            "-1",
            "+1",
            "-root",
            "1 ",
            " 1",
            " root",
            "root ",
            "1\n",
            "root\n",
            "a\tb",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "a\0b",
        ] {
            for text in [part.to_owned(), format!("{part}:1"), format!("1:{part}")] {
                let error = Spec::parse(OsStr::new(&text)).unwrap_err();
                assert_eq!(error.exit_status(), 125);
                let message = error.to_string();
                assert!(
                    message.contains("hint: give NAME, UID"),
                    "{text:?}: {message}"
                );
                assert_eq!(message.lines().count(), 2, "{text:?}: {message}");
            }
        }
        for text in ["1:2:3", "a:b:", ":", "::", "a::b"] {
            assert!(Spec::parse(OsStr::new(text)).is_err(), "{text:?}");
        }
    }
}
