//! Values of options: text in, typed value or one error out. Never repeats the value of `--env`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use shim::Error;
use shim::idmap::{self, IdMap};
use shim::mounts::Target;
use shim::plan::IdRange;

use super::args::{Format, IdmapRange, PtySize, Userns};
use crate::capabilities;
use crate::decimal::decimal;
use crate::environment;
use crate::image::{self, ProgressMode};
use crate::profile::{ProfileName, SeccompChoice};
use crate::suggest::{self, Wrong, shown};

/// The kernel's limit for one mapping (user_namespaces(7), since Linux 4.15).
const IDMAP_ENTRIES: usize = 340;

pub(super) fn bad(option: &'static str) -> Error {
    Error::new("read option").on(option)
}

/// A path, or another value that may be anything but empty.
pub(super) fn not_empty(option: &'static str, value: OsString) -> shim::Result<OsString> {
    if value.is_empty() {
        return Err(bad(option)
            .because("the value is empty")
            .hint("give a value, or leave the option out"));
    }
    Ok(value)
}

/// Like [`not_empty`], for paths.
pub(super) fn path(option: &'static str, value: OsString) -> shim::Result<PathBuf> {
    not_empty(option, value).map(PathBuf::from)
}

/// Text for people or for an archive's index: UTF-8 without control characters.
pub(super) fn text(option: &'static str, value: OsString) -> shim::Result<String> {
    let refuse = |why| Err(bad(option).because(why).hint("give printable UTF-8 text"));
    match value.into_string() {
        Ok(text) if text.chars().any(char::is_control) => refuse("contains a control character"),
        Ok(text) => Ok(text),
        Err(_) => refuse("not UTF-8"),
    }
}

/// Text that is taken apart further: UTF-8.
pub(super) fn utf8(option: &'static str, value: OsString) -> shim::Result<String> {
    value.into_string().map_err(|value| {
        bad(option)
            .because(format!("{} is not UTF-8", shown(&value)))
            .hint("give UTF-8 text; other paths can be had through a symlink")
    })
}

/// A mount's place inside.
pub(super) fn target(value: &OsStr) -> shim::Result<Target> {
    Target::outside_proc(value.as_ref()).map_err(|why| {
        Error::new("use mount target")
            .on(shown(value))
            .because(why)
            .hint("give an absolute path inside; not / and nothing in /proc")
    })
}

/// `NAME=VALUE`, at the first `=`.
pub(super) fn variable(value: OsString) -> shim::Result<(OsString, OsString)> {
    let mut name = value.into_vec();
    let Some(equals) = name.iter().position(|byte| *byte == b'=') else {
        // What stands there may be the secret itself: not repeated.
        return Err(bad("--env")
            .because("no \"=\" in it")
            .hint("give NAME=VALUE; NAME= is an empty value"));
    };
    let text = name.split_off(equals).split_off(1);
    let name = OsString::from_vec(name);
    environment::check_name(&name)?;
    if text.contains(&0) {
        return Err(bad("--env")
            .because(format!("the value of {} contains a NUL byte", shown(&name)))
            .hint("the kernel ends a variable at the first NUL byte; encode binary values"));
    }
    Ok((name, OsString::from_vec(text)))
}

/// `ROWS:COLS[:XPIXELS:YPIXELS]`
pub(super) fn pty_size(value: &OsStr) -> shim::Result<PtySize> {
    let fields: Option<Vec<u16>> = value
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|field| decimal(field).and_then(|number| u16::try_from(number).ok()))
        .take(5)
        .collect();
    let (rows, cols, xpixel, ypixel) = match fields.as_deref() {
        Some([rows, cols]) => (*rows, *cols, 0, 0),
        Some([rows, cols, xpixel, ypixel]) => (*rows, *cols, *xpixel, *ypixel),
        _ => {
            return Err(bad("--pty-size")
                .because(format!("\"{}\" is no terminal size", shown(value)))
                .hint("give ROWS:COLS or ROWS:COLS:XPIXELS:YPIXELS, each 0 to 65535"));
        }
    };
    Ok(PtySize {
        rows,
        cols,
        xpixel,
        ypixel,
    })
}

