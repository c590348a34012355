//! Choices of a fuzzer: a fixed sequence for each seed, so that a finding can be made again.

/// A generator (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() >> 16).unwrap_or(0) % limit.max(1)
    }

    /// True once in `often` times.
    pub fn once_in(&mut self, often: usize) -> bool {
        self.below(often) == 0
    }

    /// One of several, of which there is at least one.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[0]
    }

    /// Changes bytes anywhere: flips, overwrites, cuts out, doubles.
    pub fn scramble(&mut self, data: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if data.is_empty() {
                return;
            }
            let at = self.below(data.len());
            let length = (1 + self.below(16)).min(data.len() - at);
            match self.below(5) {
                0 => data[at] ^= 1 << self.below(8),
                1 => data[at] = self.byte(),
                2 => drop(data.drain(at..at + length)),
                3 => {
                    let piece = data[at..at + length].to_vec();
                    let into = self.below(data.len());
                    data.splice(into..into, piece);
                }
                _ => {
                    if self.once_in(8) {
                        data.truncate(at);
                    } else {
                        data[at] = *self.of(&[0, 1, b'/', b'.', b'0', b'7', 0x7f, 0x80, 0xff]);
                    }
                }
            }
        }
    }
}
