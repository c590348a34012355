//! Lists of processors and memory nodes as the kernel writes them (`0-3,7`), as bits.

/// More processors or nodes than any kernel is built for.
const MAX: usize = 65_536;
const WORD: usize = 64;

/// A bit for each member of a list; none where the text is no list.
pub(super) fn read(text: &str) -> Option<Vec<u64>> {
    let mut bits = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        bits.resize(bits.len().max(last / WORD + 1), 0);
        for member in first..=last {
            *bits.get_mut(member / WORD)? |= 1 << (member % WORD);
        }
    }
    Some(bits)
}

fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&value| digits && value < MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers() {
        for (text, bits) in [
            ("0", vec![1]),
            ("0-3,7", vec![0b1000_1111]),
            ("63-64, 1", vec![1 << 63 | 2, 1]),
            ("65535", {
                let mut last = vec![0; 1024];
                last[1023] = 1 << 63;
                last
            }),
        ] {
            assert_eq!(read(text), Some(bits), "{text}");
        }
        for text in [
            "", ",", "1,", "-1", "1-", "3-1", "a", "0x1", "+1", "65536", "1--2",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
