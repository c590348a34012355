//! Names that become file names: image ids and guids. A value of these types is safe to join to a directory of ours.
//!
//! Grammar: a letter, digit, `_` or `+`, then up to 199 more of these or `.` or `-`, all ASCII. So a name is never an
//! option, never hidden, never `.` or `..`, and holds no `/`, NUL, newline or space. 200 characters leave room for what
//! the store appends (`.squashfs`, `.ID.xxxxxxxx.tmp`) within the 255 bytes of a file name (NAME_MAX).

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shim::Error;

use crate::suggest::shown;

/// Longest id, in bytes; all of them are ASCII.
pub const MAX_LENGTH: usize = 200;

/// File name endings that the image store gives its own files beside `images/ID/`: an image called `a.env` would be
/// the environment of the image called `a`.
const STORE_SUFFIXES: [&str; 7] = [
    ".squashfs",
    ".erofs",
    ".image",
    ".env",
    ".json",
    ".verity",
    ".tmp",
];

const HINT: &str =
    "an id is 1 to 200 of the characters A-Z a-z 0-9 _ + . - and does not begin with . or -";

fn check<'a>(what: &'static str, text: &'a OsStr) -> shim::Result<&'a str> {
    let refuse = |why: &'static str| Err(Error::new(what).on(shown(text)).because(why).hint(HINT));
    let Some(name) = text.to_str() else {
        return refuse("not UTF-8");
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+');
    match name.as_bytes() {
        [] => refuse("empty"),
        [b'-', ..] => refuse("begins with a dash"),
        [b'.', ..] => refuse("begins with a dot"),
        bytes if bytes.len() > MAX_LENGTH => refuse("too long"),
        bytes if !bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) => {
            refuse("a character that is not allowed")
        }
        _ => Ok(name),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $suffixes:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it stands, if it is in the grammar.
            ///
            /// # Errors
            /// Names the text, the rule that it breaks, and the grammar.
            pub fn new(text: impl AsRef<OsStr>) -> shim::Result<Self> {
                let text = text.as_ref();
                let name = check($what, text)?;
                let suffixes: &[&str] = $suffixes;
                if let Some(suffix) = suffixes.iter().find(|suffix| name.ends_with(**suffix)) {
                    return Err(Error::new($what)
                        .on(shown(text))
                        .because(format!("ends in {suffix}"))
                        .hint("the image store uses this ending for its own files; choose another id"));
                }
                Ok(Self(name.to_owned()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<Path> for $name {
            fn as_ref(&self) -> &Path {
                Path::new(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> shim::Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> shim::Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name_type! {
    /// The id of an image: the name of `BASE/images/ID`.
    ///
    /// It may not end in `.squashfs`, `.erofs`, `.image`, `.env`, `.json`, `.verity` or `.tmp`, which are the store's own.
    ImageId, "use image id", &STORE_SUFFIXES
}

name_type! {
    /// The id of a root filesystem that create-fs made: the name of `BASE/subcontainers/GUID`.
    Guid, "use guid", &[]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn good_names_stay_as_they_are() {
        let longest = "x".repeat(MAX_LENGTH);
        for name in [
            "a",
            "main",
            "_",
            "+",
            "0",
            "nginx-1.27",
            "a..b",
            "A+b_c.d-",
            "x.env2",
            &longest,
        ] {
            assert_eq!(ImageId::new(name).unwrap().as_str(), name);
            assert_eq!(Guid::new(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn bad_names_are_refused_with_the_grammar() {
        let too_long = "x".repeat(MAX_LENGTH + 1);
        let much_too_long = "x".repeat(1025);
        for bad in [
            "",
            ".",
            "..",
            "...",
            ".hidden",
            "/",
            "a/b",
            "../x",
            "/etc",
            "-",
            "-rf",
            "--help",
            "a\0b",
            "a\nb",
            "a\n",
            " ",
            "a b",
            "a:b",
            "a\\b",
            "a%b",
            "a@b",
            "\u{e4}",
            "a\u{202e}b",
            &too_long,
            &much_too_long,
        ] {
            for error in [ImageId::new(bad).unwrap_err(), Guid::new(bad).unwrap_err()] {
                assert_eq!(error.exit_status(), 125);
                let text = error.to_string();
                assert!(text.contains("hint: an id is 1 to 200"), "{bad:?}: {text}");
                assert_eq!(text.lines().count(), 2, "{bad:?}: {text}");
                assert!(text.len() < 400, "{bad:?}: {text}");
            }
        }
        assert!(ImageId::new(OsStr::from_bytes(b"a\xff")).is_err());
    }

    #[test]
    fn every_byte_is_decided_in_both_places() {
        for byte in 0..=255_u8 {
            let word = byte.is_ascii_alphanumeric() || b"_+".contains(&byte);
            assert_eq!(
                Guid::new(OsStr::from_bytes(&[byte])).is_ok(),
                word,
                "{byte}"
            );
            let later = word || b".-".contains(&byte);
            assert_eq!(
                Guid::new(OsStr::from_bytes(&[b'a', byte])).is_ok(),
                later,
                "{byte}"
            );
        }
    }

    #[test]
    fn an_image_cannot_take_the_name_of_another_ones_file() {
        for bad in [
            "main.env",
            "main.json",
            "main.squashfs",
            "main.erofs",
            "main.image",
            "main.verity",
            "main.tmp",
        ] {
            let text = ImageId::new(bad).unwrap_err().to_string();
            assert!(text.contains("choose another id"), "{text}");
            assert!(Guid::new(bad).is_ok());
        }
    }

    #[test]
    fn a_record_on_disk_is_checked_like_an_argument() {
        assert_eq!(
            serde_json::to_string(&Guid::new("g1").unwrap()).unwrap(),
            "\"g1\""
        );
        assert_eq!(
            serde_json::from_str::<Guid>("\"g1\"").unwrap().as_str(),
            "g1"
        );
        assert!(serde_json::from_str::<Guid>("\"../g1\"").is_err());
    }
}