/// `FROM:TO[:RANGE]`, which must not overlap what was given before.
pub(super) fn idmap(value: &OsStr, earlier: &[IdmapRange]) -> shim::Result<IdmapRange> {
    let refuse = |why: String| {
        Err(bad("--idmap").because(why).hint(
            "give FROM:TO or FROM:TO:RANGE, ids from 0 to 4294967294; no id may be mapped twice",
        ))
    };
    let text = shown(value);
    let fields: Option<Vec<u32>> = value
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(decimal)
        .take(4)
        .collect();
    let (from, to, range) = match fields.as_deref() {
        Some([from, to]) => (*from, *to, 1),
        Some([_, _, 0]) => return refuse(format!("the range of {text} is zero")),
        Some([from, to, range]) => (*from, *to, *range),
        _ => return refuse(format!("\"{text}\" is no mapping")),
    };
    if from.checked_add(range).is_none() || to.checked_add(range).is_none() {
        return refuse(format!("{text} reaches beyond 4294967294"));
    }
    // Neither sum overflows: the new one is checked above, the earlier ones were.
    let overlap = |a: u32, a_range: u32, b: u32, b_range: u32| a < b + b_range && b < a + a_range;
    for other in earlier {
        if overlap(from, range, other.from, other.range) {
            return refuse(format!(
                "{text} maps ids on disk that an earlier --idmap maps"
            ));
        }
        if overlap(to, range, other.to, other.range) {
            return refuse(format!("{text} shows ids that an earlier --idmap shows"));
        }
    }
    if earlier.len() >= IDMAP_ENTRIES {
        return refuse(format!(
            "more than {IDMAP_ENTRIES} mappings, the kernel's limit"
        ));
    }
    Ok(IdmapRange { from, to, range })
}

/// A user namespace, for the command line.
pub(super) fn userns(value: &OsStr) -> shim::Result<Userns> {
    parse_userns(&value.to_string_lossy()).map_err(|wrong| wrong.at(bad("--userns")))
}

/// `host`, `identity`, `auto`, or `INSIDE:OUTSIDE:COUNT` and more of these after commas.
pub(crate) fn parse_userns(text: &str) -> Result<Userns, Wrong> {
    if text.contains(':') {
        return user_map(text).map(Userns::Map);
    }
    suggest::word(
        text,
        &[
            ("host", Userns::Host),
            ("identity", Userns::Identity),
            ("auto", Userns::Auto),
        ],
        "give host, identity, auto or INSIDE:OUTSIDE:COUNT[,...]",
    )
}

fn user_map(text: &str) -> Result<Vec<IdRange>, Wrong> {
    let line = |entry: &str| {
        let fields: Option<Vec<u32>> = entry.split(':').map(|f| decimal(f.as_bytes())).collect();
        match fields.as_deref() {
            Some([inside, outside, count]) => Ok(IdRange::new(*inside, *outside, *count)),
            _ => Err(Wrong::new(
                format!("\"{}\" is no line of a map", shown(entry.as_ref())),
                "give INSIDE:OUTSIDE:COUNT, numbers from 0 to 4294967295",
            )),
        }
    };
    let map: Vec<IdRange> = text.split(',').map(line).collect::<Result<_, _>>()?;
    idmap::check(&map.iter().copied().map(IdMap::from).collect::<Vec<_>>())
        .map_err(|error| Wrong::from(&error))?;
    if !map.iter().any(|line| line.inside == 0) {
        return Err(Wrong::new(
            "the map has no id 0",
            "a container needs a root: one line must begin with 0",
        ));
    }
    Ok(map)
}

/// `confined`, `outer`, `hardened` or `none`
pub(super) fn profile(value: &OsStr) -> shim::Result<ProfileName> {
    let profile = ProfileName::parse(&value.to_string_lossy());
    profile.map_err(|wrong| wrong.at(bad("--profile")))
}

