//! Bytes on their way: a queue in one piece of memory that is reused, grows only when told to hold more than its usual
//! size, and shrinks again when it is empty.

/// What a buffer holds without growing, and the most that one read asks for. 64 KiB, the size of a pipe.
pub(super) const USUAL: usize = 64 * 1024;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether none wait.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What waits, oldest first.
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Where the next bytes go: as many as one read should ask for, none when `limit` are waiting already.
    pub(super) fn room(&mut self, limit: usize) -> &mut [u8] {
        let length = self.len();
        let want = limit.saturating_sub(length).min(USUAL);
        if want == 0 {
            return &mut [];
        }
        if self.bytes.len() - self.end < want {
            // Moving is cheap while little waits; a long queue is moved only when half of the memory is free again,
            // so that each byte is moved once on average.
            if self.start > 0 && (length + want <= USUAL || self.start >= length) {
                self.bytes.copy_within(self.start..self.end, 0);
                self.start = 0;
                self.end = length;
            }
            if self.bytes.len() - self.end < want {
                let enough = (self.end + want).max(self.bytes.len() * 2).max(USUAL);
                self.bytes.resize(enough, 0);
            }
        }
        let end = self.end + want;
        self.bytes.get_mut(self.end..end).unwrap_or_default()
    }

    /// The first `count` bytes of the room have been filled.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// The oldest `count` bytes have gone.
    pub(super) fn gone(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Adds a few bytes at the end.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let limit = self.len() + bytes.len();
        if let Some(room) = self.room(limit).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.filled(bytes.len());
        }
    }

    /// Drops everything, and the memory beyond the usual size.
    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        if self.bytes.len() > USUAL {
            self.bytes.truncate(USUAL);
            self.bytes.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_over_any_pattern_of_partial_reads_and_writes() {
        let mut buffer = Buffer::default();
        let (mut written, mut read) = (0_u64, 0_u64);
        let mut seed = 1_u64;
        for round in 0..600 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let limit = if round % 100 < 40 { 1 << 20 } else { USUAL };
            let many = usize::try_from(seed >> 47).unwrap();
            let room = buffer.room(limit);
            let count = room.len().min(many);
            for slot in &mut room[..count] {
                *slot = u8::try_from(written % 251).unwrap();
                written += 1;
            }
            buffer.filled(count);
            assert!(buffer.len() <= limit.max(1 << 20));
            let take = buffer.len().min(many / 2 + round % 5);
            for &byte in &buffer.waiting()[..take] {
                assert_eq!(u64::from(byte), read % 251);
                read += 1;
            }
            buffer.gone(take);
        }
        assert!(written > 1 << 20);
        let rest = u64::try_from(buffer.len()).unwrap();
        assert_eq!(written, read + rest);
    }

    #[test]
    fn usual_traffic_never_grows_it_and_relief_is_given_back() {
        let mut buffer = Buffer::default();
        for _ in 0..1_000 {
            let count = buffer.room(USUAL).len();
            buffer.filled(count);
            buffer.gone(1_000);
        }
        assert_eq!(buffer.bytes.len(), USUAL);
        while buffer.len() < 1 << 22 {
            let count = buffer.room(1 << 22).len();
            buffer.filled(count);
        }
        assert!(buffer.room(1 << 22).is_empty());
        buffer.gone(1 << 22);
        assert!(buffer.bytes.capacity() <= USUAL);
    }
}
