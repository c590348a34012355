//! Reads what tar stores as text: extended header records (pax(1), "pax Extended Header") and numeric header fields.
//!
//! Records are split by their stated length, never at newlines: a file name or `security.capability` may contain one.

use std::collections::BTreeMap;

/// The keyword prefix under which extended attributes are stored, as star and GNU tar do.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// How many records a header may have. Linux lists no more attributes of a file than fit 64 KiB.
const RECORDS_MAX: usize = 1 << 14;

/// The records of one extended header, in their order; a keyword may come more than once. What is kept of each is where it
/// is in the text: many are only a few bytes long.
#[derive(Debug, Default, Clone)]
pub(super) struct Records {
    text: Vec<u8>,
    found: Vec<Record>,
}

/// Where a record is: from the start of its keyword to the end of its value.
#[derive(Debug, Clone)]
struct Record {
    start: usize,
    equals: usize,
    end: usize,
}

impl Records {
    /// Splits an extended header's data into its records.
    pub(super) fn parse(text: Vec<u8>) -> Result<Self, &'static str> {
        const MALFORMED: &str = "an extended header has a malformed record";
        let mut found = Vec::new();
        let mut at = 0;
        // Some writers fill the block up with NUL bytes and count them in.
        while text.get(at).is_some_and(|byte| *byte != 0) {
            let data = &text[at..];
            let space = data
                .iter()
                .take(20)
                .position(|byte| *byte == b' ')
                .ok_or(MALFORMED)?;
            let length = decimal(&data[..space])
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(MALFORMED)?;
            let record = data.get(space + 1..length).ok_or(MALFORMED)?;
            let record = record.strip_suffix(b"\n").ok_or(MALFORMED)?;
            let equals = record
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or(MALFORMED)?;
            if found.len() >= RECORDS_MAX {
                return Err("an extended header has more than 16384 records");
            }
            let start = at + space + 1;
            found.push(Record {
                start,
                equals: start + equals,
                end: start + record.len(),
            });
            at += length;
        }
        Ok(Self { text, found })
    }

    /// The value of `key`: the last one wins, and an empty one means that the header's own field counts.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self
            .iter()
            .rev()
            .find(|(name, _)| *name == key.as_bytes())?;
        (!value.is_empty()).then_some(value)
    }

    /// Every record, in the archive's order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.found.iter().map(|record| {
            (
                &self.text[record.start..record.equals],
                &self.text[record.equals + 1..record.end],
            )
        })
    }

    /// Adds the records of a later header, which take precedence.
    pub(super) fn extend(&mut self, later: Self) {
        if self.found.is_empty() {
            *self = later;
            return;
        }
        let shift = self.text.len();
        self.text.extend(later.text);
        self.found
            .extend(later.found.into_iter().map(|record| Record {
                start: record.start + shift,
                equals: record.equals + shift,
                end: record.end + shift,
            }));
    }

    /// The extended attributes: names and values, the last of each name, in the order of the names.
    ///
    /// GNU tar writes `=` and `%` in a name as `%3D` and `%25`, because `=` ends the keyword.
    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let found: BTreeMap<Vec<u8>, &[u8]> = self
            .iter()
            .filter_map(|(key, value)| Some((unescape(key.strip_prefix(XATTR)?), value)))
            .collect();
        let own = |(name, value): (Vec<u8>, &[u8])| (name, value.to_vec());
        found.into_iter().map(own).collect()
    }
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, tail),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

/// A decimal number without sign or blanks.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time as `[-]seconds[.fraction]`, as seconds since the epoch and nanoseconds in 0..1_000_000_000.
///
/// Digits beyond the ninth are cut off towards the past, so that a file never becomes newer than it was.
pub(super) fn time(text: &[u8]) -> Option<(i64, i64)> {
    let (negative, text) = text
        .strip_prefix(b"-")
        .map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = (0..9).map(|i| i64::from(fraction.get(i).map_or(0, |digit| digit - b'0')));
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + digit);
    let more = fraction.iter().skip(9).any(|digit| *digit != b'0');
    if !negative {
        return Some((seconds, nanoseconds));
    }
    let below = nanoseconds + i64::from(more);
    Some(if below == 0 {
        (-seconds, 0)
    } else {
        (-seconds - 1, 1_000_000_000 - below)
    })
}

/// A numeric header field: octal digits among blanks, or base 256 when the first bit is set; blank counts as 0.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first()? {
        // Two's complement, big endian, without the marker bit: 0x80 leads a positive number, 0xff a negative one.
        0x80 => bytes[1..].iter().try_fold(0i64, |sum, byte| {
            sum.checked_mul(256)?.checked_add(i64::from(*byte))
        }),
        0xff => bytes[1..].iter().try_fold(-1i64, |sum, byte| {
            sum.checked_mul(256)?.checked_add(i64::from(*byte))
        }),
        _ => {
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(bytes.len());
            let digits = bytes[..end].trim_ascii();
            digits.iter().try_fold(0i64, |sum, byte| match byte {
                b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
                _ => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Records, &'static str> {
        Records::parse(text.to_vec())
    }

    #[test]
    fn there_are_not_more_records_than_a_file_can_have() {
        assert!(parse(&b"5 a=\n".repeat(RECORDS_MAX)).is_ok());
        assert!(parse(&b"5 a=\n".repeat(RECORDS_MAX + 1)).is_err());
    }

    #[test]
    fn records_are_cut_by_length_not_by_newline() {
        let records =
            parse(b"12 path=a\nb\n8 uid=7\n34 SCHILY.xattr.user.a%3Db%25=\0\n=\n").unwrap();
        assert_eq!(records.get("path"), Some(&b"a\nb"[..]));
        assert_eq!(records.get("uid"), Some(&b"7"[..]));
        assert_eq!(
            records.xattrs(),
            [(b"user.a=b%".to_vec(), b"\0\n=".to_vec())]
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5 a=b"[..],
            b"99 a=b\n",
            b"x a=b\n",
            b"6 abc\n",
            b"0 a=b\n",
            b"2 a=b\n",
            b"-6 a=b\n",
            b"6a=b\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_last_record_wins_and_an_empty_one_deletes() {
        let records = parse(b"11 path=ab\n9 path=c\n").unwrap();
        assert_eq!(records.get("path"), Some(&b"c"[..]));
        assert_eq!(parse(b"11 path=ab\n8 path=\n").unwrap().get("path"), None);
        let mut both = records;
        both.extend(parse(b"8 uid=7\n9 path=d\n").unwrap());
        assert_eq!(both.get("path"), Some(&b"d"[..]));
        assert_eq!(both.get("uid"), Some(&b"7"[..]));
        assert_eq!(both.iter().count(), 4);
    }

    #[test]
    fn times_keep_nanoseconds_on_both_sides_of_the_epoch() {
        assert_eq!(time(b"12.000000005"), Some((12, 5)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"1.9999999999"), Some((1, 999_999_999)));
        assert_eq!(time(b"-0.0000000001"), Some((-1, 999_999_999)));
        for bad in [&b""[..], b"x", b"1.x", b"--1", b"1e3"] {
            assert_eq!(time(bad), None);
        }
    }

    #[test]
    fn fields_are_octal_or_base_256() {
        assert_eq!(field(b"0000644\0"), Some(0o644));
        assert_eq!(field(b"   644 \0"), Some(0o644));
        assert_eq!(field(b"\0\0\0\0"), Some(0));
        assert_eq!(field(b"\x80\0\0\x01\0"), Some(256));
        assert_eq!(field(b"\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(field(b"08\0"), None);
        assert_eq!(field(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
