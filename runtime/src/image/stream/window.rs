//! How much memory a stream says that decompressing it takes, from its first header.
//!
//! Only the first: a later part may say more, which the decoders themselves then refuse.

/// What programs that make many frames of one stream take for those that are not small, in bytes.
const USUAL: u64 = 8 << 20;

/// The window that is to be expected of a whole stream. A first frame that is all content says nothing of the next ones:
/// pzstd and zstd:chunked begin with small ones.
pub(super) fn zstd_expected(start: &[u8]) -> Option<u64> {
    const SINGLE_SEGMENT: u8 = 0x20;
    let window = zstd_window(start)?;
    let is_all_content =
        matches!(start, [_, _, _, _, descriptor, ..] if descriptor & SINGLE_SEGMENT != 0);
    Some(match start {
        [0x28, ..] if !is_all_content => window,
        _ => window.max(USUAL),
    })
}

/// The window in the header of the first frame that is not skipped (RFC 8878, 3.1.1.1).
pub(super) fn zstd_window(mut start: &[u8]) -> Option<u64> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    };
    while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, rest @ ..] = start {
        let length = usize::try_from(number(rest.get(..4)?)).ok()?;
        start = rest.get(4..)?.get(length..)?;
    }
    let (descriptor, rest) = start
        .strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?
        .split_first()?;
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1 << (10 + u32::from(window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // Without a window the content itself is it: its size follows that of the dictionary.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(dictionary..)?;
    Some(match descriptor >> 6 {
        0 => number(size.get(..1)?),
        1 => number(size.get(..2)?) + 256,
        2 => number(size.get(..4)?),
        _ => number(size.get(..8)?),
    })
}

/// The dictionary in the header of the first block (the xz file format, 3.1 and 5.3.1).
pub(super) fn xz_dictionary(start: &[u8]) -> Option<u64> {
    fn number(rest: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    const LZMA2: u64 = 0x21;
    let (size, rest) = start.get(12..)?.split_first()?;
    if *size == 0 {
        // The index comes at once: there is no block.
        return Some(0);
    }
    let (flags, mut rest) = rest.split_first()?;
    for present in [0x40, 0x80] {
        if flags & present != 0 {
            number(&mut rest)?;
        }
    }
    for _ in 0..=(flags & 3) {
        let (id, length) = (number(&mut rest)?, number(&mut rest)?);
        let properties = rest.get(..usize::try_from(length).ok()?)?;
        rest = rest.get(properties.len()..)?;
        if let (LZMA2, [bits]) = (id, properties) {
            return match bits & 0x3f {
                40 => Some(u32::MAX.into()),
                bits @ 0..40 => Some(u64::from(2 | (bits & 1)) << (bits / 2 + 11)),
                _ => None,
            };
        }
    }
    None
}
