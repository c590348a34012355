//! Reads the numbers that people and files write for ids and sizes, in the one grammar that leaves nothing to guess:
//! `0`, or a digit from 1 to 9 and more digits. No sign, no space, no leading zero, no other base.
//!
//! An id that is read too kindly becomes another id: overflow, "01", "0x1" and "+1" have each made somebody root.

/// The value of a strict decimal number, or `None` where the text is anything else or does not fit in 32 bits.
pub(crate) fn decimal(text: &[u8]) -> Option<u32> {
    match text {
        [] => None,
        [b'0'] => Some(0),
        [b'0', ..] => None,
        digits => digits.iter().try_fold(0_u32, |value, byte| {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
            value.checked_mul(10)?.checked_add(u32::from(digit))
        }),
    }
}

/// A user or group id: like [`decimal`], but 4294967295 is none, because the kernel reads `(uid_t) -1` as "no change".
pub(crate) fn id(text: &[u8]) -> Option<u32> {
    decimal(text).filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_decimal() {
        for (text, value) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("1001", Some(1001)),
            ("2147483648", Some(2_147_483_648)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("42949672960", None),
            ("99999999999999999999999", None),
            ("", None),
            ("00", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("1 ", None),
            ("1\n", None),
            ("0x1", None),
            ("1e3", None),
            ("\u{661}", None),
            ("1/", None),
            ("1:", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), value, "{text:?}");
        }
        assert_eq!(id(b"4294967294"), Some(4_294_967_294));
        assert_eq!(id(b"4294967295"), None);
    }

    #[test]
    fn every_number_is_read_as_it_is_printed() {
        let mut number = 1_u64;
        while number <= u64::from(u32::MAX) {
            for near in [number - 1, number, number + 1] {
                let expected = u32::try_from(near).ok();
                assert_eq!(decimal(near.to_string().as_bytes()), expected);
            }
            number = number * 3 + 1;
        }
    }
}