/// Names of capabilities with commas between them.
pub(super) fn caps(option: &'static str, value: &OsStr) -> shim::Result<capabilities::List> {
    capabilities::List::parse(&value.to_string_lossy()).map_err(|wrong| wrong.at(bad(option)))
}

/// `default`, `unconfined`, or a path.
pub(super) fn seccomp(value: OsString) -> shim::Result<SeccompChoice> {
    SeccompChoice::parse(value).map_err(|wrong| wrong.at(bad("--seccomp")))
}

/// A number of bytes or of other things, above 0, or `none`.
pub(super) fn limit(option: &'static str, value: &OsStr) -> shim::Result<u64> {
    image::parse_limit(&value.to_string_lossy()).map_err(|wrong| wrong.at(bad(option)))
}

/// `auto`, `bar`, `json` or `none`
pub(super) fn progress(value: &OsStr) -> shim::Result<ProgressMode> {
    let words = [
        ("auto", ProgressMode::Auto),
        ("bar", ProgressMode::Bar),
        ("json", ProgressMode::Json),
        ("none", ProgressMode::None),
    ];
    let hint = "give auto, bar, json or none";
    suggest::word(&value.to_string_lossy(), &words, hint)
        .map_err(|wrong| wrong.at(bad("--progress")))
}

/// `text` or `json`
pub(super) fn format(value: &OsStr) -> shim::Result<Format> {
    let words = [("text", Format::Text), ("json", Format::Json)];
    suggest::word(&value.to_string_lossy(), &words, "give text or json")
        .map_err(|wrong| wrong.at(bad("--format")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let pair = |text: &[u8]| variable(OsStr::from_bytes(text).into());
        for (text, name, value) in [
            (&b"A=b"[..], &b"A"[..], &b"b"[..]),
            (b"A=", b"A", b""),
            (b"A==", b"A", b"="),
            (b"A=b=c\n", b"A", b"b=c\n"),
            (b"a b-\xff=\xfe", b"a b-\xff", b"\xfe"),
        ] {
            let (n, v) = pair(text).unwrap();
            assert_eq!((n.as_bytes(), v.as_bytes()), (name, value));
        }
        for text in [
            &b"hunter2"[..],
            b"=hunter2",
            b"",
            b"A=hunter2\0",
            b"A\0B=hunter2",
        ] {
            let error = pair(text).unwrap_err().to_string();
            assert!(
                error.contains("hint:") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn terminal_sizes() {
        let size = |rows, cols, xpixel, ypixel| PtySize {
            rows,
            cols,
            xpixel,
            ypixel,
        };
        for (text, expected) in [
            ("24:80", size(24, 80, 0, 0)),
            ("0:0", size(0, 0, 0, 0)),
            ("65535:1:2:3", size(65535, 1, 2, 3)),
        ] {
            assert_eq!(pty_size(OsStr::new(text)).unwrap(), expected);
        }
        for text in [
            "",
            "24",
            "24:",
            ":80",
            "24:80:",
            "24:80:1",
            "24:80:1:",
            "24:80:1:2:3",
            "24:80:1:2:",
            "65536:80",
            "24x80",
            "-1:80",
            "+24:80",
            "024:80",
            " 24:80",
            "24:80 ",
            "24:80\n",
            "0x18:80",
            "a:b",
        ] {
            let error = pty_size(OsStr::new(text)).unwrap_err().to_string();
            assert!(error.contains("hint: give ROWS:COLS"), "{text:?}: {error}");
        }
    }

    #[test]
    fn mappings() {
        let parse = |text: &str, earlier: &[(u32, u32, u32)]| {
            let earlier: Vec<_> = earlier
                .iter()
                .map(|(from, to, range)| IdmapRange {
                    from: *from,
                    to: *to,
                    range: *range,
                })
                .collect();
            idmap(OsStr::new(text), &earlier).map(|map| (map.from, map.to, map.range))
        };
        for (text, expected) in [
            ("0:100000", (0, 100_000, 1)),
            ("0:100000:65536", (0, 100_000, 65536)),
            ("0:0:4294967295", (0, 0, u32::MAX)),
            ("4294967294:0", (u32::MAX - 1, 0, 1)),
        ] {
            assert_eq!(parse(text, &[]).unwrap(), expected);
        }
        for text in [
            "",
            "0",
            "0:",
            ":0",
            "0:0:",
            "0:0:0",
            "0:0:1:",
            "0:0:1:1",
            "-1:0",
            "0:-1",
            "01:0",
            "a:b",
            "0:0:4294967296",
            "4294967296:0",
            "4294967295:0",
            "0:4294967295",
            "1:0:4294967295",
            "0:1:4294967295",
            "0:0:1 ",
        ] {
            let error = parse(text, &[]).unwrap_err().to_string();
            assert!(error.contains("hint: give FROM:TO"), "{text:?}: {error}");
        }
        let earlier = [(10, 100, 10)];
        for (text, fine) in [
            ("9:99", true),
            ("20:110", true),
            ("0:90:10", true),
            ("10:500", false),
            ("19:500", false),
            ("0:500:11", false),
            ("0:500:100", false),
            ("500:100", false),
            ("500:109", false),
            ("500:91:10", false),
            ("500:0:4000", false),
        ] {
            assert_eq!(parse(text, &earlier).is_ok(), fine, "{text}");
        }
        let mut full: Vec<_> = (0..339).map(|n| (n, n, 1)).collect();
        assert!(parse("1000:1000", &full).is_ok());
        full.push((339, 339, 1));
        let error = parse("1000:1000", &full).unwrap_err().to_string();
        assert!(error.contains("more than 340"), "{error}");
    }

    #[test]
    fn user_namespaces() {
        let parse = |text: &str| userns(OsStr::new(text));
        let line = IdRange::new;
        assert_eq!(parse("auto").unwrap(), Userns::Auto);
        for (text, map) in [
            ("0:100000:65536", vec![line(0, 100_000, 65536)]),
            (
                "1:200000:10,0:5:1",
                vec![line(1, 200_000, 10), line(0, 5, 1)],
            ),
            ("0:0:4294967295", vec![line(0, 0, u32::MAX)]),
        ] {
            assert_eq!(parse(text).unwrap(), Userns::Map(map), "{text}");
        }
        for (text, named) in [
            ("0:1", "\"0:1\" is no line"),
            ("0:1:2:3", "\"0:1:2:3\" is no line"),
            ("0:1:2,", "\"\" is no line"),
            ("0:1:2,1:01:1", "\"1:01:1\" is no line"),
            ("0:1:-1", "\"0:1:-1\" is no line"),
            ("0:1:4294967296", "is no line"),
            ("0:1:0", "0:1:0\": the range is empty"),
            ("0:1:4294967295", "ends beyond the largest id"),
            ("0:100:10,9:200:1", "0:100:10 and 9:200:1"),
            ("0:100:10,50:109:1", "0:100:10 and 50:109:1"),
            ("1:100:10", "the map has no id 0"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
            assert!(error.contains("hint: "), "{text}: {error}");
        }
        let map = |lines: u32| {
            let lines = (0..lines).map(|n| format!("{n}:{}:1", 100_000 + n));
            parse(&lines.collect::<Vec<_>>().join(","))
        };
        assert!(map(340).is_ok());
        let error = map(341).unwrap_err().to_string();
        assert!(error.contains("341 lines"), "{error}");
    }

    #[test]
    fn words_and_text() {
        assert_eq!(userns(OsStr::new("host")).unwrap(), Userns::Host);
        assert_eq!(format(OsStr::new("json")).unwrap(), Format::Json);
        let error = userns(OsStr::new("identiy")).unwrap_err().to_string();
        assert!(error.contains("did you mean identity?"), "{error}");
        let error = format(OsStr::new("")).unwrap_err().to_string();
        assert!(error.contains("give text or json"), "{error}");
        assert_eq!(text("NAME", "a b \u{e4}".into()).unwrap(), "a b \u{e4}");
        assert!(text("NAME", "a\nb".into()).is_err());
        assert!(text("NAME", OsStr::from_bytes(b"\xff").into()).is_err());
        assert!(path("--source", OsString::new()).is_err());
    }
}
